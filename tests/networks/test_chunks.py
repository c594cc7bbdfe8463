"""A pass in chunks, computed again or in a loop over views: the same outputs, gradients and parameters."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax import parallel
from ssl_jax.errors import UserError
from ssl_jax.losses import nt_xent
from ssl_jax.method import Variables, apply
from ssl_jax.networks import MLP, Network, ResNet, ViT

ENCODERS = {
    "vit": ViT(patch=4, size=8, dim=16, depth=2, heads=2, mask_token=True),
    "resnet": ResNet((1,), widths=(8,), stem_width=8, stem="3x3", norm="group", groups=2),
    "batch_norm": ResNet((1,), widths=(8,), stem_width=8, stem="3x3"),
}
HEADS = MLP(6, 8, norm="layer"), MLP(6, 8, norm="layer"), MLP(4, 8, norm="layer")
ROWS = 8


def network(encoder, **options):
    heads = (MLP(6, 8),) if encoder == "batch_norm" else HEADS
    return Network(ENCODERS[encoder], *heads, **options)


def views(*groups, seed=0):
    """Random views, of (count, size) per group."""
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(ROWS, count, size, size, 3)), jnp.float32) for count, size in groups)


def initialize(network, x):
    """Variables off their first values, so that biases and tokens matter."""
    variables = jax.jit(lambda: network.init(jax.random.key(0), x, train=True))()

    def move(leaf):
        return leaf + 0.1 * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape)

    return Variables(jax.tree.map(move, variables["params"]), variables.get("batch_stats", {}))


def step(network, stats, x, key=None):
    """The program from parameters to a loss on all outputs, SimCLR's among it; to outputs, new statistics, gradient."""

    def loss(params):
        outputs, new = apply(network, Variables(params, stats), x, key)
        others = [y for y in (outputs.prediction, *outputs.dense, *outputs.patches) if y is not None]
        total = nt_xent(outputs.projection[:, :2], 0.5) + sum(jnp.square(y).mean() for y in others)
        return total, (outputs, new)

    return jax.value_and_grad(loss, has_aux=True)


def check(ours, expected, rtol=1e-9, atol=1e-12):
    assert jax.tree.structure(ours) == jax.tree.structure(expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), ours, expected)


@pytest.mark.parametrize(
    ("encoder", "passes", "groups", "options"),
    [
        (
            "vit",
            "view",
            ((2, 8),),
            [{"chunks": 4}, {"remat": True}, {"scan_views": True}, {"chunks": 2, "remat": True, "scan_views": True}],
        ),
        ("resnet", "resolution", ((2, 8), (1, 4)), [{"chunks": 4}, {"chunks": 2, "remat": True}]),
    ],
)
def test_loss_and_gradient_do_not_depend_on_how_the_pass_runs(encoder, passes, groups, options):
    x, plain = views(*groups), network(encoder, passes=passes)
    params = initialize(plain, x).params
    with jax.enable_x64(True):
        params, x = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), (params, x))
        expected = jax.jit(step(plain, {}, x))(params)
        for change in options:
            check(jax.jit(step(plain.clone(**change), {}, x))(params), expected)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_parameters_do_not_depend_on_how_the_pass_runs(encoder):
    x = views((2, 8))
    plain = network(encoder)
    other = plain.clone(chunks=2, remat=True, scan_views=True)
    check(initialize(other, x), initialize(plain, x), rtol=0, atol=0)


def test_batch_statistics_are_carried_from_view_to_view():
    x = views((2, 8))
    x = (x[0] * jnp.asarray([1.0, 3.0])[None, :, None, None, None],)
    plain = network("batch_norm")
    variables = initialize(plain, x)
    expected = jax.jit(step(plain, variables.stats, x))(variables.params)
    for change in ({"scan_views": True}, {"remat": True}):
        ours = jax.jit(step(plain.clone(**change), variables.stats, x))(variables.params)
        check(ours, expected, rtol=1e-4, atol=1e-5)


def test_batch_statistics_are_those_of_a_chunk():
    """Chunk c holds rows c, c + chunks, ...; one after the other they are batches of their own."""
    (x,) = views((2, 8))
    x = x * jnp.arange(1.0, ROWS + 1)[:, None, None, None, None]
    plain = network("batch_norm", passes="resolution")
    variables = initialize(plain, (x,))
    ours, stats = jax.jit(lambda: apply(plain.clone(chunks=2), variables, (x,)))()
    for chunk in range(2):
        expected, carried = jax.jit(lambda variables, x: apply(plain, variables, (x,)))(variables, x[chunk::2])
        variables = variables._replace(stats=carried)
        check(ours.features[chunk::2], expected.features, rtol=1e-4, atol=1e-5)
    check(stats, carried, rtol=1e-5, atol=1e-6)


