"""The report shows the contents of a workdir, is self-contained, and rejects a folder without a run."""

import html.parser
import io
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest
from PIL import Image

from ssl_jax import report
from ssl_jax.errors import UserError
from ssl_jax.monitor import summary
from ssl_jax.report import charts
from ssl_jax.report.__main__ import parser

START = {"raw_knn_top1": 82.6, "init_knn_top1": 72.3, "raw_linear_top1": 83.5, "init_linear_top1": 70.8}
ROOT = pathlib.Path(__file__).parents[2]


class Page(html.parser.HTMLParser):
    """Collects what a page shows and what it would fetch; fails on tags that do not match."""

    VOID = ("meta", "img", "br", "path", "use")

    def __init__(self, path):
        super().__init__()
        self.open, self.text, self.fetched, self.tags = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
                self.fetched.append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data.strip())

    def __contains__(self, words):
        return words in " ".join(self.text)


def png(color):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), color).save(buffer, "PNG")
    return buffer.getvalue()


def make(workdir, rate=0.2, knn=84.1, labelled=True, steps=100, crowding=0.1):
    workdir.mkdir()
    config = {
        "batch_size": 64,
        "data": {"source": "folder:/x<y>"},
        "method": {"name": "byol"},
        "optimizer": {"rate": rate},
    }
    rows = [{"step": 0, **START}] if labelled else []
    for step in range(10, steps + 1, 10):
        rows.append(
            {
                "step": step,
                "loss": 5 / step,
                "projection_std": 0.9,
                "projection_crowding": crowding,
                "images_per_second": 310.0,
                "spice": step,
            }
        )
        if labelled:
            rows[-1] |= {"knn_top1": knn * step / steps}
    if labelled:
        rows.append({"step": steps, "linear_top1": knn + 1})
    (workdir / "config.json").write_text(json.dumps(config))
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return workdir


def charted(page):
    return page.tags.count("svg")


def test_one_run(tmp_path):
    run = make(tmp_path / "a")
    (run / "environment.json").write_text(json.dumps({"python": "3.11.7", "packages": {"jax": "0.10.2"}}))
    (run / "views.png").write_bytes(png("red"))
    (run / "neighbours.png").write_bytes(png("blue"))
    assert report.write([run]) == run / "report.html"
    page = Page(run / "report.html")
    for words in ("byol", "84.1", "72.3", "82.6", "85.1", "70.8", "83.5", "310", "100 steps", "folder:/x<y>"):
        assert words in page
    assert "k-NN top-1 of 84.1 %: 11.8 points above random initialisation and 1.5 points above raw pixels." in page
    assert "raw pixels 82.6" in page and "step 0 72.3" in page  # the lines in the chart
    assert "No sign of collapse." in page
    for words in ("optimizer.rate", "packages.jax", "0.10.2", "spice", "Nearest neighbours of test images"):
        assert words in page
    assert charted(page) == len(
        {"loss", "projection_std", "projection_crowding", "images_per_second", "spice", "knn_top1"}
    )
    assert page.tags.count("img") == 2


def test_a_damaged_line_costs_only_what_it_held(tmp_path):
    run = make(tmp_path / "a")
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join([b"\xff" + lines[0], *lines[1:]]))  # the baselines
    page = Page(report.write([run]))
    assert "84.1" in page and "85.1" in page and "72.3" not in page
    assert re.search(r"trained +84\.1 +85\.1\nrandom initialisation +- +-\n", summary(run))


def test_names_that_are_no_utf8(tmp_path):
    run = make(tmp_path / os.fsdecode(b"caf\xe9"))
    other = make(tmp_path / os.fsdecode(b"th\xe9"))
    assert "byol" in Page(report.write([run]))
    page = Page(report.write([run, other], tmp_path / "both.html"))
    assert "caf?" in page and "th?" in page


def test_it_fetches_nothing(tmp_path):
    run = make(tmp_path / "a")
    (run / "views.png").write_bytes(png("red"))
    page = Page(report.write([run]))
    assert [target[:5] for target in page.fetched if not target.startswith("#")] == ["data:"]
    assert not re.search(r"url\((?!#)|@import|<script|<link", (run / "report.html").read_text(encoding="utf-8"))


def test_worse_than_raw_pixels_is_said(tmp_path):
    run = make(tmp_path / "a", knn=80.0)
    page = Page(report.write([run]))
    assert "7.7 points above random initialisation and 2.6 points below raw pixels" in page
    assert '<p class="say warn">' in (run / "report.html").read_text(encoding="utf-8")


def test_collapse_and_divergence_are_said(tmp_path):
    run = make(tmp_path / "a", crowding=0.99)
    with open(run / "metrics.jsonl", "a") as rows:
        rows.write('{"step": 110, "loss": null}\n')
    page = Page(report.write([run]))
    assert "possible collapse" in page and "not finite at step 110" in page and "No sign" not in page


