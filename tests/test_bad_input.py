"""Bad input: each mistake gets one sentence that says what is wrong and what to do, and nothing is written."""

import json
import os
import pathlib
import re
import shutil

import jax
import pytest
from PIL import Image
from test_methods import ROOT

from ssl_jax import main
from ssl_jax.errors import UserError


@pytest.fixture
def workdir(tmp_path):
    return tmp_path / "run"


@pytest.fixture
def start(workdir, monkeypatch):
    """Starts the command; returns the workdir of the run it would train."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setattr("ssl_jax.train.train", lambda run, workdir, start: claimed.append(workdir))
    claimed: list[pathlib.Path] = []

    def run(*changes, config="byol.py", at=workdir, arguments=()):
        changes = [f"--config.{change}" for change in changes]
        line = [f"--config={ROOT / 'configs' / config}", f"--workdir={at}", *changes, *arguments]
        main.main(main.parser().parse(line))
        return claimed.pop()

    return run


@pytest.fixture
def complaint(start, workdir):
    """Runs the command, which must fail and leave no workdir; returns its error."""

    def run(*changes, **options):
        with pytest.raises(UserError) as caught:
            start(*changes, **options)
        assert not workdir.exists()
        return str(caught.value)

    return run


@pytest.fixture
def images(tmp_path):
    """Makes a folder of `count` images."""

    def make(count, content=None):
        folder = tmp_path / f"images{count}"
        folder.mkdir()
        for i in range(count):
            Image.new("RGB", (20, 20)).save(folder / f"{i}.png")
            if content is not None:
                (folder / f"{i}.png").write_bytes(content)
        return f"folder:{folder}"

    return make


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("byoll.py", r"there is no config file '.*byoll\.py'; did you mean '.*byol\.py'\?"),
        ("base.py", r"base\.py defines no get_config\(preset\) that names a method; start from a recipe"),
        ("byol.py:imagnet", r"there is no preset 'imagnet'; did you mean 'imagenet'\?"),
        ("barlow_twins.py:tiny", r"there is no preset 'tiny'; valid: cifar10, imagenet, photos$"),
        ("byol.py:imagenet_w2", r"there is no preset 'imagenet_w2'; did you mean 'imagenet'\?"),
        ("swav.py:imagenet_w3", r"there is no preset 'imagenet_w3'; did you mean 'imagenet_w5'\?"),
    ],
)
def test_config_files_and_presets(complaint, config, sentence):
    assert re.search(sentence, complaint(config=config))


VALUES = [
    ("batchsize=8", "unknown config key 'batchsize'; did you mean 'batch_size'?"),
    ("data.sorce=x", "unknown config key 'data.sorce'; did you mean 'data.source'?"),
    ("learning_rate=1", "did you mean 'optimizer.learning_rate'?"),
    ("seed.x=1", "unknown config key 'seed.x'"),
    (
        "method.decay=0.9",
        "is a group of keys; set one of method.decay.duration, method.decay.end, method.decay.",
    ),
    ("network.encoder=resnet18", "'network.encoder' is a group of keys; write network.encoder.name=resnet18"),
    ("optimizer.milestones=(0.5)", "optimizer.milestones is (0.5,); set it to one or several, each a duration"),
    ("steps=1.5", "'steps' takes a whole number, not '1.5'"),
    ("batch_size=none", "'batch_size' takes a whole number, not 'none'"),
    ("batch_size=", "'batch_size' takes a whole number, not ''"),
    ("epochs=many", "'epochs' takes a number, not 'many'"),
    ("log.wandb=maybe", "'log.wandb' takes true or false, not 'maybe'"),
    ("augment.crop=(0.3,", "'augment.crop' takes a tuple such as (0.3,1.0) or ('encoder',), not '(0.3,'"),
    ("init.form=runs/byol", "unknown config key 'init.form'; did you mean 'init.from'?"),
    ("init.take=encoder", "'init.take' takes a tuple such as (0.3,1.0) or ('encoder',), not 'encoder'"),
    ("augment.crop=0.3", "augment.crop is (0.3,); set it to (low, high) with 0 < low <= high <= 1"),
    ("augment.flip=2", "augment.flip is 2.0; set it to a number from 0 to 1"),
    (
        "augment.cover=0.2",
        "augment.cover needs masks, but data.masks is false; set data.masks=true or augment.cover=0",
    ),
    ("augment.cutout=1.5", "augment.cutout is 1.5; set it to a number from 0 to 1"),
    ("augment.noise_std=-1", "augment.noise_std is -1.0; set it to 0 or more"),
    ("augment.border=edges", "augment.border is edges; set it to zero or edge or reflect"),
    ("augment.small_size=8", "the recipe 'simclr' has no small views: set small_views, or leave small_size and"),
    ("augment.small_crop=(0.3,)", "augment.small_crop is (0.3,); set it to (low, high)"),
    ("augment.recipe=byoll", "unknown augmentation recipe 'byoll'; did you mean 'byol'?"),
    ("augment.recipe=none", "unknown augmentation recipe 'none'; "),
    ("method.name=byoll", "unknown method 'byoll'; did you mean 'byol'?"),
    ("method.name=simclr", "the method simclr has no hyper-parameter 'decay'; valid: temperature"),
    ("method.decay.start=nan", "method.decay.start is nan; set it to a finite number"),
    ("method.decay.start=5", "method.decay.start is 5.0; set it to a number from 0 to 1"),
    ("method.decay.duration=-1", "method.decay.duration is -1; set it to a duration: '10 epochs', '313 steps',"),
    ("method.decay.schedule=cosin", "unknown schedule 'cosin'; did you mean 'cosine'?"),
    ("network.encoder.name=resnet19", "there is no encoder 'resnet19'; did you mean 'resnet18'?"),
    ("network.encoder.name=vit_tiny", "vit_tiny has no width, which others have; unset: --config."),
    ("network.projector.output=0", "network.projector.output is 0; set it to more than 0"),
    ("network.encoder.stem=5x5", "there is no stem '5x5'; valid: 3x3, 3x3/2, 7x7, deep"),
    ("network.encoder.width=nan", "network.encoder.width is nan; set it to a finite number"),
    ("network.passes=views", "passes cannot be 'views'; did you mean 'view'?"),
    ("network.dtype=float16", "did you mean 'bfloat16'?"),
    ("optimizer.name=adam", "unknown optimizer.name 'adam'; did you mean 'adamw'?"),
    ("optimizer.clip=0", "optimizer.clip is 0.0; set it to more than 0"),
    ("optimizer.momentum=high", "'optimizer.momentum' takes a number, not 'high'"),
    ("optimizer.warmup=long", "optimizer.warmup is long; set it to a duration: '10 epochs', '313 steps',"),
    ("optimizer.milestones=('8 weeks',)", "optimizer.milestones is ('8 weeks',); set it to one or several, each a dur"),
    ("evaluate.every=-1", "evaluate.every is -1; set it to a duration: '10 epochs'"),
    ("evaluate.labels=require", "evaluate.labels is 'require'; did you mean 'required'?"),
    ("evaluate.feature=head", "evaluate.feature is head; set it to backbone, projection or hidden:K"),
    ("evaluate.feature=hidden:2", "evaluate.feature is 'hidden:2', but network.projector has 1 hidden layer;"),
    ("network.projector.layers=0", "network.projector.layers is 0; set it to more than 0"),
    ("network.predictor.name=mpl", "there is no head 'mpl'; did you mean 'mlp'?"),
    ("evaluate.crop=30", "evaluate.crop is 30.0; set it to more than 0, at most 1"),
    ("evaluate.temperature=0", "evaluate.temperature is 0.0; set it to more than 0"),
    ("checkpoint.every=never", "checkpoint.every is never; set it to a duration: '10 epochs'"),
    ("checkpoint.keep=0", "checkpoint.keep is 0; set it to more than 0"),
    ("log.every=0", "log.every is 0; set it to more than 0"),
    ("log.gradients=('(',)", "log.gradients is ('(',); set it to regular expressions, such as"),
    ("log.gradients=('encodr',)", "log.gradients 'encodr' matches no parameter; the nearest are network/"),
    ("seed=-1", "seed is -1; set it to 0 or more"),
    ("seed=4294967296", "seed is 4294967296; set it to less than 4294967296, 32 bits"),
    ("minutes=0", "minutes is 0.0; set it to more than 0"),
    ("network.encoder.width=-1", "network.encoder.width is -1.0; set it to more than 0"),
    ("network.encoder.width=0.001", "network.encoder.width is 0.001, too small for a single channel; set it higher"),
    ("network.encoder.width=inf", "network.encoder.width is inf; set it to a finite number"),
    ("optimizer.learning_rate=nan", "optimizer.learning_rate is nan; set it to a finite number"),
    ("optimizer.learning_rate=-0.1", "optimizer.learning_rate is -0.1; set it to 0 or more"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay is -1.0; set it to 0 or more"),
    ("optimizer.betas=0.9", "optimizer.betas is (0.9,); set it to a tuple of 2 values"),
    (
        "optimizer.betas=(0.9,1.5)",
        "optimizer.betas is (0.9, 1.5); set it to one or several, each 0 or more, and less than 1",
    ),
    ("optimizer.momentum=1.5", "optimizer.momentum is 1.5; set it to 0 or more, and less than 1"),
    ("steps=10000000000", "the run has 10,000,000,000 steps, more than a 32-bit number counts; set epochs or steps to"),
    (
        "network.projector.output=1000000000000",
        "GiB of memory in all; lower the network's widths, data.size or batch_si",
    ),
    ("data.size=100000", " and the views of a batch 14,305.1 GiB, of "),
    ("data.workers=100000", "data.workers is 100000, and this host has "),
    ("optimizer.b1=0.9", "unknown config key 'optimizer.b1'; "),
    ("resolution.ramp=('2 epochs',)", "resolution.ramp is ('2 epochs',); set it to a tuple of 2 values"),
    ("resolution.ramp=('soon','4')", "resolution.ramp is ('soon', '4'); set it to one or several, each a duration"),
    ("resolution.patches=(-4,)", "resolution.patches is (-4,); set it to sides in pixels, each more than 0"),
    ("resolution.sizes=('a',)", "resolution.sizes is ('a',); set it to sizes in pixels from the smallest"),
    ("data.host_bytes=-1", "data.host_bytes is -1; set it to 0 or more"),
    ("epochs=0", "epochs is 0.0; set it to more than 0"),
    ("epochs=-1", "epochs is -1.0; set it to more than 0"),
    ("epochs=inf", "epochs is inf; set it to a finite number"),
    ("optimizer.betas=(0.9,1e999)", "optimizer.betas is (0.9, inf); set it to finite numbers"),
    ("epochs=0.00001", "the run has 0 steps; set epochs or steps to more than 0"),
    ("epochs=1e300", "more than a 32-bit number counts; set epochs or steps to less"),
    ("steps=0", "steps is 0; set it to more than 0"),
    ("batch_size=0", "batch_size is 0; set it to more than 0"),
    ("batch_size=-8", "batch_size is -8; set it to more than 0"),
    ("batch_size=12", "a batch of 12 images cannot be split over 8 devices; set batch_size to a multiple of 8"),
    (
        "network.chunks=3",
        "network.chunks is 3, but each device has 8 images of the batch; set network.chunks to a divisor of 8",
    ),
    ("network.chunks=0", "network.chunks is 0; set it to more than 0"),
    ("data.size=2", "views of 2 pixels are smaller than the network's stride of "),
    ("data.canvas=-1", "data.canvas is -1; set it to more than 0"),
    ("data.workers=-1", "data.workers is -1; set it to 0 or more"),
    (
        "data.source=none",
        "write embedded:fashion_mnist, tfds:NAME, folder:/path, pairs:/path, boxes:/path or segments:/path",
    ),
    (
        "data.source=/photos",
        "write embedded:fashion_mnist, tfds:NAME, folder:/path, pairs:/path, boxes:/path or segments:/path",
    ),
    ("data.source=foldr:/photos", "did you mean 'folder'?"),
    ("data.source=embedded:mnist", "did you mean 'fashion_mnist'?"),
    (
        "data.source=folder:/no/such",
        "there is no folder '/no/such'; name a folder of images, as in folder:/photos",
    ),
]


@pytest.mark.parametrize(("change", "sentence"), VALUES, ids=[change for change, _ in VALUES])
def test_values(complaint, change, sentence):
    said = complaint(change)
    assert sentence in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("change", "config", "sentence"),
    [
        ("method.temperature=0", "simclr.py", "method.temperature is 0.0; set it to more than 0"),
        ("method.temperature=-1", "supcon.py", "method.temperature is -1.0; set it to more than 0"),
        ("method.momentum=-3", "instdisc.py", "method.momentum is -3.0; set it to a number from 0 to 1"),
        ("method.covariance=nan", "vicreg.py", "method.covariance is nan; set it to a finite number"),
        ("method.iterations=-1", "swav.py", "method.iterations is -1; set it to 0 or more"),
    ],
)
def test_values_of_methods(complaint, change, config, sentence):
    assert sentence in complaint(change, config=config)


@pytest.mark.parametrize("config", ["simclr.py", "vicreg.py", "triplet.py", "slip.py"])
def test_a_method_that_compares_images_needs_two(complaint, config):
    assert "compares the images of a batch with each other; set batch_size to 2 or more" in complaint(
        "batch_size=1", config=config
    )


@pytest.mark.parametrize("config", ["moco_v2.py", "nnclr.py", "densecl.py"])
def test_a_queue_shorter_than_a_step_is_refused(complaint, config):
    said = complaint("method.queue_size=8", config=config)
    assert "method.queue_size is 8, which is not a multiple of the 64 rows that each step adds; set it to 64" in said


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "augment.small_size=2",
            "views of 2 pixels are smaller than the network's stride of ",
        ),
        ("augment.small_views=-1", "augment.small_views is -1; set it to 0 or more"),
        ("method.queue_from=soon", "method.queue_from is soon; set it to a duration: '10 epochs'"),
        (
            'optimizer.rules=(("prototypes",{"freeze":1}),)',
            "'prototypes' matches no parameter; the nearest are network/pr",
        ),
        ('optimizer.rules=(("predictor",{"freze":1}),)', "did you mean 'freeze'?"),
        ('optimizer.rules=(("(",{"freeze":1}),)', "the optimizer rule '(' is not a regular expression"),
    ],
)
def test_multi_crop_and_optimizer_rules(complaint, change, sentence):
    assert sentence in complaint(change, config="swav.py")


def test_a_teacher_is_asked_for(complaint):
    assert "this method learns from a teacher; set method.teacher to the workdir" in complaint(config="crd.py")
    assert f"there is no run in '{os.getcwd()}/runs/byoll'" in complaint("method.teacher=runs/byoll", config="crd.py")


def test_masks_are_asked_for(complaint):
    assert "CAST needs masks of the objects; set data.masks=true" in complaint("data.masks=false", config="cast.py")
    assert "tfds:cifar10 has no masks; take a folder" in complaint("data.source=tfds:cifar10", config="cast.py")
    assert "coco'; name a folder of images, as in folder:/photos" in complaint(config="cast.py:imagenet")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("data.source=embedded:fashion_mnist", "has no captions; set data.source to embedded:fashion_mnist_captions"),
        (
            "data.source=folder:/photos",
            "folder:/photos has no captions; take pairs:/path, a table of images and captions",
        ),
        ("data.source=pairs:/no/such", "there is no table '/no/such', nor train.csv or train.jsonl in it"),
        ("data.context=2", "data.context is 2; set it to 3 or more"),
        (
            "evaluate.prompts=('a cat',)",
            "set it to texts with {} for the name of a class, such as ('a photo of a {}',)",
        ),
        ("method.objective=softmx", "method.objective is softmx; set it to softmax or sigmoid"),
        ("text.output=32", "network.projector.output is 64 and text.output 32; set both to the same number"),
        ("text.depth=0", "text.depth is 0, so texts go through the blocks of the image encoder; set network.encoder"),
        ("text.heads=3", "a dim of 64 cannot be shared by 3 heads: set one to fit the other"),
        ("text.layers=2", "unknown config key 'text.layers'"),
    ],
)
def test_captions_and_texts(complaint, change, sentence):
    assert sentence in complaint(change, config="clip.py")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--wokdir=x"], "unrecognized arguments: --wokdir=x; see python -m ssl_jax.main --help"),
        (["extra"], "unrecognized arguments: extra"),
        (["--config.batch_size"], "--config.batch_size has no value; write --config.batch_size=VALUE"),
        (["--config.batch_size", "8"], "--config.batch_size has no value; write --config.batch_size=VALUE"),
    ],
)
def test_arguments(complaint, arguments, sentence):
    assert sentence in complaint(arguments=arguments)


def test_a_config_is_asked_for():
    with pytest.raises(UserError, match=r"--workdir is empty; give it a value, or leave it out; see"):
        main.parser().parse(["--config=byol", "--workdir="])
    with pytest.raises(UserError, match=r"required: --config; see python -m ssl_jax\.main --help"):
        main.parser().parse([])


def test_folders(complaint, images):
    assert "has no images at any depth; name another folder" in complaint(f"data.source={images(0)}")
    few = complaint(f"data.source={images(3)}", "batch_size=8")
    assert "has 3 images, fewer than batch_size 8; lower batch_size" in few
    unlabelled = f"data.source={images(16)}", "batch_size=16", "evaluate.labels=required"
    assert "has no labels; set evaluate.labels=auto" in complaint(*unlabelled)


@pytest.mark.filterwarnings("ignore:.*unreadable")
def test_all_images_unreadable(complaint, images):
    said = complaint(f"data.source={images(3, content=b'')}")
    assert "of 3 images of folder" in said and "none can be read; " in said


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("cifar10", "is not prepared in {dir}; prepare it once with python -c"),
        ("cifar1O", "there is no TFDS set 'cifar1O', nor one of your own in {dir}; did you mean 'cifar10'?"),
    ],
)
def test_tfds_sets(complaint, tmp_path, name, sentence):
    said = complaint(f"data.source=tfds:{name}", f"data.dir={tmp_path}")
    assert sentence.format(dir=tmp_path) in " ".join(said.split())


def test_a_remote_set_that_cannot_be_reached(complaint, monkeypatch):
    import tensorflow_datasets as tfds

    def unreachable(*args, **options):
        raise ConnectionError("no route to host\nmore")

    monkeypatch.setattr(tfds.core.read_only_builder, "builder_from_files", unreachable)
    said = complaint("data.source=tfds:cifar10", "data.dir=gs://sets/tfds")
    assert said.startswith("gs://sets/tfds cannot be reached (no route to host); check data.dir, the network")


def test_a_remote_workdir(start):
    with pytest.raises(UserError, match="the workdir gs://runs/byol is no folder of this machine; mount it"):
        start(at="gs://runs/byol")


def test_a_workdir_whose_name_is_no_text(complaint, tmp_path):
    assert "is no UTF-8; name another --workdir" in complaint(at=tmp_path / os.fsdecode(b"caf\xe9"))


def test_worker_processes_without_enough_shared_memory(complaint, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: shutil._ntuple_diskusage(2**20, 0, 2**20))
    said = complaint("data.workers=4", "data.device_bytes=0", "batch_size=512")
    needed = (28 * 28 * 3 + 4 * 6) * 512 * (3 * 4 + 1) / 2**20
    assert f"take about {needed:.0f} MiB of /dev/shm, and 1 are free; set data.workers lower (0: threads), or" in said


@pytest.mark.parametrize("place", ["file", "file/below/it"])
def test_a_workdir_that_cannot_be_written(complaint, tmp_path, place):
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in (said := complaint(at=tmp_path / place))
    assert "name another --workdir" in said
    assert (tmp_path / "file").read_text() == "mine"


def test_a_workdir_that_cannot_be_written_is_said_before_images_are_read(complaint, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # who runs the tests may write anywhere
    monkeypatch.setattr("ssl_jax.data.open_splits", None)
    assert "cannot be written (Permission denied); name another --workdir" in complaint()


@pytest.mark.parametrize("place", ["", "train", "train/a"])
def test_a_workdir_that_holds_files_of_the_user(start, tmp_path, monkeypatch, place):
    for name in ("train/a", "train/b"):
        (tmp_path / name).mkdir(parents=True)
        for i in range(7):
            Image.new("RGB", (20, 20)).save(tmp_path / name / f"{i}.png")
    given = f"data.source=folder:{tmp_path}", "batch_size=8"
    monkeypatch.chdir(tmp_path / place)
    with pytest.raises(UserError, match=r"holds images, such as (train/)?([ab]/)?\d\.png, .* new or empty folder"):
        start(*given, at=".")
    assert start(*given, at=tmp_path / "train" / "ab") == tmp_path / "train" / "ab"


def test_a_workdir_that_holds_other_runs(start, workdir):
    start(at=workdir / "byol")
    with pytest.raises(UserError, match=r"run holds other runs \(byol\); name a folder of its own as --workdir of"):
        start()


@pytest.mark.parametrize("name", ["metrics.jsonl", "views.png"])
def test_a_workdir_that_holds_what_a_run_writes(start, workdir, name):
    workdir.mkdir()
    (workdir / name).write_text("mine")
    with pytest.raises(
        UserError, match=rf"has no config\.json, but {name}, as a run does; restore its config\.json, or"
    ):
        start()
    assert [path.name for path in workdir.iterdir()] == [name]


def test_a_workdir_that_holds_something_else(start, workdir):
    others = [
        "slurm-123.out",
        "nohup.out",
        "train.log",
        ".DS_Store",
        "notes.txt",
        "lost+found",
        "recipe.py",
        "logs/1.err",
    ]
    (workdir / "logs").mkdir(parents=True)
    for name in (*others, "config.part.json"):  # the last of a start that was killed
        (workdir / name).write_text("mine")
    assert start() == workdir
    assert {(workdir / name).read_text() for name in others} == {"mine"}


def test_a_workdir_that_holds_another_run(start, workdir):
    assert start("batch_size=64", "method.decay.start=0.8") == workdir
    before = (workdir / "config.json").read_bytes()
    with pytest.raises(UserError) as caught:
        start("batch_size=32", "method.decay.start=0.9", "log.every=1")
    assert "holds another run" in (said := str(caught.value))
    assert "batch_size (64 there, 32 now)" in said
    assert "method.decay.start (0.8 there, 0.9 now)" in said
    assert "log.every" not in said
    assert said.endswith("to go on with that run set them as they were there, else name another --workdir")
    assert (workdir / "config.json").read_bytes() == before


def test_what_is_free_to_change_does_not_make_another_run(start, workdir):
    start()
    assert start("log.every=1", "data.workers=1", "checkpoint.keep=5") == workdir
    assert json.loads((workdir / "config.json").read_text())["checkpoint"]["keep"] == 5


@pytest.mark.parametrize("damage", ["", '{"seed": 0, '])
def test_a_damaged_config_json(start, workdir, damage):
    workdir.mkdir()
    (workdir / "config.json").write_text(damage)
    with pytest.raises(UserError, match=r"config\.json is damaged; restore it or name another --workdir"):
        start()
    assert (workdir / "config.json").read_text() == damage
