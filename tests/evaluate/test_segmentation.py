"""Attention becomes masks as in DINO's code, and these are compared with the masks of images."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import ROOT, overrides

from ssl_jax import data, parallel
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.evaluate.segmentation import jaccard, most_attended, segmentation
from ssl_jax.fields import fields
from ssl_jax.networks import Network, ViT
from ssl_jax.patches import enlarge

RNG = np.random.default_rng(0)
SIDE, PATCH = 16, 8


def attention(*shape):
    return RNG.dirichlet(np.full(49, 0.3), shape)


def visualize_attention(attention, mass):
    """The masks of DINO's visualize_attention.py, for the attention [heads, S] of one image."""
    order = np.argsort(attention, axis=1)
    ascending = np.take_along_axis(attention, order, axis=1)
    kept = np.cumsum(ascending / ascending.sum(1, keepdims=True), axis=1) > 1 - mass
    return np.take_along_axis(kept, np.argsort(order, axis=1), axis=1)


@pytest.mark.parametrize("mass", [0.3, 0.6, 0.9])
def test_masks_are_those_of_dino_s_code(mass):
    weights = attention(5, 4)
    found = most_attended(jnp.asarray(3 * weights), mass)
    np.testing.assert_array_equal(found, [visualize_attention(one, mass) for one in weights])


def test_a_mask_holds_the_mass_with_the_fewest_patches():
    weights = attention(50)
    kept = np.asarray(most_attended(jnp.asarray(weights), 0.6))
    for one, mask in zip(weights, kept, strict=True):
        assert one[mask].min() > one[~mask].max()
        assert one[mask].sum() > 0.6 > one[mask].sum() - one[mask].min()


def test_jaccard_counts_the_pixels_that_are_shared():
    masks, truths = RNG.random((2, 20, 6, 7)) < 0.5
    for ours, mask, truth in zip(jaccard(jnp.asarray(masks), jnp.asarray(truths)), masks, truths, strict=True):
        a, b = ({*zip(*np.nonzero(one), strict=True)} for one in (mask, truth))
        np.testing.assert_allclose(ours, len(a & b) / len(a | b), rtol=1e-6)
    whole, none = jnp.ones((2, 2), bool), jnp.zeros((2, 2), bool)
    assert [float(jaccard(whole, x)) for x in (whole, none)] == [1, 0]


def test_values_of_patches_lie_where_the_patches_do():
    picture = enlarge(np.arange(6.0), 4, 2)
    np.testing.assert_array_equal(picture[::2, ::2], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(picture[1::2, 1::2], picture[::2, ::2])
    np.testing.assert_array_equal(enlarge(jnp.arange(6.0), 4, 2), picture)


class Bright(ViT):
    """Its second head attends to bright patches, the first to dark ones."""

    def attended(self, x, block=-1):
        rows = x.reshape(len(x), SIDE // PATCH, PATCH, SIDE // PATCH, PATCH, 3).mean((2, 4, 5)).reshape(len(x), -1)
        return jax.nn.softmax(jnp.stack([-20 * rows, 20 * rows], axis=1))


class Squares:
    """Images that are bright in one patch, the last of them with an empty mask, which must not count."""

    name, classes = "squares", None
    fields = data.image_fields(("mask",))

    def __init__(self, size, last):
        self.labels, self.last = [-1] * size, last

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        top, left = PATCH * (i % 2), PATCH * (i // 2 % 2)
        mask[top : top + PATCH, left : left + PATCH] = 255
        image = np.repeat(mask[:, :, None], 3, axis=2)
        return {"image": image, "mask": mask if i < len(self) - 1 else np.full_like(mask, self.last), "label": -1}


@pytest.fixture(scope="module")
def run():
    made = build(load(str(ROOT / "configs" / "mae.py"), overrides("mae")))
    encoder = made.method.network.encoder
    bright = Bright(**{name: getattr(encoder, name) for name in fields(ViT, without=("parent", "name"))})
    return dataclasses.replace(made, method=dataclasses.replace(made.method, network=Network(bright)))


def measure(run, source):
    mesh = parallel.make_mesh()
    key = jax.random.key(0)
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), run.example_batch)
    return segmentation(run, mesh, source, *jax.jit(run.method.init)(key, batch))


@pytest.mark.parametrize("last", [0, 255])
def test_attention_to_what_a_mask_shows_agrees_at_the_best_head(run, last):
    found = measure(run, Squares(22, last))
    assert (found["images"], found["heads"], found["source"]) == (21, 2, "squares")
    np.testing.assert_allclose([found["jaccard"], found["whole_jaccard"]], [100, 25], rtol=1e-6)


def test_images_without_masks_are_named(run):
    with pytest.raises(UserError, match="no image of squares has a mask that is neither empty nor the whole image"):
        measure(run, Squares(1, 255))
