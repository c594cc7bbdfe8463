"""A pass in chunks, computed again or in a loop over views: what goes along with the rows, and what it costs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import parallel
from ssl_jax.losses import nt_xent
from ssl_jax.method import Variables, apply
from ssl_jax.networks import MLP, Network, ResNet, ViT

ENCODERS = {
    "vit": ViT(patch=4, size=8, dim=16, depth=2, heads=2, mask_token=True),
    "resnet": ResNet((1,), widths=(8,), stem_width=8, stem="3x3", norm="group", groups=2),
}
HEADS = MLP(6, 8, norm="layer"), MLP(6, 8, norm="layer"), MLP(4, 8, norm="layer")
ROWS = 8


def network(encoder, **options):
    return Network(ENCODERS[encoder], *HEADS, **options)


def views(*groups, seed=0):
    """Random views, of (count, size) per group."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(ROWS, count, size, size, 3)), jnp.float32) for count, size in groups)


def initialize(network, x):
    """Parameters off their first values, so that biases and tokens matter."""
    variables = jax.jit(lambda: network.init(jax.random.key(0), x, train=True))()

    def move(leaf):
        return leaf + 0.1 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)

    return jax.tree.map(move, variables["params"])


def step(network, x, key=None):
    """The program from parameters to a loss on all outputs, SimCLR's among it, the outputs and the gradient."""

    def loss(params):
        outputs, _ = apply(network, Variables(params, {}), x, key)
        others = [y for y in (outputs.prediction, *outputs.dense, *outputs.patches) if y is not None]
        total = nt_xent(outputs.projection[:, :2], 0.5) + sum(jnp.square(y).mean() for y in others)
        return total, outputs

    return jax.value_and_grad(loss, has_aux=True)


def check(ours, expected, rtol=1e-9, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, expected)


@pytest.mark.parametrize(
    ("encoder", "passes", "groups", "options"),
    [
        ("vit", "view", ((2, 8),), {"chunks": 2, "remat": True, "scan_views": True}),
        ("resnet", "resolution", ((2, 8), (1, 4)), {"chunks": 4}),
    ],
)
def test_all_outputs_and_their_gradient_do_not_depend_on_how_the_pass_runs(encoder, passes, groups, options):
    x, plain = views(*groups), network(encoder, passes=passes)
    params = initialize(plain, x)
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, x))
        expected = jax.jit(step(plain, x))(params)
        check(jax.jit(step(plain.clone(**options), x))(params), expected)


def test_masked_and_kept_patches_go_with_their_rows():
    x = views((2, 8))
    rng = np.random.default_rng(0)
    mask = (jnp.asarray(rng.random((ROWS, 2, 4)) < 0.5),)
    keep = (jnp.asarray(rng.permuted(np.tile(np.arange(4), (ROWS, 2, 1)), axis=-1)[:, :, :3]),)
    plain = network("vit")
    params = initialize(plain, x)
    expected = jax.jit(lambda: apply(plain, Variables(params, {}), x, mask=mask, keep=keep))()
    assert expected[0].patches[0].shape == (ROWS, 2, 3, 16)
    looped = plain.clone(chunks=4, scan_views=True)
    ours = jax.jit(lambda: apply(looped, Variables(params, {}), x, mask=mask, keep=keep))()
    check(ours, expected, rtol=1e-4, atol=1e-5)


def test_drop_path_differs_in_chunks_views_and_rows_and_is_drawn_once():
    """All images are equal, and two of three blocks are left out at random."""
    (x,) = views((1, 8))
    x = jnp.broadcast_to(x[:1], (16, 2, 8, 8, 3))
    encoder = ENCODERS["vit"].clone(drop_path=0.5, depth=3)
    plain = Network(encoder, HEADS[0])
    params, key = initialize(plain, (x,)), jax.random.key(1)
    looped = plain.clone(chunks=2, scan_views=True)
    features = np.asarray(jax.jit(lambda: apply(looped, Variables(params, {}), (x,), key)[0].features)())
    draws = features.reshape(8, 2, 2, -1)  # row of a chunk, chunk, view
    for axis in range(3):
        first, second = np.take(draws, 0, axis), np.take(draws, 1, axis)
        assert not np.allclose(first, second, atol=1e-3), axis
    expected = jax.jit(step(plain, (x,), key))(params)
    check(jax.jit(step(plain.clone(remat=True), (x,), key))(params), expected, rtol=1e-4, atol=1e-5)


def moved(program):
    """The collectives but reductions of a program on shapes, each with the shapes it produces."""
    found = re.findall(r"= (.*?) (all-gather|all-to-all|collective-permute)(?:-start)?\(", program.compile().as_text())
    return {(kind, *re.findall(r"\[[\d,]*\]", result)) for result, kind in found}


@pytest.mark.parametrize(("encoder", "passes"), [("vit", "view"), ("resnet", "resolution")])
def test_chunks_move_no_rows_between_devices(encoder, passes):
    mesh = parallel.make_mesh()
    plain = network(encoder, passes=passes)
    params = jax.eval_shape(lambda: initialize(plain, views((2, 8))))
    x = (jax.ShapeDtypeStruct((16, 2, 8, 8, 3), jnp.float32),)
    places = parallel.replicated(mesh), parallel.batch_sharding(mesh)

    def lowered(network):
        return jax.jit(lambda params, x: step(network, x)(params), in_shardings=places).lower(params, x)

    before = moved(lowered(plain))
    assert before  # SimCLR gathers projections
    assert moved(lowered(plain.clone(chunks=2))) <= before


def test_remat_needs_less_memory():
    """In a loop: outside of one, XLA may merge what is computed twice, on a CPU."""
    (x,) = views((4, 8))
    x = (jnp.tile(x, (8, 1, 1, 1, 1)),)
    plain = Network(ViT(patch=2, size=8, dim=32, depth=4, heads=2), HEADS[0], scan_views=True)
    params = jax.eval_shape(lambda: initialize(plain, x))

    def temporaries(network):
        loss = jax.grad(lambda params: apply(network, Variables(params, {}), x)[0].projection.mean())
        return jax.jit(loss).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(plain.clone(remat=True)) < 0.5 * temporaries(plain)


def test_a_loop_over_views_is_compiled_once():
    x = views((4, 8))
    plain = network("resnet")
    params = initialize(plain, x)

    def convolutions(network):
        program = jax.jit(lambda: apply(network, Variables(params, {}), x))
        return program.lower().as_text().count("stablehlo.convolution")

    assert convolutions(plain) == 4 * convolutions(plain.clone(scan_views=True)) > 0
