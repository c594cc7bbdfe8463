"""Optimisers against loops written from their papers, rules on parameter paths, and bad configs."""

import jax
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from ssl_jax import optimizer
from ssl_jax.errors import UserError
from ssl_jax.rules import gradient_norms

STEPS = 6
SHAPES = {"conv": {"kernel": (3, 4), "bias": (4,)}, "norm": {"scale": (4,)}, "head": {"kernel": (4, 2)}}
EXCLUDE = (("bias|scale", {"weight_decay": 0.0, "adaptation": False}),)


def tree(seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda shape: rng.normal(size=shape).astype(np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


def build(batch_size=256, steps=STEPS, **config):
    config = {"name": "sgd", "learning_rate": 0.1} | config
    return optimizer.build(config, steps, batch_size, 2, tree(0))


def train(transformation, steps=STEPS):
    """The parameters after each step on gradients that do not depend on them, and the last state."""
    update, params = jax.jit(transformation.update), tree(0)
    state, history = transformation.init(params), []
    for step in range(steps):
        updates, state = update(tree(1 + step), state, params)
        params = optax.apply_updates(params, updates)
        history.append(params)
    return history, state


def size(x):
    return np.sqrt(np.sum(np.square(x)))


def by_hand(variant, rate, excluded, nesterov=False, eta=0.01, momentum=0.9, decay=0.1):
    """The variants of LARS for one parameter, as in their authors' code."""

    def trust(param, update):
        return 1.0 if excluded else eta * size(param) / size(update)

    def step(param, grad, buffer, lr):
        total = grad if excluded else grad + decay * param
        if variant == "popular":
            buffer = momentum * buffer + total
            update = momentum * buffer + total if nesterov else buffer
            return param - lr * trust(param, update) * update, buffer
        if excluded:
            adapted = grad
        elif variant in ("simclr", "byol"):
            adapted = trust(param, total) * total
        else:
            ratio = eta * size(param) / (size(grad) + decay * size(param) + 1e-8)
            adapted = (min(ratio / lr, 1.0) if variant == "solo" else ratio) * total
        inside, outside = (lr, 1.0) if variant == "simclr" else (1.0, lr)
        buffer = momentum * buffer + inside * adapted
        update = momentum * buffer + inside * adapted if nesterov else buffer
        return param - outside * update, buffer

    return step


VARIANTS = ["simclr", "popular", "byol", "larc", "solo"]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_lars_under_a_changing_learning_rate(variant, nesterov):
    config = {"name": "lars", "variant": variant, "learning_rate": 0.01, "eta": 0.01, "weight_decay": 0.1}
    transformation, rate = build(warmup=2, warmup_start=0.002, rules=EXCLUDE, nesterov=nesterov, **config)
    history, _ = train(transformation)
    for module, name in (("conv", "kernel"), ("conv", "bias"), ("norm", "scale"), ("head", "kernel")):
        param = np.float64(tree(0)[module][name])
        buffer, move = np.zeros_like(param), by_hand(variant, rate, name != "kernel", nesterov)
        for step in range(STEPS):
            param, buffer = move(param, tree(1 + step)[module][name], buffer, float(rate(step)))
            np.testing.assert_allclose(history[step][module][name], param, rtol=1e-4, atol=1e-6)


def test_a_long_gradient_is_shortened_and_a_short_one_is_not():
    norm = float(optax.tree.norm(tree(1)))
    moves = {}
    for clip in (None, 2 * norm, norm / 4):
        transformation, _ = build(momentum=0.0, schedule="constant", clip=clip)
        after = train(transformation, 1)[0][0]
        moves[clip] = jax.tree.map(lambda new, old: new - old, after, tree(0))
    for leaf, same, shorter in zip(*map(jax.tree.leaves, moves.values()), strict=True):
        np.testing.assert_array_equal(same, leaf)
        np.testing.assert_allclose(shorter, leaf / 4, rtol=1e-4, atol=1e-7)


def test_each_gradient_is_clipped_by_its_own_norm():
    grads = tree(1)
    limit = float(np.median([size(grad) for grad in jax.tree.leaves(grads)]))  # some are longer, some shorter
    transformation, _ = build(momentum=0.0, schedule="constant", clip_each=limit)
    after = train(transformation, 1)[0][0]
    for module, leaves in grads.items():
        for name, grad in leaves.items():
            shortened = grad * min(1.0, limit / (size(grad) + 1e-6))
            np.testing.assert_allclose(after[module][name], tree(0)[module][name] - 0.1 * shortened, rtol=1e-5)


def test_gradients_are_clipped_each_before_all_together():
    transformation, _ = build(momentum=0.0, schedule="constant", clip_each=0.5, clip=0.6)
    after = train(transformation, 1)[0][0]
    grads = jax.tree.map(lambda g: g * min(1.0, 0.5 / size(g)), tree(1))
    scale = min(1.0, 0.6 / float(optax.tree.norm(grads)))
    assert scale < 1
    for new, old, grad in zip(*map(jax.tree.leaves, (after, tree(0), grads)), strict=True):
        np.testing.assert_allclose(new, old - 0.1 * scale * grad, rtol=1e-4, atol=1e-6)


def test_shapes_are_enough_to_build():
    config = {"name": "lars", "learning_rate": 0.1, "rules": EXCLUDE, "clip_each": 1.0}
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree(0))
    histories = [train(optimizer.build(config, STEPS, 256, 2, params)[0])[0] for params in (shapes, tree(0))]
    for ours, theirs in zip(*map(jax.tree.leaves, histories), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_lars_variants_differ():
    """Otherwise the test above could pass with one variant in place of another."""
    ends = []
    for variant in VARIANTS:
        transformation, _ = build(name="lars", variant=variant, eta=0.1, weight_decay=0.1, warmup=2)
        ends.append(train(transformation)[0][-1]["conv"]["kernel"])
    for i in range(len(VARIANTS)):
        for j in range(i):
            assert np.abs(ends[i] - ends[j]).max() > 1e-3


@pytest.mark.parametrize("variant", VARIANTS)
def test_lars_moves_a_parameter_of_zeros_by_its_plain_gradient(variant):
    transformation, _ = build(name="lars", variant=variant, weight_decay=0.1, schedule="constant", learning_rate=0.1)
    params = jax.tree.map(np.zeros_like, tree(0))
    updates, _ = transformation.update(tree(1), transformation.init(params), params)
    np.testing.assert_allclose(updates["head"]["kernel"], -0.1 * tree(1)["head"]["kernel"], rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd(nesterov):
    transformation, rate = build(nesterov=nesterov, momentum=0.8, weight_decay=0.1)
    history, _ = train(transformation)
    param = np.float64(tree(0)["conv"]["bias"])
    buffer = np.zeros_like(param)
    for step in range(STEPS):
        grad = tree(1 + step)["conv"]["bias"] + 0.1 * param
        buffer = 0.8 * buffer + grad
        param = param - float(rate(step)) * (grad + 0.8 * buffer if nesterov else buffer)
        np.testing.assert_allclose(history[step]["conv"]["bias"], param, rtol=1e-5, atol=1e-6)


def adamw(param, grads, rates, decays, betas=(0.9, 0.999), eps=1e-8):
    """Algorithm 2 of arXiv:1711.05101, its alpha 1 and its eta the rate; yields the parameter after each step."""
    m = v = np.zeros_like(param)
    for t, (grad, rate, decay) in enumerate(zip(grads, rates, decays, strict=True), 1):
        m, v = betas[0] * m + (1 - betas[0]) * grad, betas[1] * v + (1 - betas[1]) * grad**2
        direction = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        param = param - rate * (direction + decay * param)
        yield param


def test_adamw_with_a_scheduled_weight_decay():
    decay = {"schedule": "linear", "start": 0.0, "end": 0.6}
    transformation, rate = build(name="adamw", weight_decay=decay, warmup=2)
    history, _ = train(transformation)
    grads = [np.float64(tree(1 + step)["head"]["kernel"]) for step in range(STEPS)]
    rates, decays = [float(rate(step)) for step in range(STEPS)], 0.1 * np.arange(STEPS)
    expected = adamw(np.float64(tree(0)["head"]["kernel"]), grads, rates, decays)
    for ours, theirs in zip(history, expected, strict=True):
        np.testing.assert_allclose(ours["head"]["kernel"], theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
def test_freeze(name):
    """A frozen parameter starts later with fresh moments, but with the learning rate of the current step."""
    config = {"name": name, "weight_decay": 0.1, "warmup": 2, "rules": (("head", {"freeze": "1.5 epochs"}),)}
    history, _ = train(build(**config)[0])
    for step in range(3):
        np.testing.assert_array_equal(history[step]["head"]["kernel"], tree(0)["head"]["kernel"])
    assert np.abs(history[3]["head"]["kernel"] - tree(0)["head"]["kernel"]).max() > 1e-4
    free, rate = build(**config | {"rules": ()})
    np.testing.assert_array_equal(history[-1]["conv"]["kernel"], train(free)[0][-1]["conv"]["kernel"])
    if name == "adamw":
        grads = [np.float64(tree(1 + step)["head"]["kernel"]) for step in range(3, STEPS)]
        rates = [float(rate(step)) for step in range(3, STEPS)]
        *_, expected = adamw(np.float64(tree(0)["head"]["kernel"]), grads, rates, [0.1] * 3)
        np.testing.assert_allclose(history[-1]["head"]["kernel"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name, moments", [("sgd", ["trace"]), ("lars", ["trace"]), ("adamw", ["mu", "nu"])])
def test_freeze_holds_the_moments(name, moments):
    transformation, _ = build(name=name, rules=(("head", {"freeze": 3}),))
    for steps, still in ((3, True), (4, False)):
        _, state = train(transformation, steps)
        for moment in moments:
            leaves = [
                leaf
                for path, leaf in jax.tree_util.tree_leaves_with_path(state)
                if moment in jax.tree_util.keystr(path) and "head" in jax.tree_util.keystr(path)
            ]
            assert len(leaves) == 1 and (np.abs(leaves[0]).max() == 0) == still


def test_a_constant_rate_ignores_warm_up_and_cosine():
    """The predictor of SimSiam (arXiv:2011.10566, section 4.2)."""
    transformation, rate = build(momentum=0.0, warmup=2, rules=(("head", {"constant": True}),))
    history, _ = train(transformation, 4)
    before = tree(0)
    for step, params in enumerate(history):
        grads = tree(step + 1)
        np.testing.assert_allclose(
            params["head"]["kernel"], before["head"]["kernel"] - 0.1 * grads["head"]["kernel"], rtol=1e-4, atol=1e-6
        )
        moved = before["conv"]["kernel"] - rate(step) * grads["conv"]["kernel"]
        np.testing.assert_allclose(params["conv"]["kernel"], moved, rtol=1e-4, atol=1e-6)
        before = params


@pytest.mark.parametrize("config", [{}, {"name": "lars", "variant": "larc"}])
def test_a_momentum_of_its_own(config):
    """DeepCluster's head has none (arXiv:1807.05520); the others keep the optimiser's."""
    plain, own, without = (
        train(build(momentum=momentum, rules=rules, **config)[0])[0][-1]
        for momentum, rules in ((0.9, ()), (0.9, (("head", {"momentum": 0.0}),)), (0.0, ()))
    )
    np.testing.assert_array_equal(own["conv"]["kernel"], plain["conv"]["kernel"])
    np.testing.assert_array_equal(own["head"]["kernel"], without["head"]["kernel"])
    assert not np.array_equal(plain["head"]["kernel"], without["head"]["kernel"])


def test_multipliers():
    """A later rule wins; weight decay and learning rate are multiplied."""
    rules = (
        ("kernel", {"weight_decay": 3.0}),
        ("conv/kernel", {"weight_decay": 0.5}),
        ("head", {"learning_rate": 2.0}),
    )
    transformation, _ = build(schedule="constant", weight_decay=0.1, momentum=0.0, rules=rules)
    history, _ = train(transformation, 1)
    for module, name, decay, rate in (
        ("conv", "kernel", 0.05, 0.1),
        ("conv", "bias", 0.1, 0.1),
        ("head", "kernel", 0.3, 0.2),
    ):
        param, grad = tree(0)[module][name], tree(1)[module][name]
        np.testing.assert_allclose(
            history[0][module][name], param - rate * (grad + decay * param), rtol=1e-4, atol=1e-6
        )


@pytest.mark.parametrize(
    "config, expected",
    [
        ({"scaling": "linear"}, 1.6),
        ({"scaling": "sqrt"}, 6.4),
        ({"scaling": "none"}, 0.1),
    ],
)
def test_scaling(config, expected):
    """4096 images: 16 times 256, and the square of 64."""
    _, rate = build(4096, **config)
    np.testing.assert_allclose(rate(0), expected, rtol=1e-6)


def test_simclr_scalings_agree_at_4096():
    _, linear = build(4096, learning_rate=0.3, scaling="linear")
    _, sqrt = build(4096, learning_rate=0.075, scaling="sqrt")
    np.testing.assert_allclose(linear(2), sqrt(2), rtol=1e-6)


def test_learning_rate_schedules():
    step = np.arange(9)
    _, rate = build(512, 8, warmup="1 epoch", warmup_start=0.02, end=0.01)
    cosine = 0.02 + 0.18 * (1 + np.cos(np.pi * np.arange(7) / 6)) / 2
    np.testing.assert_allclose(rate(step), [0.04, 0.12, *cosine], rtol=1e-5)
    _, rate = build(256, 8, schedule="step", milestones=("2 epochs", 6))
    np.testing.assert_allclose(rate(step), [0.1] * 4 + [0.01] * 2 + [0.001] * 3, rtol=1e-5)
    _, rate = build(256, 8, schedule="constant", warmup=1)
    np.testing.assert_allclose(rate(step), [0.0] + [0.1] * 8, rtol=1e-5)
    _, rate = build(256, 8, per_epoch=True)
    epochs = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(rate(step), [*np.repeat(epochs, 2), 0], rtol=1e-5, atol=1e-9)


def test_warmup_is_per_step_where_the_schedule_is_per_epoch():
    _, rate = build(256, 8, per_epoch=True, warmup="1 epoch")
    np.testing.assert_allclose(rate(np.arange(3)), [0.0, 0.05, 0.1], rtol=1e-6)


def test_a_config_dict_builds():
    config = ConfigDict(
        {
            "name": "adamw",
            "learning_rate": 1e-3,
            "betas": (0.9, 0.95),
            "weight_decay": {"schedule": "cosine", "start": 0.04, "end": 0.4},
            "rules": EXCLUDE,
        }
    )
    history, _ = train(optimizer.build(config.lock(), STEPS, 256, 2, tree(0))[0], 1)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(history))


@pytest.mark.parametrize(
    "config, message",
    [
        ({"name": "lasr"}, "did you mean 'lars'"),
        ({"variant": "simlcr"}, "did you mean 'simclr'"),
        ({"scaling": "liner"}, "did you mean 'linear'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"milestones": ("2 epochs",)}, "have no effect on the schedule 'cosine'; set optimizer.schedule=step"),
        ({"momentun": 0.9}, "optimizer.momentun; did you mean 'momentum'"),
        ({"warmup": "10 hours"}, "is not a duration"),
        ({"rules": (("heat/kernel", {"freeze": 1}),)}, "matches no parameter; the nearest are head/kernel"),
        ({"rules": (("head(", {"freeze": 1}),)}, "is not a regular expression"),
        ({"rules": (("head", {"weight_deca": 1}),)}, "did you mean 'weight_decay'"),
        (
            {"rules": (("head", {"freeze": "for ever"}),)},
            "freeze of the optimizer rule 'head' is 'for ever'; set",
        ),
        (
            {"rules": (("head", {"weight_decay": -1}),)},
            "weight_decay of the optimizer rule 'head' is -1; set it",
        ),
        (
            {"rules": (("head", {"momentum": "high"}),)},
            "momentum of .* is 'high'; set it to 0 or more, and",
        ),
    ],
)
def test_bad_config(config, message):
    with pytest.raises(UserError, match=message):
        build(**config)


def test_missing_learning_rate():
    with pytest.raises(UserError, match="learning_rate is not set"):
        optimizer.build({"name": "sgd"}, STEPS, 256, 2, tree(0))


def test_the_norm_of_a_gradient_is_over_all_parameters_that_a_pattern_matches():
    gradients = tree(3)
    norms = gradient_norms(gradients, ("conv/", "kernel$"))
    conv, head, scale = gradients["conv"], gradients["head"]["kernel"], gradients["norm"]["scale"]
    expected = {
        "gradient_norm": [*conv.values(), head, scale],
        "gradient_norm/conv/": [*conv.values()],
        "gradient_norm/kernel$": [conv["kernel"], head],
    }
    assert set(norms) == set(expected)
    for name, leaves in expected.items():
        np.testing.assert_allclose(norms[name], size(np.concatenate([leaf.ravel() for leaf in leaves])), rtol=1e-6)
    with pytest.raises(UserError, match=r"log\.gradients 'heat' matches no parameter; the nearest are head/kernel"):
        gradient_norms(gradients, ("heat",))
