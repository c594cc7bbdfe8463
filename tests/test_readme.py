"""The documentation runs: its samples, its config keys, its tables."""

import pathlib
import re
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_methods import overrides, read

from ssl_jax import methods
from ssl_jax.config import load, recipes
from ssl_jax.schema import defaults

ROOT = pathlib.Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "ssl_jax/methods/README.md"]


def samples(text):
    """The Python blocks of a page."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def test_the_samples_of_the_readme_run(tmp_path):
    embed, parts, method = samples(README)
    toy.random_run(tmp_path / "run", read("simclr.py", overrides("simclr"), None))
    names: dict = {"images": [np.zeros((20, 30, 3), np.uint8)] * 2}
    exec(embed.replace("runs/photos", str(tmp_path / "run")), names)
    assert names["features"].shape[0] == 2 and names["features"].ndim == 2

    names = {}
    exec(parts, names)
    assert names["outputs"].projection.shape == (8, 2, 128)
    assert jnp.isfinite(names["loss"])

    names = {"__name__": "readme"}
    exec(method, names)
    theirs, ours = (cls(toy.network(), temperature=0.3) for cls in (names["SimCLR"], methods.METHODS["simclr"]))
    params, state = theirs.init(jax.random.key(0), toy.batch())
    found, expected = (toy.loss(one, params, state, toy.batch(1)) for one in (theirs, ours))
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
    np.testing.assert_array_equal(found.features, expected.features)


def test_the_example_of_a_method_quotes_its_code():
    (sample,) = samples((ROOT / "ssl_jax/methods/README.md").read_text())
    code = textwrap.dedent((ROOT / "ssl_jax/methods/nnclr.py").read_text())
    assert textwrap.indent(sample, " " * 8) in code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text())
    assert not [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]


def test_the_table_of_methods_has_a_row_for_every_config():
    rows = re.findall(r"^\| .* \| `(\w+)\.py` \|", README, re.MULTILINE)
    assert sorted(rows) == sorted(pathlib.Path(path).stem for path in recipes(ROOT / "configs"))


def test_the_figures_of_the_table_of_methods_are_those_of_the_benchmarks():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    titles = "The embedded images", "CIFAR-10", "Images and texts"
    embedded, cifar10, captions = (page.split(f"\n## {title}")[1].split("\n## ")[0] for title in titles)
    for config, first, second in re.findall(r"^\|.*\| `(\w+)\.py` \|.*\| ([^|]+) \| ([^|]+) \|$", README, re.MULTILINE):
        for cell, part in ((first, embedded), (second, cifar10)):
            row = rf"^\| {config} \|.* {re.escape(cell.replace(' / ', ' | '))} \|"
            alone = rf"^\| {config} \|.* {re.escape(cell.removesuffix(' / -'))} \| [\d.]+ \|$"
            assert cell == "-" or re.search(row, part, re.MULTILINE) or re.search(alone, captions, re.MULTILINE), config


def test_config_keys_of_the_readme_exist():
    keys = set(re.findall(r"--config\.([\w.]+)=", README)) - {"key"}
    assert len(keys) > 3
    assert keys <= set(defaults(load("configs/simclr.py")))