def test_several_runs_are_compared(tmp_path):
    runs = [make(tmp_path / "a"), make(tmp_path / "b", rate=0.3, knn=81.0), make(tmp_path / "c", labelled=False)]
    page = Page(report.write(runs, tmp_path / "all.html"))
    assert not (runs[0] / "report.html").exists()
    assert charted(page) == 6
    config = (tmp_path / "all.html").read_text(encoding="utf-8").split("<h2>Config</h2>")[1].split("<details>")
    assert "optimizer.rate" in config[0] and "batch_size" not in config[0] and "batch_size" in config[1]
    assert "84.1" in page and "81.0" in page


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    runs = []
    for parent in ("x", "y"):
        (tmp_path / parent).mkdir()
        runs.append(make(tmp_path / parent / "run"))
    path = report.write(runs)
    assert str(runs[0]) in Page(path) and str(runs[1]) in Page(path)
    assert path == runs[0] / "comparison.html"  # the report of the run itself is kept


def test_without_labels(tmp_path):
    page = Page(report.write([make(tmp_path / "a", labelled=False)]))
    assert "k-NN" not in page and "Loss" in page


def test_a_run_that_has_just_begun(tmp_path):
    run = make(tmp_path / "a", labelled=False, steps=0)
    assert "No metrics yet." in Page(report.write([run]))
    (run / "metrics.jsonl").write_text('{"step": 10, "loss": 1.0}\n{"step": 20, "lo')
    assert "10 steps" in Page(report.write([run]))


def test_every_run_has_its_line_in_a_chart():
    drawn = charts.curves([([0, 1], [1.0, 2.0]), ([], []), ([0, 1], [3.0, 1.0])], {"limit": 2.5})
    assert charts.color(0) in drawn and charts.color(2) in drawn and "limit 2.5" in drawn
    assert drawn.startswith("<svg")


def damaged(path):
    make(path)
    (path / "config.json").write_text("{")


def without(name):
    def spoil(path):
        make(path)
        (path / name).unlink()

    return spoil


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: None, "is not a directory"),
        (lambda path: path.mkdir(), "there is no run in .*: it has no config.json"),
        (without("metrics.jsonl"), "it has no metrics.jsonl"),
        (damaged, "config.json is damaged"),
    ],
)
def test_what_is_no_run_is_one_error_and_nothing_is_written(tmp_path, spoil, words):
    good, bad = make(tmp_path / "good"), tmp_path / "bad"
    spoil(bad)
    with pytest.raises(UserError, match=words):
        report.write([good, bad])
    assert not (good / "report.html").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*--out"):
        report.write([make(tmp_path / "a")], tmp_path / "missing" / "report.html")


def command(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "ssl_jax.report", *arguments], capture_output=True, text=True, env=environment
    )


def test_the_command(tmp_path):
    run = make(tmp_path / "a")
    done = command(f"--workdir={run}")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"report: {run / 'report.html'}\n", "")
    assert (run / "report.html").exists()


def test_the_command_refuses_in_one_line(tmp_path):
    done = command(f"--workdir={tmp_path / 'missing'}")
    assert done.returncode == 2
    assert re.fullmatch(r"error: [^\n]+ is not a directory[^\n]+\n", done.stderr)


@pytest.mark.parametrize("arguments", [[], ["--wrokdir=x"]])
def test_a_wrong_option_is_a_mistake_of_the_users(arguments):
    with pytest.raises(UserError, match="--workdir"):
        parser().parse(arguments)


def test_features_at_several_sizes_have_charts_and_a_table(tmp_path):
    run = make(tmp_path / "byol")
    assert "Image sizes" not in report.write([run]).read_text()
    (run / "evaluations").mkdir()
    rows = [
        {"size": size, "knn_top1": top1, "fixed_bank_top1": top1 - 1, "agreement": top1 + 10, "cosine": top1 / 100}
        | {"fixed_linear_top1": top1 - 2, "fixres_top1": top1 - 3}
        for size, top1 in ((16, 51.24), (32, 80.0))
    ]
    (run / "evaluations" / "sizes.json").write_text(json.dumps({"rows": rows}))
    text = report.write([run]).read_text()
    page = Page(run / "report.html")
    assert "image size, pixels" in text
    assert all(
        words in page for words in ("Image sizes", "byol, 16 px", "51.2", "50.2", "61.2", "0.512", "49.2", "48.2")
    )


WAYS = ("image_to_text", "text_to_image")


def test_matching_of_images_and_texts_is_shown_beside_chance(tmp_path):
    run = make(tmp_path / "clip")
    assert "Images and texts" not in report.write([run]).read_text()
    (run / "evaluations").mkdir()
    recalls = {f"{way}_recall{k}": 10.0 * k + i for k in (1, 5, 10) for i, way in enumerate(WAYS)}
    chances = {f"{way}_chance{k}": 0.1 * k for k in (1, 5, 10) for way in WAYS}
    result = recalls | chances | {"images": 100, "captions": 50}
    (run / "evaluations" / "zero_shot.json").write_text(json.dumps({"top1": 61.24, "chance": 10.0, "images": 100}))
    path = run / "evaluations" / "image_text_retrieval.json"
    path.write_text(json.dumps({"other_words": result}))
    report.write([run])
    page = Page(run / "report.html")
    for words in ("Images and texts", "clip, other words", "61.2 (10.0)", "10.0 (0.1)", "11.0 (0.1)", "101.0 (1.0)"):
        assert words in page
    path.write_text(json.dumps(result))  # of captions of one kind
    report.write([run])
    assert "51.0 (0.5)" in Page(run / "report.html") and "other words" not in Page(run / "report.html")
