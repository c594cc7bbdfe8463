"""The recipes and commands of the package: from any folder, copied, and installed from a wheel."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from test_methods import CONFIGS, ROOT

import ssl_jax.__main__ as front
from ssl_jax.config import find, load
from ssl_jax.errors import UserError


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, to which the process goes."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def copy(folder, *names):
    """Copies recipes into a folder."""
    folder.mkdir()
    for name in names:
        shutil.copy(ROOT / "configs" / f"{name}.py", folder)


@pytest.mark.parametrize("name", ["byol", "byol.py", "configs/byol.py", "byol:cifar10", "./byol.py:cifar10"])
def test_a_recipe_of_the_package_is_found_from_any_folder(elsewhere, name):
    assert load(name) == load(str(ROOT / "configs" / f"byol.py{name.partition(':')[1]}{name.partition(':')[2]}"))


def test_a_file_of_one_s_own_comes_before_a_recipe_of_its_name(elsewhere):
    copy(elsewhere / "configs", "byol")
    (elsewhere / "byol").write_text("a log of byol")  # no config
    assert [find(name).parent.name for name in ("configs/byol.py", "byol.py", "byol")] == ["configs"] * 3
    assert not find("configs/byol.py").is_absolute()
    assert find("byol.py").parent == find("byol").parent == ROOT / "configs"


def test_a_copied_recipe_imports_from_its_folder_and_then_from_the_package(elsewhere):
    copy(elsewhere / "mine", "byol")
    before = sys.modules.copy()
    assert load("mine/byol.py") == load("byol")
    copy(elsewhere / "own", "byol", "base")
    base = elsewhere / "own" / "base.py"
    base.write_text(base.read_text().replace('"batch_size": 64', '"batch_size": 48'))
    assert [load(name).batch_size for name in ("own/byol.py", "mine/byol.py")] == [48, 64]
    names = [name for name in {**before, **sys.modules} if name.startswith("configs")]
    assert all(sys.modules.get(name) is before.get(name) for name in names)  # a package `configs` of others stays


@pytest.mark.parametrize(
    ("name", "hint"), [("byoll", "did you mean 'byol'"), ("configs/byoll.py", "'byol'"), ("other/byol.py", "'byol'")]
)
def test_a_recipe_that_does_not_exist(elsewhere, name, hint):
    with pytest.raises(UserError, match=rf"there is no config file '{name}'; .*{hint}"):
        load(name)


def test_a_command_is_called_by_its_name(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ssl-jax", "report", "--help"])
    with pytest.raises(SystemExit, match="0"):
        front.main()
    assert "ssl_jax.report" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["ssl-jax"])
    front.main()
    assert {"train", "preview", "see", "report"} <= set(capsys.readouterr().out.replace(",", "").split())
    monkeypatch.setattr("os._exit", sys.exit)
    monkeypatch.setattr("sys.argv", ["ssl-jax", "trian"])
    with pytest.raises(SystemExit, match="2"):
        front.main()
    assert "there is no command 'trian'; did you mean 'train'?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which a wheel of the sources is installed, without what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    for name in ("ssl_jax", "configs"):
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    build = "import setuptools.build_meta as b; b.build_wheel('..')"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "source", check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    options = ["--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    line = [sys.executable, "-m", "pip", "install", *options, f"--target={folder / 'target'}", str(wheel)]
    subprocess.run(line, check=True, capture_output=True)
    return wheel, folder / "target"


def test_a_wheel_holds_every_module_and_recipe(installed):
    with zipfile.ZipFile(installed[0]) as wheel:
        held = set(wheel.namelist())
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "ssl_jax").rglob("*.py")}
    assert modules | {f"ssl_jax/configs/{name}.py" for name in [*CONFIGS, "base"]} <= held
    assert {name.partition("/")[0].partition("-")[0] for name in held} == {"ssl_jax"}  # nothing else is installed


def test_an_installed_command_finds_recipe_and_preset(installed, elsewhere):
    _, target = installed
    environment = os.environ | {"PYTHONPATH": str(target)}
    line = [target / "bin" / "ssl-jax", "train", "--config=byol:cifar10", f"--config.data.dir={elsewhere}"]
    process = subprocess.run(line, env=environment, cwd=elsewhere, text=True, capture_output=True)
    assert process.returncode == 2, process
    assert "tfds:cifar10 is not prepared" in process.stderr
    assert process.stderr.count("\n") == 1
