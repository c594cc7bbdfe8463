"""How well images and texts are matched: zero-shot classification, and retrieval in both directions."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.evaluate.features import Features, Sample, extract
from ssl_jax.evaluate.knn import top1
from ssl_jax.language import embed_text
from ssl_jax.numeric import l2_normalize
from ssl_jax.run import Run

RANKS = (1, 5, 10)
Embed = Callable[[np.ndarray], np.ndarray]  # tokens [N, L] -> embeddings [N, E]


def evaluate(run: Run, mesh: jax.sharding.Mesh, state: Any, sample: Sample) -> dict[str, dict[str, Any]]:
    """Evaluates a method that matches images and texts.

    Args:
        run: the run.
        mesh: the devices.
        state: of the training.
        sample: test images with captions.

    Returns:
        By protocol, in percent: with labels, `zero_shot` as `zero_shot` returns it; and `image_text_retrieval`, as
        `retrieval` returns it, for each kind of captions apart if there are several.
    """
    encoded = extract(image_encoder(run, mesh), state, sample)
    images, captions = encoded["image"], parallel.gather(encoded["text"].x)
    embed = text_encoder(run, mesh, state)
    field: Any = sample.images.fields["text"]
    results = {}
    if run.classes:
        prompts = run.config.evaluate.prompts
        classes = class_embeddings(embed, run.classes, prompts, field.context)
        results["zero_shot"] = zero_shot(images, classes) | {"prompts": list(prompts)}
    if field.kinds:
        each = {kind: captions[:, i : i + 1] for i, kind in enumerate(field.kinds)}
        results["image_text_retrieval"] = {kind: retrieval(images, x, embed, mesh) for kind, x in each.items()}
    else:
        results["image_text_retrieval"] = retrieval(images, captions, embed, mesh)
    return results


def scalars(results: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Returns the accuracies and chance levels of `evaluate` by name, to log them."""
    flat = {f"zero_shot_{name}": value for name, value in results.get("zero_shot", {}).items()}
    for name, value in results.get("image_text_retrieval", {}).items():
        flat |= {f"{name}_{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
    return {name: value for name, value in flat.items() if isinstance(value, float)}


def class_embeddings(embed: Embed, names: Sequence[str], prompts: Sequence[str], context: int) -> np.ndarray:
    """Returns an embedding of unit length for each class, [K, E]: the direction of the mean of its prompts' directions.

    Args:
        embed: the text tower.
        names: of the classes.
        prompts: texts with {} for a name.
        context: tokens of a text.

    Source: CLIP (Radford et al. 2021, arXiv:2103.00020), section 3.1.4.
    """
    texts = [prompt.format(name) for name in names for prompt in prompts]
    each = l2_normalize(jnp.asarray(embed(data.tokenize(texts, context)))).reshape(len(names), len(prompts), -1)
    return np.asarray(l2_normalize(each.mean(axis=1)))


def zero_shot(images: Features, classes: np.ndarray) -> dict[str, Any]:
    """Classifies images by the class embedding [K, E] of the nearest direction.

    Returns:
        `top1` and `chance`, that of guessing, in percent; `images`, the number of those with a label; `classes`.
    """
    scores = np.asarray(parallel.gather(images.x)) @ classes.T  # the length of an image's embedding changes no order
    labels = np.where(parallel.gather(images.position) >= 0, parallel.gather(images.label), -1)
    accuracy = top1(scores.argmax(axis=1), labels)
    return {
        "top1": accuracy,
        "chance": 100 / len(classes),
        "images": int(np.sum(labels >= 0)),
        "classes": len(classes),
    }


def retrieval(images: Features, captions: np.ndarray, embed: Embed, mesh: jax.sharding.Mesh | None) -> dict[str, Any]:
    """Finds the captions of each image among the distinct captions of all, and the images of each caption.

    A caption that several images have belongs to all of them.

    Args:
        images: embeddings of N images.
        captions: int [N, C, L], the tokens of the captions of each; those that start with 0 are not there.
        embed: the text tower.
        mesh: the devices; None: one device.

    Returns:
        For K of `RANKS` the share of queries, in percent, that find one of theirs among the K nearest, beside that of
        guessing: `image_to_text_recallK`, `image_to_text_chanceK`, `text_to_image_recallK`, `text_to_image_chanceK`;
        and the numbers of `images` and `captions`.
    """
    real = np.asarray(parallel.gather(images.position)) >= 0
    there = (captions[:, :, 0] > 0) & real[:, None]
    distinct, inverse = np.unique(captions[there], axis=0, return_inverse=True)
    number = np.full(captions.shape[:2], -1)  # of each caption among the distinct ones
    number[there] = inverse
    pairs = np.unique(np.stack([np.nonzero(there)[0], inverse]), axis=1)  # an image may have a caption twice
    relevant_texts, relevant_images = np.bincount(pairs[0], minlength=len(number))[real], np.bincount(pairs[1])

    texts = np.asarray(embed(distinct))
    texts = texts if mesh is None else parallel.replicate(mesh, texts)
    most = max(RANKS)
    found_texts = np.asarray(parallel.gather(parallel.neighbors(texts, images.x, most, None, mesh)[1]))[real]
    found_images = parallel.gather(parallel.neighbors(images.x, texts, most, images.position >= 0, mesh)[1])
    text_hits = (found_texts[:, :, None] == number[real][:, None]).any(axis=2)
    image_hits = (number[found_images] == np.arange(len(distinct))[:, None, None]).any(axis=2)
    counts = {"images": int(real.sum()), "captions": len(distinct)}
    return (
        recalls("image_to_text", text_hits, relevant_texts, counts["captions"])
        | recalls("text_to_image", image_hits, relevant_images, counts["images"])
        | counts
    )


def recalls(way: str, hits: np.ndarray, relevant: np.ndarray, candidates: int) -> dict[str, float]:
    """Returns the shares of queries, in percent, with a hit among the K nearest, and of those that guess one.

    Args:
        way: the prefix of their names.
        hits: bool [N, max(RANKS)], whether what was found is relevant, from the nearest.
        relevant: int [N], how many relevant candidates a query has.
        candidates: their number.
    """
    found = {f"{way}_recall{k}": 100 * float(hits[:, :k].any(axis=1).mean()) for k in RANKS}
    return found | {f"{way}_chance{k}": 100 * chance(relevant, candidates, k) for k in RANKS}


def chance(relevant: np.ndarray, candidates: int, k: int) -> float:
    """Returns the mean probability that K random ones of the candidates hold one of the relevant ones, int [N]."""
    drawn = np.arange(min(k, candidates))
    missed = np.maximum(candidates - relevant[:, None] - drawn[None], 0) / (candidates - drawn)[None]
    return float(1 - missed.prod(axis=1).mean())


def image_encoder(run: Run, mesh: jax.sharding.Mesh):
    """Returns a compiled function for `extract`: embeddings of centre crops, `image`, and their captions, `text`."""

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(mesh))
    def encode(state, batch):
        images = augment.center(run.recipe, batch, run.config.data.size, run.config.evaluate.crop)
        return {"image": run.method.embeddings(state.params, state.state, images), "text": batch["text"]}

    return encode


def text_encoder(run: Run, mesh: jax.sharding.Mesh, state: Any) -> Embed:
    """Returns a function that embeds texts, a batch of the run's size at a time."""
    method: Any = run.method

    @functools.partial(jax.jit, out_shardings=parallel.replicated(mesh))
    def encode(params, tokens):
        return l2_normalize(embed_text(method.network, method.text, params, tokens))

    def embed(tokens: np.ndarray) -> np.ndarray:
        rows = parallel.local_rows(mesh, run.batch_size)
        parts = []
        for start in range(0, len(tokens), run.batch_size):
            part = tokens[start : start + run.batch_size]
            padded = np.pad(part, ((0, run.batch_size - len(part)), (0, 0)))
            encoded = encode(state.params, parallel.scatter(mesh, {"text": padded[rows]})["text"])
            parts.append(np.asarray(parallel.gather(encoded))[: len(part)])
        return np.concatenate(parts)

    return embed
