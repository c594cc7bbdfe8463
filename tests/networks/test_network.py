"""Which views share a pass, the order of outputs, and how the batch stays where it is."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from ssl_jax.errors import UserError
from ssl_jax.networks import MLP, Encoding, Network, Norm, Prototypes, ResNet, ViT


class Mean(nn.Module):
    """An encoder whose features are the mean colour, after a BatchNorm."""

    norm: str = "batch"

    @nn.compact
    def __call__(self, x, train, mask=None, keep=None):
        maps = Norm(self.norm, name="norm")(x, train)
        return Encoding(maps.mean((1, 2)), maps.reshape(len(x), -1, x.shape[-1]), x.shape[1:3])


def views(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(jnp.asarray(rng.normal(size=(*shape, 3)), jnp.float32) for shape in shapes)


def initialize(network, x):
    return jax.jit(lambda: network.init(jax.random.key(0), x, train=True))()


def train(network, x):
    variables = initialize(network, x)
    return jax.jit(lambda: network.apply(variables, x, train=True, mutable=["batch_stats"]))()


def test_outputs_come_in_the_order_of_the_views():
    x = views((4, 2, 8, 8), (4, 3, 4, 4))
    expected = jnp.concatenate([x[0].mean((2, 3)), x[1].mean((2, 3))], axis=1)
    for passes in ("view", "resolution"):
        outputs, _ = train(Network(Mean("none"), passes=passes), x)
        np.testing.assert_allclose(outputs.features, expected, rtol=1e-5)
        assert outputs.projection is None
        assert outputs.prediction is None


def test_a_pass_per_view_has_statistics_per_view():
    (x,) = views((4, 2, 6, 6))
    x = x * jnp.asarray([1.0, 5.0])[None, :, None, None, None] + 2
    outputs, state = train(Network(Mean()), (x,))
    np.testing.assert_allclose(outputs.features.mean(0), np.zeros((2, 3)), atol=1e-5)
    first, second = (x[:, view].var((0, 1, 2)) for view in (0, 1))
    expected = 0.9 * (0.9 + 0.1 * first) + 0.1 * second
    np.testing.assert_allclose(state["batch_stats"]["encoder"]["norm"]["var"], expected, rtol=1e-5)


def test_a_pass_per_resolution_has_statistics_per_resolution():
    large, small = views((4, 2, 6, 6), (4, 3, 4, 4))
    outputs, state = train(
        Network(Mean(), passes="resolution"), (large + jnp.arange(2.0)[None, :, None, None, None], small - 3)
    )
    for part in (outputs.features[:, :2], outputs.features[:, 2:]):
        np.testing.assert_allclose(part.mean((0, 1)), np.zeros(3), atol=1e-5)
    assert np.abs(outputs.features[:, 0].mean(0)).min() > 0.1
    # the running mean has moved twice: 0.9 * 0.1 * large + 0.1 * small
    mean = 0.09 * (large + jnp.arange(2.0)[None, :, None, None, None]).mean((0, 1, 2, 3)) + 0.1 * (small - 3).mean(
        (0, 1, 2, 3)
    )
    np.testing.assert_allclose(state["batch_stats"]["encoder"]["norm"]["mean"], mean, rtol=1e-4)


def test_a_pass_per_resolution_has_one_pass_through_the_heads():
    head = MLP(5, layers=1, last_norm="batch")
    x = views((8, 2, 6, 6), (8, 1, 4, 4))
    joint, _ = train(Network(Mean("none"), head, passes="resolution"), x)
    apart, _ = train(Network(Mean("none"), head, passes="view"), x)
    np.testing.assert_allclose(joint.projection.mean((0, 1)), np.zeros(5), atol=1e-5)
    np.testing.assert_allclose(apart.projection.mean(0), np.zeros((3, 5)), atol=1e-5)
    assert np.abs(joint.projection.mean(0)).max() > 1e-2


def test_without_batch_statistics_passes_agree():
    network = Network(
        ResNet((1,), widths=(8,), stem_width=8, stem="3x3", norm="group", groups=2),
        MLP(4, 8, norm="layer"),
        Prototypes(6),
    )
    x = views((2, 2, 8, 8), (2, 1, 4, 4))
    ours, theirs = (train(network.clone(passes=passes), x)[0] for passes in ("view", "resolution"))
    assert ours.prediction.shape == (2, 3, 6)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_encode_is_the_encoder_in_evaluation_mode():
    network = Network(Mean(), MLP(4))
    x = views((4, 2, 6, 6))
    variables = initialize(network, x)
    stats = {"encoder": {"norm": {"mean": jnp.ones(3), "var": jnp.full(3, 4.0)}}}
    images = views((3, 9, 5), seed=1)[0]
    features = network.apply({"params": variables["params"], "batch_stats": stats}, images, method="encode")
    np.testing.assert_allclose(features, (images.mean((1, 2)) - 1) / 2, rtol=1e-3, atol=1e-5)


def test_encode_goes_on_through_the_first_layers_of_the_projector():
    network = Network(Mean("none"), MLP(4, 5, 3))
    (images,) = views((6, 7, 7))
    variables = initialize(network, (images[:, None],))
    head = variables["params"]["projector"]
    stats = {f"norm{i}": {"mean": jnp.full(5, 0.2), "var": jnp.full(5, 4.0)} for i in (1, 2)}
    given = {"params": variables["params"], "batch_stats": {"projector": stats}}
    x = images.mean((1, 2))
    for layers in (0, 1, 2, 3, -1):
        if layers == 3:
            x = x @ head["linear3"]["kernel"]
        elif layers in (1, 2):
            x = np.maximum((x @ head[f"linear{layers}"]["kernel"] - 0.2) / np.sqrt(4 + 1e-5), 0)
        np.testing.assert_allclose(network.apply(given, images, layers, method="encode"), x, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("head", "layers", "depth"), [(MLP(4, 5, 3), 4, 3), (MLP(4, 5, 3), -2, 3), (None, 1, 0)])
def test_encode_names_how_many_layers_there_are(head, layers, depth):
    network = Network(Mean("none"), head)
    variables = initialize(network, views((2, 1, 4, 4)))
    with pytest.raises(UserError, match=f"through {layers} layers of a projector with {depth}"):
        network.apply(variables, *views((2, 4, 4)), layers, method="encode")


def test_outputs_but_patches_are_float32_whatever_it_computes_in():
    network = Network(
        ResNet((1,), widths=(8,), stem_width=8, dtype="bfloat16"),
        MLP(4, 8, dtype="bfloat16"),
        Prototypes(6, dtype="bfloat16"),
    )
    outputs, state = train(network, views((2, 2, 8, 8)))
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs._replace(patches=()), state))} == {jnp.dtype("float32")}
    assert outputs.patches[0].dtype == jnp.bfloat16


@pytest.mark.parametrize("passes", ["view", "resolution"])
def test_a_sharded_batch_is_never_gathered(passes):
    network = Network(ResNet((1, 1), widths=(8, 8), stem_width=8, stem="3x3"), MLP(4, 8), passes=passes)
    x = views((16, 2, 8, 8), (16, 2, 4, 4))
    variables = initialize(network, x)
    step = jax.jit(lambda x: network.apply(variables, x, train=True, mutable=["batch_stats"]))
    expected, _ = step(x)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
    compiled = step.lower(sharded).compile()
    assert "all-reduce" in compiled.as_text()
    assert not any(name in compiled.as_text() for name in ("all-gather", "all-to-all", "collective-permute"))
    outputs, _ = compiled(sharded)
    np.testing.assert_allclose(outputs.projection, expected.projection, rtol=1e-4, atol=1e-4)


VIT = ViT(patch=4, size=8, dim=16, depth=2, heads=2)


def test_the_options_of_a_pass_do_not_touch_the_parameters():
    x = views((8, 2, 8, 8))
    network = Network(VIT, MLP(4, 8))
    changed = network.clone(chunks=4, scan_views=True, remat=True)
    chex.assert_trees_all_equal(initialize(changed, x), initialize(network, x))


def test_a_loop_over_views_moves_running_statistics_from_view_to_view():
    x = views((4, 3, 6, 6))
    x = (x[0] * jnp.asarray([1.0, 5.0, 2.0])[None, :, None, None, None],)
    chex.assert_trees_all_close(
        train(Network(Mean(), scan_views=True), x), train(Network(Mean()), x), rtol=1e-4, atol=1e-6
    )


def test_a_chunk_has_batch_statistics_of_its_own():
    (x,) = views((4, 1, 6, 6))
    outputs, _ = train(Network(Mean(), chunks=2), (x,))
    for chunk in range(2):
        np.testing.assert_allclose(outputs.features[chunk::2, 0].mean(0), np.zeros(3), atol=1e-5)


def test_chunks_that_do_not_divide_the_rows_are_refused():
    network, x = Network(VIT, chunks=3), views((4, 2, 8, 8))
    with pytest.raises(UserError, match=r"4 images .* 3 equal pieces; set network\.chunks"):
        network.apply(initialize(network, x), x, train=True)


def test_unknown_passes_name_the_nearest():
    with pytest.raises(UserError, match="'view'"):
        train(Network(Mean(), passes="views"), views((2, 1, 4, 4)))
