"""Extracts the features of a fixed sample of images on a mesh."""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.method import Method, apply, encode
from ssl_jax.run import Run
from ssl_jax.words import number_of

Encode = Callable[[Any, dict[str, jax.Array]], Any]  # state, batch -> tree of arrays [B, ...]


class Features(NamedTuple):
    """Features in the order of their sample, split over the mesh by rows, with padding at the end."""

    x: jax.Array  # [N, D], or what else is extracted of an image
    label: jax.Array  # int32 [N], -1: unknown
    position: jax.Array  # int32 [N], in the sample; -1: padding


class Sample:
    """A fixed sample of a source: the same images, in the same order, whatever the mesh.

    It is read once, in the first pass, if it takes at most `data.host_bytes`, else in every pass.

    Args:
        run: the run, which sets the batch size and the canvas.
        mesh: the devices.
        source: the source of the images.
        limit: the size of the sample; if the source has more images, they are drawn with a fixed seed.
    """

    def __init__(self, run: Run, mesh: jax.sharding.Mesh, source: data.Source, limit: int):
        self.run, self.mesh = run, mesh
        order = np.random.default_rng(0).permutation(len(source))[:limit]
        self.images = data.Subset(source, np.sort(order))

    @functools.cached_property
    def cache(self) -> list[dict[str, np.ndarray]] | None:
        """This process's share of all batches; None if it is too large to be kept."""
        fits = data.fits(self.images, self.run.canvas, self.run.config.data.host_bytes)
        return list(self.read()) if fits else None

    def __len__(self) -> int:
        return len(self.images)

    def read(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields this process's share of the batches.

        The rows of one device, concatenated over all batches, are a contiguous part of the sample.
        """
        shards = parallel.row_shards(self.mesh)
        size = -(-self.run.batch_size // shards) * shards  # there may be other devices than in training
        steps = -(-len(self) // size)
        index = np.arange(steps * size, dtype=np.int32)
        index[len(self) :] = -1
        batches = index.reshape(shards, steps, size // shards).swapaxes(0, 1).reshape(steps, size)
        rows = parallel.local_rows(self.mesh, size)
        workers = self.run.config.data.workers
        return data.batches(self.images, batches.__getitem__, self.run.canvas, 0, steps, rows, workers)

    def image(self, i: int) -> np.ndarray:
        """Returns one image, uint8 [H, W, 3], at most as large as the canvas."""
        batch = data.read(self.images, np.array([i]), self.run.canvas)
        _, _, height, width = batch["box"][0]
        return batch["image"][0, :height, :width]


def extract(encode: Encode, state: Any, sample: Sample) -> dict[str, Features]:
    """Encodes a sample in one pass.

    Args:
        encode: a compiled function of the state and a raw batch, see `data.read`; returns arrays [B, D] by name.
        state: of the run.
        sample: what to encode.

    Returns:
        `Features` under each of the names.
    """
    parts, encode = [], parallel.paced(encode)
    for batch in sample.cache or sample.read():
        rows = parallel.scatter(sample.mesh, batch)
        encoded = encode(state, rows)
        parts.append((encoded, rows["label"], rows["index"]))
    encoded, label, position = parallel.concatenate(sample.mesh, parts)
    return {name: Features(x, label, position) for name, x in encoded.items()}


def encoder(run: Run, mesh: jax.sharding.Mesh, layers: dict[str, int], size: int | None = None) -> Encode:
    """Returns a compiled function that encodes a batch of centre crops, for `extract`.

    Args:
        run: the run whose method encodes.
        mesh: the devices.
        layers: name of features -> number of layers of the projector to apply, see `Method.represent`.
        size: side in pixels of the crops; None: `data.size`.
    """
    side, crop = size or run.config.data.size, run.config.evaluate.crop
    return center_encoder(run.method, run.recipe, side, crop, mesh, layers)


def center_encoder(
    method: Method, recipe: augment.Recipe, size: int, crop: float, mesh: jax.sharding.Mesh, layers: dict[str, int]
) -> Encode:
    """Returns an `encoder` of a method that need not belong to a run.

    Args:
        method: what encodes.
        recipe: its colour space is used.
        size: side in pixels of the crops.
        crop: fraction of the shorter side of an image that they show.
        mesh: the devices.
        layers: see `encoder`.
    """

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(mesh))
    def encode(state, batch):
        images = augment.center(recipe, batch, size, crop)
        return {name: method.represent(state.params, state.state, images, n) for name, n in layers.items()}

    return encode


def adapted_encoder(run: Run, sample: Sample, state: Any, layers: dict[str, int], size: int) -> Encode:
    """Returns an `encoder` at an image size whose BatchNorms have running statistics that are estimated there.

    Args:
        run: the run whose method encodes.
        sample: the images that the statistics are estimated on, in whole batches.
        state: of the run.
        layers: see `encoder`.
        size: side in pixels of the crops.
    """
    network = run.method.network

    def crops(batch):
        return augment.center(run.recipe, batch, size, run.config.evaluate.crop)

    @parallel.paced
    @jax.jit
    def move(variables, batch):
        _, stats = apply(network, variables, Views([crops(batch)[:, None]]))
        whole = jnp.all(batch["index"] >= 0)  # known to every process only here
        return variables._replace(stats=jax.tree.map(functools.partial(jnp.where, whole), stats, variables.stats))

    variables = run.method.variables(state.params, state.state)
    for batch in sample.cache or sample.read():
        variables = move(variables, parallel.scatter(sample.mesh, batch))

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(sample.mesh))
    def encode_batch(variables, batch):
        return {name: encode(network, variables, crops(batch), n) for name, n in layers.items()}

    return lambda state, batch: encode_batch(variables, batch)


def pixels(run: Run, mesh: jax.sharding.Mesh, size: int) -> Encode:
    """Returns a compiled function whose only features, `pixels`, are centre crops of at most this size."""

    @functools.partial(jax.jit, out_shardings=parallel.batch_sharding(mesh))
    def encode(state, batch):
        side = min(run.config.data.size, size)
        images = augment.center(run.recipe, batch, side, run.config.evaluate.crop)
        return {"pixels": images.reshape(len(images), -1)}

    return encode


def layers(method: Method, feature: str | None = None, key: str = "evaluate.feature") -> tuple[str, dict[str, int]]:
    """Returns which features of a method to evaluate.

    Args:
        method: a method, with or without a projector.
        feature: "backbone", "projection" or "hidden:K", the output of the Kth hidden layer of the projector; None: what
            the method's paper uses.
        key: what errors call the feature.

    Returns:
        The name of the chosen features; and for these, the backbone and the projection, the number of layers of the
        projector to apply. Without a projector there is only the backbone.

    Raises:
        UserError: if the method does not have the features.
    """
    feature = feature or method.feature
    projector = method.network.projector
    depth = 0 if projector is None else projector.layers
    known = {"backbone": 0} | ({"projection": depth} if depth else {})
    if feature == "projection" and not depth:
        feature = "backbone"  # the projection is the head's output; without a head, the features
    if hidden := re.fullmatch(r"hidden:(\d+)", feature):
        number = int(hidden[1])
        if not 0 < number < depth:
            raise UserError(
                f"{key} is {feature!r}, but the projector has {number_of(max(0, depth - 1), 'hidden layer')}; "
                "set it to backbone, projection or hidden:K with K from 1 to that number"
            )
        known |= {feature: number}
    if feature not in known:
        raise UserError(f"{key} is {feature!r}; set it to backbone, projection or hidden:K")
    return feature, known


def leading(mesh: jax.sharding.Mesh, x: jax.Array, count: int) -> jax.Array:
    """Returns the first `count` rows of an array that is split by rows, on one device of each process."""
    return jnp.asarray(parallel.gather(head(mesh, count)(x)))


@functools.cache
def head(mesh: jax.sharding.Mesh, count: int):
    """Returns a compiled function that replicates the first `count` rows of an array on every device."""
    return jax.jit(lambda x: x[:count], out_shardings=parallel.replicated(mesh))
