"""Strict JAX settings, which turn silent mistakes into errors, and eight virtual CPU devices."""

import http.server
import os
import pathlib
import signal
import threading

# In the background of a shell Ctrl-C is ignored, and runs started here would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["JAX_PLATFORMS"] = "cpu"
# Test programs are tiny and run a few times: compiling them takes longer than running them. Without optimisation, the
# emitters of fused operations take two thirds of that.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
)

import jax
import pytest

HERE = pathlib.Path(__file__).parent

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(HERE.parent / ".pytest_cache" / "jax"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def pytest_addoption(parser):
    parser.addoption(
        "--golden", default=str(HERE / "golden"), help="a directory with golden cases and their manifest.json"
    )


def pytest_terminal_summary(terminalreporter, config):
    from test_golden import coverage

    terminalreporter.write_line(coverage(config.getoption("--golden")))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory):
    """The workdir of a run, for the methods that learn from one."""
    import toy

    from ssl_jax.config import load

    workdir = tmp_path_factory.mktemp("teacher")
    config = str(HERE.parent / "configs" / "byol.py")
    toy.write_run(workdir, load(config, [("network.encoder.width", "0.125")]))
    return workdir


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def metadata():
    """Starts metadata servers as Google's machines have one, with values by name; returns their address."""
    servers = []

    def start(values, flavor="Google"):
        class Answer(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                folder, _, name = self.path.rpartition("/")
                known = folder == "/computeMetadata/v1/instance" and self.headers["Metadata-Flavor"] == "Google"
                self.send_response(200 if known and name in values else 404)
                self.send_header("Metadata-Flavor", flavor)
                self.end_headers()
                self.wfile.write(values.get(name, "").encode())

            def log_message(self, *_):
                pass

        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
