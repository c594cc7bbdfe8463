"""The notebook runs from top to bottom, and shows what it promises."""

import contextlib
import json
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "launch" / "colab.ipynb"
TINY = (
    "--config.steps=4 --config.batch_size=32 --config.log.every=1 --config.evaluate.bank=100 --config.evaluate.test=60 "
    "--config.network.encoder.depth=1 --config.network.encoder.dim=24 "
    "--config.augment.jitter=0 --config.augment.gray=0 --config.augment.blur=0 --config.augment.solarize=0"
)


def cells():
    return json.loads(NOTEBOOK.read_text())["cells"]


def test_it_is_committed_without_outputs():
    code = [cell for cell in cells() if cell["cell_type"] == "code"]
    assert not [cell for cell in code if cell["outputs"] or cell["execution_count"]]


def test_its_lines_are_short():
    assert not [line for cell in cells() for line in cell["source"] if len(line.rstrip("\n")) > 120]


def test_it_installs_the_clone_that_it_is_opened_in_or_asks_for_an_address(tmp_path, monkeypatch):
    settings, install = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"][:2]
    installed = []
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "grain" else name)
    monkeypatch.setattr("subprocess.run", lambda line, check: installed.append(line[-1]))

    def begin(place, **changes):
        monkeypatch.chdir(place)
        names: dict = {}
        exec(settings, names)
        exec(install, names | changes)

    begin(ROOT)
    begin(ROOT / "launch")
    with pytest.raises(RuntimeError, match="set REPOSITORY above to the address"):
        begin(tmp_path)
    begin(tmp_path, REPOSITORY="https://example.com/ssl_jax")
    assert installed == [str(ROOT), str(ROOT), "git+https://example.com/ssl_jax"]


@pytest.mark.parametrize(("code", "error"), [(75, None), (2, RuntimeError), (143, KeyboardInterrupt)])
def test_an_interrupted_run_that_has_saved_is_no_error(code, error, tmp_path, monkeypatch):
    settings, install = ["".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"][:2]
    command = tmp_path / "python"
    command.write_text(f"#!/bin/bash\ntrap 'echo asked; exit {code}' TERM\necho ready\nwhile :; do sleep 0.05; done\n")
    if code == 2:
        command.write_text("#!/bin/bash\nexit 2\n")
    command.chmod(0o755)
    shown = []

    def show(text, end=""):
        shown.append(text)
        if text == "ready\n":
            raise KeyboardInterrupt

    names: dict = {"print": show}
    monkeypatch.chdir(ROOT)
    exec(settings, names)
    exec(install, names)
    monkeypatch.setattr("sys.executable", str(command))
    with pytest.raises(error) if error else contextlib.nullcontext():
        names["run"]("main")
    if not error:
        assert "asked" in shown[1] and shown[-1].startswith("stopped, and saved")


@pytest.mark.filterwarnings("ignore")  # of the notebook's own machinery, which comes from another project
def test_it_runs_from_top_to_bottom(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    nbformat = pytest.importorskip("nbformat", reason="pip install nbclient ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("SETTINGS", TINY)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".pytest_cache" / "jax"))
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=1"))
    notebook = nbformat.read(NOTEBOOK, 4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 5  # views, curves, neighbours, attention, components
    assert "step 4/4" in "".join(output.get("text", "") for output in outputs)
    assert outputs[-1]["data"]["text/plain"] == "(1, 24)"
    assert (tmp_path / "runs/notebook/report.html").exists()
