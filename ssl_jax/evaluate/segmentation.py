"""Attention as a segmentation: how well what a vision transformer attends to agrees with the masks of images."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import Encode, Sample, extract
from ssl_jax.method import PyTree, Variables, look
from ssl_jax.networks import ViT
from ssl_jax.patches import enlarge
from ssl_jax.run import Run

MASS = 0.6  # share of the attention that a mask keeps


def attends(run: Run) -> bool:
    """Returns whether the encoder of a run has attention."""
    return isinstance(run.method.network.encoder, ViT)


def most_attended(attention: jax.Array, mass: float = MASS) -> jax.Array:
    """Returns the fewest patches that hold at least a share of the attention.

    Args:
        attention: [..., S], not negative; it need not sum to 1.
        mass: the share, in (0, 1).

    Returns:
        bool [..., S].

    Source: Caron et al. 2021 (DINO, arXiv:2104.14294), figure 4.
    """
    order = jnp.argsort(attention, axis=-1)
    total = jnp.cumsum(jnp.take_along_axis(attention, order, axis=-1), axis=-1)
    kept = total > (1 - mass) * total[..., -1:]
    return jnp.take_along_axis(kept, jnp.argsort(order, axis=-1), axis=-1)


def jaccard(mask: jax.Array, truth: jax.Array) -> jax.Array:
    """Returns the Jaccard index [...] of masks, bool [..., H, W]: shared pixels over all pixels of both."""
    shared, either = (jnp.sum(x, axis=(-2, -1)).astype(jnp.float32) for x in (mask & truth, mask | truth))
    return shared / jnp.maximum(either, 1)


def segmentation(
    run: Run, mesh: jax.sharding.Mesh, source: data.Source, params: PyTree, state: Any
) -> dict[str, float | int | str]:
    """Compares the attention of a vision transformer with the masks of images, at the best head of each image.

    Images whose mask is empty or the whole image do not count.

    Args:
        run: the run that trained it.
        mesh: the devices.
        source: images with masks; of more than `evaluate.test`, a sample is used.
        params: of the method, on the mesh.
        state: of the method, on the mesh.

    Returns:
        Mean Jaccard indices in percent: `jaccard`, `random_jaccard` of the same network with random weights and
        `whole_jaccard` of a mask that is the whole image; and what was measured.

    Raises:
        UserError: if no image has a mask.

    Source: Caron et al. 2021 (DINO, arXiv:2104.14294), section 4.2.2 and figure 4.
    """
    found = extract(scorer(run, mesh), (params, state), Sample(run, mesh, source, run.config.evaluate.test))["scores"]
    scores, position = parallel.gather((found.x, found.position))
    scores = scores[(position >= 0) & (scores[:, -1] > 0) & (scores[:, -1] < 1)]
    if not len(scores):
        raise UserError(
            f"no image of {source.name} has a mask that is neither empty nor the whole image; name other images"
        )
    names = "jaccard", "random_jaccard", "whole_jaccard"
    means = dict(zip(names, (100 * np.mean(scores, axis=0, dtype=float)).tolist(), strict=True))
    return means | {
        "images": len(scores),
        "source": source.name,
        "mass": MASS,
        "heads": run.method.network.encoder.heads,
    }


def scorer(run: Run, mesh: jax.sharding.Mesh) -> Encode:
    """Returns a compiled function for `extract`, of the parameters and the state of the method and of a batch.

    Its `scores` [B, 3] are the Jaccard indices of the best head, as trained and with random weights, and the share of
    the image that its mask covers.
    """
    network, size, crop = run.method.network, run.config.data.size, run.config.evaluate.crop

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(mesh))
    def score(trained, batch):
        params, state = trained
        truth = augment.center_mask(batch, size, crop)
        variables, images = run.method.seen(params, state, augment.center(run.recipe, batch, size, crop))
        random = network.init(jax.random.key(run.config.seed), images[:1], method="encoding")

        def best(variables):
            masks = most_attended(look(network, variables, "attended", images))
            return jnp.max(jaccard(enlarge(masks, size, network.encoder.stride), truth[:, None]), axis=1)

        both = best(variables), best(Variables(random["params"], random.get("batch_stats", {})))
        return {"scores": jnp.stack([*both, jnp.mean(truth, axis=(1, 2))], axis=1)}

    return score
