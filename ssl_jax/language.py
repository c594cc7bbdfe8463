"""Shared by methods that match images and texts: the text's embedding, the learned scale and the loss."""

import math
from typing import Annotated, Any

import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError
from ssl_jax.fields import one_of
from ssl_jax.losses import image_text_sigmoid, image_text_softmax
from ssl_jax.method import Batch, PyTree, Variables, look
from ssl_jax.networks import Network, TextTower, ViT
from ssl_jax.numeric import l2_normalize

OBJECTIVES = ("softmax", "sigmoid")
Objective = Annotated[str, one_of(OBJECTIVES)]
FIRST_SCALE = {"softmax": 1 / 0.07, "sigmoid": 10.0}
FIRST_BIAS = -10.0  # of "sigmoid"
MOST = 100.0  # a larger scale makes training unstable (CLIP, arXiv:2103.00020, section 2.5)


def check_pairs(network: Network, text: TextTower, batch: Batch) -> None:
    """Checks that images and texts can be compared.

    Raises:
        UserError: if there are no texts, or the networks do not fit each other.
    """
    if "text" not in batch:
        raise UserError("the method learns from captions, and the images have none; set data.source=pairs:/path")
    output = getattr(network.projector, "output", None)
    if output != text.output:
        raise UserError(
            f"network.projector.output is {output} and text.output {text.output}; set both to the same number"
        )
    encoder: Any = network.encoder
    if not text.depth and not (isinstance(encoder, ViT) and encoder.dim == text.dim):
        raise UserError(
            "text.depth is 0, so texts go through the blocks of the image encoder; set network.encoder.name to a "
            "vision transformer and text.dim to its dim"
        )


def first_text(text: TextTower, key: jax.Array, batch: Batch) -> PyTree:
    """Returns the parameters of a text tower."""
    return text.init(key, batch["text"][:1])["params"]


def embed_text(network: Network, text: TextTower, params: PyTree, tokens: jax.Array) -> jax.Array:
    """Returns the embeddings [N, E] of texts, as they come from the projection.

    Args:
        network: of the images, whose blocks texts may share, see `TextTower`.
        text: the text tower.
        params: of the method.
        tokens: int [N, L].
    """
    encoder: Any = network.encoder
    shared = None if text.depth else encoder.blocks(params["network"]["encoder"])
    embedding: Any = text.apply({"params": params["text"]}, tokens, shared)
    return embedding


def first_scale(objective: str) -> dict[str, jax.Array]:
    """Returns the logarithm of the scale of similarities and, for "sigmoid", their bias."""
    scale = {"log": jnp.float32(math.log(FIRST_SCALE[objective]))}
    return scale if objective == "softmax" else scale | {"bias": jnp.float32(FIRST_BIAS)}


def clip_scale(scale: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """Returns the scale between 1 and 100."""
    return scale | {"log": jnp.clip(scale["log"], 0.0, math.log(MOST))}


def match(
    objective: str, scale: dict[str, jax.Array], images: jax.Array, text: jax.Array
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Matches each view of the images with the texts.

    Args:
        objective: "softmax" (CLIP) or "sigmoid" (SigLIP).
        scale: see `first_scale`.
        images: embeddings [B, V, E] of any length.
        text: embeddings [B, E] of any length.

    Returns:
        The loss, a mean over views, and metrics: `scale`; for "softmax" `uniform_loss`, the loss if all similarities
        are equal.
    """
    factor, text = jnp.exp(scale["log"]), l2_normalize(text)
    metrics = {"scale": factor}

    def loss(view):
        if objective == "sigmoid":
            return image_text_sigmoid(view, text, factor, scale["bias"])
        return image_text_softmax(view, text, factor)

    if objective == "softmax":
        metrics["uniform_loss"] = jnp.log(jnp.float32(len(text)))
    return jnp.mean(jnp.stack([loss(view) for view in jnp.unstack(l2_normalize(images), axis=1)])), metrics


def patch_similarity(network: Network, variables: Variables, images: jax.Array, text: jax.Array) -> jax.Array:
    """Returns how well each patch of an image matches each text, a picture of what a text speaks of.

    The features of a patch go through the projector as those of an image do, for which it was not trained.

    Args:
        network: of the images.
        variables: its own.
        images: [B, H, W, C], normalised.
        text: embeddings [T, E].

    Returns:
        Cosines [B, S, T] of the S patches, row by row.
    """
    patches = look(network, variables, "encoding", images).patches
    return l2_normalize(look(network, variables, "project", patches)) @ l2_normalize(text).T
