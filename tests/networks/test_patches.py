"""Patches: another patch size through the same kernel, and the convolutional stem."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ssl_jax.networks import ViT
from ssl_jax.networks.patches import ConvolutionalStem, Projection, resize_kernel

RNG = np.random.default_rng(0)


def bilinear(image, side):
    """A square image [S, S, ...] resized bilinearly: half-pixel centres, the border repeated, no antialiasing."""
    old = len(image)
    resized = np.zeros((side, side, *image.shape[2:]))
    for row in range(side):
        for column in range(side):
            y, x = (min(max((i + 0.5) * old / side - 0.5, 0), old - 1) for i in (row, column))
            top, left = int(y), int(x)
            bottom, right = min(top + 1, old - 1), min(left + 1, old - 1)
            upper = image[top, left] * (left + 1 - x) + image[top, right] * (x - left)
            lower = image[bottom, left] * (left + 1 - x) + image[bottom, right] * (x - left)
            resized[row, column] = upper * (top + 1 - y) + lower * (y - top)
    return resized


def flexivit(kernel, new):
    """A kernel [p, p, C, D] as in the paper: the pseudo-inverse of the whole matrix of a resize, transposed."""
    old = len(kernel)
    basis = np.eye(old * old).reshape(old, old, -1)
    matrix = bilinear(basis, new).reshape(new * new, -1)
    flat = np.linalg.pinv(matrix.T) @ kernel.reshape(old * old, -1)
    return flat.reshape(new, new, *kernel.shape[2:])


@pytest.mark.parametrize("new", [2, 3, 4, 5, 8])
def test_a_resized_kernel_is_that_of_the_paper(new):
    kernel = RNG.normal(size=(4, 4, 3, 5))
    ours = resize_kernel(jnp.asarray(kernel.reshape(-1, 5), jnp.float32), 4, new)
    np.testing.assert_allclose(ours, flexivit(kernel, new).reshape(-1, 5), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("new", [6, 8, 11])
def test_larger_patches_are_seen_as_before(new):
    kernel, patch = RNG.normal(size=(48, 5)), RNG.normal(size=(4, 4, 3))
    resized = resize_kernel(jnp.asarray(kernel, jnp.float32), 4, new)
    np.testing.assert_allclose(bilinear(patch, new).reshape(-1) @ resized, patch.reshape(-1) @ kernel, rtol=1e-3)


def test_a_projection_is_a_convolution_whose_stride_is_its_kernel(key):
    x = jnp.asarray(RNG.normal(size=(2, 8, 12, 3)), jnp.float32)
    model = Projection(5, 4, 4, jax.nn.initializers.normal())
    variables = model.init(key, x)
    params = jax.tree.map(lambda leaf: leaf + 0.1, variables["params"])
    kernel = params["kernel"].reshape(4, 4, 3, 5)
    expected = jax.lax.conv_general_dilated(x, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    ours = model.apply({"params": params}, x)
    np.testing.assert_allclose(ours, expected + 0.1, rtol=1e-4, atol=1e-5)


def test_a_vit_sees_an_enlarged_image_in_larger_patches_as_the_image_itself(key):
    """With the same parameters: each enlarged patch gives the same token, and the grid and its positions stay."""
    tiny = {"patch": 4, "size": 16, "dim": 16, "depth": 1, "heads": 2}
    image = RNG.normal(size=(1, 16, 16, 3)).astype(np.float32)
    patches = image.reshape(4, 4, 4, 4, 3).swapaxes(1, 2)
    larger = np.stack([[bilinear(patches[i, j], 8) for j in range(4)] for i in range(4)])
    larger = jnp.asarray(larger.swapaxes(1, 2).reshape(1, 32, 32, 3), jnp.float32)
    variables = jax.jit(ViT(**tiny).init)(key, jnp.asarray(image))
    flexible = ViT(**tiny, view_patch=8)
    assert jax.eval_shape(flexible.init, key, larger) == jax.eval_shape(lambda: variables)
    assert flexible.stride == 8
    one, other = (jax.jit(m.apply)(variables, x) for m, x in ((ViT(**tiny), image), (flexible, larger)))
    np.testing.assert_allclose(one.patches, other.patches, rtol=1e-3, atol=1e-4)
    assert one.grid == other.grid == (4, 4)
    assert jax.eval_shape(flexible.apply, variables, image).grid == (2, 2)


@pytest.mark.parametrize(("patch", "widths"), [(16, [4, 8, 16, 32]), (4, [16, 32]), (2, [32])])
def test_a_convolutional_stem_halves_the_image_until_it_has_the_grid_of_the_patches(key, patch, widths):
    model = ConvolutionalStem(32, patch)
    x = jnp.zeros((2, 32, 16, 3))
    output, variables = jax.eval_shape(lambda: model.init_with_output(key, x, train=True))
    assert output.shape == (2, 32 // patch, 16 // patch, 32)
    params = variables["params"]
    assert [params[f"conv{i}"]["kernel"].shape[-1] for i in range(1, len(widths) + 1)] == widths
    assert set(params) == {f"{kind}{i + 1}" for kind in ("conv", "norm") for i in range(len(widths))} | {"out"}


def test_a_vit_with_a_convolutional_stem_normalises_by_the_batch_in_training_alone(key):
    model = ViT(patch=4, size=8, dim=16, depth=1, heads=2, stem="conv", positions="sincos_rows")
    x = jnp.asarray(RNG.normal(size=(4, 8, 8, 3)), jnp.float32)
    variables = jax.jit(model.init)(key, x)
    assert "patch" not in variables["params"]
    train = jax.jit(lambda x: model.apply(variables, x, train=True, mutable=["batch_stats"]))
    encoding, changed = train(x)
    scaled, _ = train(3 * x)  # which a BatchNorm behind a linear map undoes
    np.testing.assert_allclose(encoding.pooled, scaled.pooled, atol=1e-3)
    still = jax.jit(model.apply)
    assert not np.allclose(still(variables, x).pooled, still(variables, 3 * x).pooled, atol=1e-2)
    means = changed["batch_stats"]["stem"]["norm1"]["mean"], variables["batch_stats"]["stem"]["norm1"]["mean"]
    assert not np.allclose(*means, atol=1e-5)
