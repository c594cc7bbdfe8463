"""Cross-resolution training: sizes of views, one program per size, consistency, and comparison of sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import BARE, ROOT, TINY_ENCODERS, overrides

from ssl_jax import augment, data, parallel, resolution
from ssl_jax.augment import Buckets, Views
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import adapted_encoder
from ssl_jax.evaluate.features import encoder as encoder_of
from ssl_jax.evaluate.online import Evaluator
from ssl_jax.method import apply, encode, initialize
from ssl_jax.networks import MLP, Network, ResNet
from ssl_jax.resolution import Settings
from ssl_jax.trainer import Trainer

NAME = "simclr"


def changes(**values):
    own = {key.replace("__", "."): str(value) for key, value in values.items()}
    return list((dict(overrides(NAME)) | BARE | own).items())


def make(**values):
    return build(load(str(ROOT / "configs" / f"{NAME}.py"), changes(**values)))


def trained(run, devices=1, steps=4):
    """Returns the trainer and the metrics of some steps."""
    trainer = Trainer(run, parallel.make_mesh(jax.devices()[:devices]))
    state, batches, rows = trainer.init(), trainer.batches(0), []
    for step in range(steps):
        state, metrics = trainer.step(state, next(batches), step)
        rows.append(jax.device_get(metrics))
    return trainer, jax.device_get(state), rows


def images_of(shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def encoder():
    return ResNet(layers=(1, 1), width=0.0625, stem="3x3")


@pytest.mark.parametrize("passes", ["view", "resolution"])
def test_a_mixed_batch_encodes_each_image_at_its_own_size(key, passes):
    """In evaluation mode, where images do not depend on each other, rows are those of the images alone."""
    network = Network(encoder(), MLP(4, 8), passes=passes)
    parts = images_of((4, 2, 8, 8, 3)), images_of((4, 2, 12, 12, 3), 1)
    views = Views([Buckets(parts)])
    variables, outputs = initialize(network, key, views)
    tree = {"params": variables.params, "batch_stats": variables.stats}
    mixed = network.apply(tree, views)
    for bucket, part in enumerate(parts):
        alone = network.apply(tree, Views([part]))
        np.testing.assert_allclose(mixed.projection[bucket::2], alone.projection, rtol=1e-4, atol=1e-5)
    assert outputs.projection.shape == (8, 2, 4)


def test_rows_of_a_mixed_batch_are_the_views_that_each_size_alone_would_make():
    run = make(resolution__sizes="(8,16)", resolution__mode="mixed")
    raw = jax.device_put(data.read(run.source, np.arange(8, dtype=np.int32), run.canvas))
    small, large = jax.jit(augment.batch, static_argnums=0)(run.recipe, jax.random.key(0), raw, 3)["views"][0]
    for size, bucket, views in ((8, 0, small), (16, 1, large)):
        alone = jax.jit(augment.batch, static_argnums=0)(
            augment.recipe("simclr", size, **alone_changes(run)), jax.random.key(0), raw, 3
        )["views"][0]
        np.testing.assert_allclose(views, alone[bucket::2], rtol=1e-4, atol=1e-5)


def alone_changes(run):
    return {key: value for key, value in run.config.augment.items() if value is not None and key != "recipe"}


def test_views_of_other_sizes_are_only_queries():
    run = make(resolution__sizes="(8,16,24)")
    views = run.example_batch["views"]
    assert [array.shape[:3] for array in views] == [(16, 2, 24), (16, 2, 16), (16, 2, 8)]
    assert views.roles == ("large", "small", "small")


@pytest.mark.parametrize("mode", ["random", "ramp", "repeat"])
def test_each_size_is_compiled_once(mode):
    run = make(resolution__sizes="(8,16)", resolution__mode=mode, resolution__ramp="('0','4')", steps=8)
    trainer, _, rows = trained(run, steps=8)
    used = [run.recipe_at(step) for step in range(8)]
    sizes = [program._cache_size() for program in trainer.programs]
    assert sizes == [int(number in used) for number in range(2)]
    assert all(np.isfinite(row["loss"]) for row in rows)


def test_schedules_of_sizes():
    to_steps = {"2 epochs": 20, "4 epochs": 40}.__getitem__
    ramp = resolution.schedule(Settings((8, 16, 24), "ramp", ramp=("2 epochs", "4 epochs")), 0, 10, to_steps)
    assert [ramp(step) for step in (0, 20, 30, 40, 90)] == [0, 0, 1, 2, 2]
    repeat = resolution.schedule(Settings((8, 16), "repeat"), 0, 10, to_steps)
    assert [repeat(step) for step in (0, 9, 10, 19, 20)] == [0, 0, 1, 1, 0]
    drawn, again, other = (
        resolution.schedule(Settings((8, 16, 24), "random"), seed, 10, to_steps) for seed in (0, 0, 1)
    )
    numbers = [drawn(step) for step in range(300)]
    assert numbers == [again(step) for step in range(300)] != [other(step) for step in range(300)]
    assert min(np.bincount(numbers)) > 70


def test_a_repeated_epoch_shows_the_same_images_with_other_augmentations():
    order = data.Shuffled(0, 40, 10, passes=2)
    np.testing.assert_array_equal(order(1), order(5))
    assert np.any(order(1) != order(9)) and order.visit(1) != order.visit(5)


def test_a_mixed_run_is_the_same_on_eight_devices():
    run = make(resolution__sizes="(8,16)", resolution__mode="mixed", resolution__consistency="cosine")
    _, alone, rows = trained(run, steps=1)
    _, together, rows_together = trained(run, devices=8, steps=1)
    np.testing.assert_allclose(rows[-1]["loss"], rows_together[-1]["loss"], rtol=1e-4)
    np.testing.assert_allclose(rows[-1]["consistency"], rows_together[-1]["consistency"], rtol=1e-3, atol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(alone.params), jax.tree.leaves(together.params), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_the_learning_rate_of_a_size_scales_its_updates():
    values = {"resolution__sizes": "(8,16)", "resolution__mode": "repeat", "optimizer__schedule": "constant"}
    _, plain, _ = trained(make(**values), steps=1)
    start = jax.device_get(Trainer(make(**values), parallel.make_mesh(jax.devices()[:1])).init())
    _, half, _ = trained(make(**values, resolution__learning_rates="(0.5,1.0)"), steps=1)
    moved, less = (jax.tree.map(lambda a, b: a - b, one.params, start.params) for one in (plain, half))
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(less), strict=True):
        np.testing.assert_allclose(0.5 * a, b, rtol=1e-3, atol=1e-6)


def test_consistency_by_hand():
    features = np.random.default_rng(0).normal(size=(4, 3, 6))
    mean, deviation = features.mean(-1, keepdims=True), features.std(-1, keepdims=True)
    standard = (features - mean) / deviation
    distance = np.abs(standard[:, 1:] - standard[:, :-1])
    smooth = np.where(distance < 1, distance**2 / 2, distance - 0.5).mean()
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    cosine = 1 - (unit[:, 1:] * unit[:, :-1]).sum(-1).mean()
    given = jnp.asarray(features, jnp.float32)
    np.testing.assert_allclose(resolution.consistency("smooth_l1", given), smooth, rtol=1e-4)
    np.testing.assert_allclose(resolution.consistency("cosine", given), cosine, rtol=1e-4)
    logits = np.einsum("brd,crd->rbc", unit[:, 1:], unit[:, :-1]) / resolution.TEMPERATURE
    own = np.einsum("rbb->rb", logits)
    nce = 2 * resolution.TEMPERATURE * (np.log(np.exp(logits).sum(-1)) - own).mean()
    np.testing.assert_allclose(resolution.consistency("contrastive", given), nce, rtol=1e-4)


@pytest.mark.parametrize("kind", ["smooth_l1", "cosine", "contrastive"])
def test_the_larger_size_teaches(kind):
    gradient = jax.grad(lambda x: resolution.consistency(kind, x))(images_of((4, 2, 6)))
    assert np.all(gradient[:, 0] == 0) and np.any(gradient[:, 1] != 0)


def test_the_consistency_compares_one_crop_at_several_sizes():
    settings = Settings((8, 16), consistency="cosine")
    recipe = augment.recipe("simclr", 16, blur=0.0, resample="bilinear", antialias=True)
    run = make()
    raw = jax.device_put(data.read(run.source, np.arange(8, dtype=np.int32), 28))
    large, small = resolution.same_crop(settings, recipe, jax.random.key(0), raw, 0)
    first = augment.batch(recipe, jax.random.key(0), raw, 0)["views"][0][:, :1]
    np.testing.assert_allclose(large, first, rtol=1e-5, atol=1e-5)
    halved = np.asarray(large).reshape(8, 1, 8, 2, 8, 2, 3).mean((3, 5))
    assert np.corrcoef(halved.ravel(), np.asarray(small).ravel())[0, 1] > 0.95


def test_features_of_several_layers_are_joined(key):
    images = images_of((2, 1, 8, 8, 3))
    one, two = (Network(encoder(), layers=layers) for layers in (1, 2))
    variables, outputs = initialize(two, key, Views([images]))
    tree = {"params": variables.params, "batch_stats": variables.stats}
    last, both = (network.apply(tree, images[:, 0], method="encode") for network in (one, two))
    assert outputs.features.shape[-1] == both.shape[-1] == last.shape[-1] + last.shape[-1] // 2
    scaled = last / np.sqrt(np.mean(np.square(last), -1, keepdims=True))
    np.testing.assert_allclose(both[:, -last.shape[-1] :], scaled, rtol=1e-3)
    with pytest.raises(UserError, match=r"network\.layers is 4, but the encoder has 3"):
        initialize(Network(encoder(), layers=4), key, Views([images]))


def test_features_are_compared_at_several_sizes():
    run = make(evaluate__sizes="(8,16)")
    trainer = Trainer(run, parallel.make_mesh(jax.devices()[:1]))
    evaluator, state = Evaluator(run, trainer.mesh), trainer.init()
    small, same = evaluator.across_sizes(evaluator.extract(state), state)
    assert (small["size"], same["size"], same["agreement"]) == (8, 16, 100.0)
    np.testing.assert_allclose(same["cosine"], 1.0, atol=1e-5)
    assert same["knn_top1"] == same["fixed_bank_top1"]
    assert small["cosine"] < 0.999
    assert same["fixed_linear_top1"] > 10 < small["fixres_top1"]


@pytest.mark.parametrize("bank", [16, 20])  # one whole batch, and a padded one after it, which does not count
def test_statistics_are_estimated_at_a_size(bank):
    """Features of the adapted encoder are those of training mode on a batch, where that is the only whole one."""
    run = make(evaluate__bank=bank)
    trainer = Trainer(run, parallel.make_mesh(jax.devices()[:1]))
    evaluator, state = Evaluator(run, trainer.mesh), trainer.init()
    adapted = adapted_encoder(run, evaluator.bank, state, {"backbone": 0}, 8)
    batch, *_ = evaluator.bank.read()
    given = {name: batch[name] for name in ("image", "box")}
    plain = encoder_of(run, trainer.mesh, {"backbone": 0}, 8)(state, given)["backbone"]
    images = augment.center(run.recipe, given, 8, run.config.evaluate.crop)
    variables = run.method.variables(state.params, state.state)
    _, stats = apply(run.method.network, variables, Views([images[:, None]]))
    expected = encode(run.method.network, variables._replace(stats=stats), images)
    np.testing.assert_allclose(adapted(state, given)["backbone"], expected, rtol=1e-4, atol=1e-5)
    assert not np.allclose(plain, expected)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"sizes": "(16,8)"}, "resolution.sizes is (16, 8); set it to sizes in pixels from the smallest"),
        ({"sizes": "(8,12)"}, "resolution.sizes end at 12 pixels and data.size"),
        ({"sizes": "(8,16)", "mode": "mix"}, "resolution.mode is mix; set it to all or mixed or random"),
        ({"sizes": "(8,16)", "crops": "((0.2,1.0),)"}, "resolution.crops has 1 value for 2 sizes"),
        ({"sizes": "(8,16)", "learning_rates": "(1.0,0.5)"}, "one size per step, but resolution.mode is 'all'"),
        ({"sizes": "(8,16)", "mode": "ramp"}, "resolution.ramp ends at '0 epochs', not after its start"),
        ({"consistency": "cosine"}, "set resolution.sizes to two or more"),
        ({"sizes": "(8,12,16)", "mode": "mixed"}, "which 3 sizes cannot share equally"),
        ({"sizes": "(8,16)", "patches": "(4,8)"}, "resolution.patches needs one size per step"),
        ({"sizes": "(8,16)", "patches": "(4,8)", "mode": "random"}, "resolution.patches needs a vision transformer"),
    ],
)
def test_bad_sizes_say_what_to_set(values, sentence):
    with pytest.raises(UserError) as error:
        make(**{f"resolution__{key}": value for key, value in values.items()})
    assert sentence in str(error.value)


@pytest.mark.parametrize("key", ["resolution.sizes", "evaluate.sizes"])
def test_every_size_must_suit_the_encoder_before_anything_runs(key):
    changes = [*overrides("mae"), ("resolution.mode", "random"), (key, "(12,16)")]
    with pytest.raises(UserError, match="an image side of 12 pixels is no multiple of the patch of 8"):
        build(load(str(ROOT / "configs" / "mae.py"), changes))


VIT = {
    **{f"network.encoder.{name}": "" for name in ("stem", "width", "layers", "zero_gamma")},
    **{f"network.encoder.{name}": value for name, value in TINY_ENCODERS["vit"].items()},
    "network.encoder.name": "vit_tiny",
}


CUT = {"resolution.sizes": "(16,16)", "resolution.mode": "random", "resolution.patches": "(4,8)"}


def test_images_are_cut_into_other_patches_from_step_to_step():
    """A step with patches of a size is the program of a run whose encoder always cuts such patches."""

    def programs(**more):
        changes = overrides("simclr", **BARE, **VIT, **more, **{"data.device_bytes": "0"})
        trainer = Trainer(
            build(load(str(ROOT / "configs" / "simclr.py"), changes)), parallel.make_mesh(jax.devices()[:1])
        )
        batch = next(trainer.batches(0))
        return [one.lower(trainer.abstract, batch, None, trainer.key).as_text() for one in trainer.programs]

    always = [*programs(**{"network.encoder.view_patch": "4"}), *programs(**{"network.encoder.view_patch": "8"})]
    assert programs(**CUT) == always
    assert always[0] != always[1]


def test_a_method_that_predicts_pixels_has_patches_of_one_size():
    with pytest.raises(UserError, match=r"mae predicts patches of one size; leave resolution\.patches out"):
        build(load(str(ROOT / "configs" / "mae.py"), overrides("mae", **CUT)))


def test_methods_that_compare_patches_take_one_size_per_batch():
    changes = [("resolution.sizes", "(8,16)"), ("resolution.mode", "mixed")]
    config = load(str(ROOT / "configs" / "densecl.py"), [*overrides("densecl"), *changes])
    with pytest.raises(UserError, match=r"set resolution\.mode to random, ramp or repeat$"):
        build(config)


def test_running_statistics_are_those_of_the_nearest_size(key):
    network = Network(encoder(), statistics=(8, 16))
    views = Views([Buckets((images_of((4, 2, 8, 8, 3)), 3 * images_of((4, 2, 16, 16, 3), 1)))])
    variables, _ = initialize(network, key, views)
    _, stats = apply(network, variables, views)
    shared, _ = initialize(Network(encoder()), key, views)
    for size, part, row in ((8, views[0][0], 0), (16, views[0][1], 1)):
        _, alone = apply(Network(encoder()), shared, Views([part]))
        chosen = jax.tree.map(lambda x, row=row: x[row], stats)
        for ours, theirs in zip(jax.tree.leaves(chosen), jax.tree.leaves(alone), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
        features = encode(network, variables._replace(stats=stats), images_of((2, size + 2, size + 2, 3)))
        expected = encode(Network(encoder()), variables._replace(stats=chosen), images_of((2, size + 2, size + 2, 3)))
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)