def test_masked_and_kept_patches_go_with_their_rows():
    x = views((2, 8))
    rng = np.random.default_rng(0)
    mask = (jnp.asarray(rng.random((ROWS, 2, 4)) < 0.5),)
    keep = (jnp.asarray(rng.permuted(np.tile(np.arange(4), (ROWS, 2, 1)), axis=-1)[:, :, :3]),)
    plain = network("vit")
    variables = initialize(plain, x)
    expected = jax.jit(lambda: apply(plain, variables, x, mask=mask, keep=keep))()
    assert expected[0].patches[0].shape == (ROWS, 2, 3, 16)
    ours = jax.jit(lambda: apply(plain.clone(chunks=4, scan_views=True), variables, x, mask=mask, keep=keep))()
    check(ours, expected, rtol=1e-4, atol=1e-5)


def test_drop_path_differs_in_chunks_views_and_rows_and_is_drawn_once():
    """All images are equal; 2 blocks leave out some of 3 parts, those of the first never."""
    (x,) = views((1, 8))
    x = jnp.broadcast_to(x[:1], (16, 2, 8, 8, 3))
    encoder = ENCODERS["vit"].clone(drop_path=0.5, depth=3)
    plain = Network(encoder, HEADS[0])
    variables, key = initialize(plain, (x,)), jax.random.key(1)
    looped = plain.clone(chunks=2, scan_views=True)
    features = np.asarray(jax.jit(lambda: apply(looped, variables, (x,), key)[0].features)())
    draws = features.reshape(8, 2, 2, -1)  # row of a chunk, chunk, view
    for axis in range(3):
        first, second = np.take(draws, 0, axis), np.take(draws, 1, axis)
        assert not np.allclose(first, second, atol=1e-3), axis
    expected = jax.jit(step(plain, {}, (x,), key))(variables.params)
    check(jax.jit(step(plain.clone(remat=True), {}, (x,), key))(variables.params), expected, rtol=1e-4, atol=1e-5)


def collectives(text):
    kinds = "all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter"
    return re.findall(rf"= (?:\S+\[([\d,]*)\]\S*|\(.*?\)) ({kinds})(?:-start)?\(", text)


@pytest.mark.parametrize(("encoder", "passes"), [("vit", "view"), ("resnet", "resolution")])
def test_chunks_move_no_rows_between_devices(encoder, passes):
    mesh = parallel.make_mesh()
    plain = network(encoder, passes=passes)
    params = jax.eval_shape(lambda: initialize(plain, views((2, 8)))).params
    rows = 16
    x = (jax.ShapeDtypeStruct((rows, 2, 8, 8, 3), jnp.float32, sharding=parallel.rows(mesh)),)
    place = parallel.replicated(mesh)
    params = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), params)

    def moved(network):
        program = jax.jit(lambda params, x: step(network, {}, x)(params), out_shardings=None)
        text = program.lower(params, x).compile().as_text()
        return {(shape, kind) for shape, kind in collectives(text) if kind != "all-reduce"}

    before = moved(plain)
    assert any(kind == "all-gather" for _, kind in before)  # SimCLR's projections
    assert moved(plain.clone(chunks=2)) <= before


def test_the_chunks_must_divide_the_batch():
    x = views((2, 8))
    with pytest.raises(UserError, match=r"^8 rows cannot be cut into 3 equal parts: set network\.chunks to a divisor"):
        initialize(network("vit", chunks=3), x)


def test_chunks_and_remat_need_less_memory():
    """Remat is measured in a loop: on a CPU, XLA may merge what is computed twice outside of one."""
    (x,) = views((4, 8))
    x = (jnp.tile(x, (8, 1, 1, 1, 1)),)
    plain = Network(ViT(patch=2, size=8, dim=32, depth=4, heads=2), HEADS[0])
    params = jax.eval_shape(lambda: initialize(plain, x).params)

    def temporaries(**options):
        network = plain.clone(**options)
        loss = jax.grad(lambda params: apply(network, Variables(params, {}), x)[0].projection.mean())
        return jax.jit(loss).lower(params).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(remat=True, scan_views=True) < 0.5 * temporaries(scan_views=True)
    assert temporaries(chunks=8) < 0.25 * temporaries()


def test_a_loop_over_views_is_compiled_once():
    x = views((4, 8))
    plain = network("resnet")
    variables = initialize(plain, x)

    def convolutions(network):
        return jax.jit(lambda: apply(network, variables, x)).lower().as_text().count("stablehlo.convolution")

    assert convolutions(plain) == 4 * convolutions(plain.clone(scan_views=True)) > 0
