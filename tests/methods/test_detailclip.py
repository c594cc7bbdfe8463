"""What DetailCLIP promises beyond the contract: each part is there and can be switched off."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax import schedule
from ssl_jax.errors import UserError
from ssl_jax.method import apply
from ssl_jax.methods.detailclip import DetailCLIP
from ssl_jax.networks import MLP, Decoder, Network, Prototypes, ViT

ENCODER = ViT(patch=1, size=toy.SIZE, dim=8, depth=2, heads=2)  # 4 x 4 patches
HEADS = {"dense": MLP(5, 7, norm="none"), "dense_predictor": Prototypes(10)}
METHOD = DetailCLIP(
    Network(ENCODER, MLP(toy.DIMENSION, layers=1), **HEADS, passes="resolution"),
    toy.TEXT,
    Decoder(dim=8, depth=1, heads=2),
    decay=schedule.constant(0.9),
    teacher_temperature=schedule.constant(0.04),
    patch_temperature=schedule.constant(0.07),
)
PARAMS, STATE = jax.jit(METHOD.init)(jax.random.key(0), toy.captioned())
PARTS = ("clip", "view", "patch", "pixel")


@functools.partial(jax.jit, static_argnums=0)
def run(method, params, state, given):
    return method.loss(params, state, given, jax.random.key(1), jnp.int32(0))


def test_the_loss_is_the_sum_of_four_parts():
    result = run(METHOD, PARAMS, STATE, toy.captioned(1))
    parts = [result.metrics[f"{name}_loss"] for name in PARTS]
    assert min(parts) > 0
    np.testing.assert_allclose(result.loss, sum(parts), rtol=1e-5)


@pytest.mark.parametrize(
    ("part", "trained"),
    [("clip", {"network", "text", "scale"}), ("pixel", {"network", "decoder", "pixels"})],
)
def test_a_weight_of_0_takes_a_part_out(part, trained):
    """Each part alone trains what it needs, and the rest gets no gradient."""
    alone = dataclasses.replace(METHOD, **{f"{name}_weight": float(name == part) for name in PARTS})
    grad = jax.jit(jax.grad(lambda params: run(alone, params, STATE, toy.captioned(1)).loss))(PARAMS)
    assert {role for role, tree in grad.items() if any(np.any(leaf) for leaf in jax.tree.leaves(tree))} == trained


def test_the_student_sees_the_cells_that_the_teacher_attends_to():
    views = toy.captioned(1)["views"]
    seen = METHOD.choose(STATE.target, views, jax.random.key(0))
    images = views[0].reshape(-1, *views[0].shape[2:])
    attention = ENCODER.apply({"params": STATE.target.params["encoder"]}, images, method="salience")
    cells = np.asarray(attention).reshape(-1, 2, 2, 2, 2).mean((2, 4)).reshape(-1, 4)
    chosen = np.argsort(-cells, axis=1)[:, :3]  # int(4 * 0.5) + 1 of the four
    expected = np.zeros((len(cells), 4), bool)
    np.put_along_axis(expected, chosen, True, axis=1)
    expected = expected.reshape(-1, 2, 2).repeat(2, axis=1).repeat(2, axis=2).reshape(seen.shape)
    np.testing.assert_array_equal(seen, expected)
    assert METHOD.count((4, 4)) == 12 == seen[0, 0].sum()


def test_what_is_removed_does_not_reach_the_student():
    """With cells removed at random, which do not depend on pixels."""
    method, given = dataclasses.replace(METHOD, removal="random"), toy.captioned(1)
    views = given["views"]
    seen = method.choose(STATE.target, views, jax.random.fold_in(jax.random.key(1), 1))
    assert set(np.asarray(seen.sum(2)).ravel().tolist()) == {12}
    shown = seen.reshape(*views[0].shape[:4], 1)
    other = given | {"views": jax.tree.map(lambda x: jnp.where(shown, x, 5.0), views)}
    first, second = (run(method, PARAMS, STATE, one) for one in (given, other))
    np.testing.assert_allclose(first.embeddings, second.embeddings, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(first.metrics["clip_loss"], second.metrics["clip_loss"], rtol=1e-5)
    assert abs(first.metrics["pixel_loss"] - second.metrics["pixel_loss"]) > 1e-3


def test_without_removal_the_student_sees_all_and_all_is_compared():
    method = dataclasses.replace(METHOD, removal="none")
    result = run(method, PARAMS, STATE, toy.captioned(1))
    expected, _ = apply(METHOD.network, METHOD.variables(PARAMS, STATE), toy.captioned(1)["views"])
    np.testing.assert_allclose(result.embeddings, expected.projection, rtol=1e-5, atol=1e-6)
    assert result.metrics["patch_loss"] > 0 and result.metrics["pixel_loss"] > 0


def test_decoded_patches_lie_row_by_row_in_whatever_order_they_were_seen():
    views = toy.captioned(1)["views"]
    orders = np.arange(16), np.array([3, 1, 0, 2, 7, 5, 4, 6, 11, 9, 8, 10, *range(15, 11, -1)])

    @jax.jit
    def decoded(order):
        student, _ = apply(METHOD.network, METHOD.variables(PARAMS, STATE), views, keep=(order[:, :, :12],))
        return METHOD.decode(PARAMS["decoder"], student, order, (4, 4))

    ours = [decoded(np.broadcast_to(order, (toy.BATCH, toy.VIEWS, 16)).astype(np.int32)) for order in orders]
    np.testing.assert_allclose(*ours, rtol=1e-3, atol=1e-4)


def test_the_teacher_follows_and_the_scale_is_clipped():
    params = jax.tree.map(lambda x: np.asarray(x) + np.float32(8), PARAMS)
    after, state = jax.jit(METHOD.after_step)(params, STATE, jax.random.key(0), jnp.int32(0))
    moved = state.target.params["encoder"]["norm"]["bias"]
    np.testing.assert_allclose(moved, 0.9 * STATE.target.params["encoder"]["norm"]["bias"] + 0.8, rtol=1e-5)
    assert float(after["scale"]["log"]) == pytest.approx(np.log(100))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"cell": 3}, "with method.cell 3 and method.kept 0.5, 4 x 4 patches are no cells of which some are removed"),
        ({"kept": 1.0}, "set cell to a divisor of both, and kept below 1"),
        (
            {"decoder": Decoder(dim=12, heads=2)},
            "set network.encoder to a vision transformer with pool=token, and decoder",
        ),
        ({"network": METHOD.network.clone(dense=MLP(5, 7))}, "set network.dense.norm=none"),
    ],
)
def test_what_does_not_fit_is_explained(changes, sentence):
    with pytest.raises(UserError, match=sentence.replace(".", r"\.")):
        dataclasses.replace(METHOD, **changes).check(toy.captioned())
