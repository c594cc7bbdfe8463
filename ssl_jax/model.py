"""A trained network with all that it takes to embed images: `load(workdir).embed(images)`."""

import dataclasses
import functools
import math
import os
import typing
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import traverse_util
from flax.errors import FlaxError
from ml_collections import ConfigDict
from PIL import Image

from ssl_jax import augment, checkpoint, data, parallel, schema
from ssl_jax.build import build_method
from ssl_jax.data.image import rgb
from ssl_jax.errors import UserError
from ssl_jax.evaluate.features import Encode, center_encoder, layers
from ssl_jax.method import ClassCount, ImageCount, Method, PyTree, Schedule, Steps, Variables
from ssl_jax.networks import Network
from ssl_jax.run import build_recipes, reading
from ssl_jax.teacher import Teacher
from ssl_jax.workdir import Opened, open_run

ADVICE = "name the workdir of a trained run"
BATCH = 64  # images at a time


class Weights(NamedTuple):
    """What a method needs to represent images, as host arrays."""

    params: PyTree
    state: Any  # of the method; its memories and queues are left out


@dataclasses.dataclass(frozen=True, eq=False)
class Model:
    """A trained network, and how it is shown images.

    Attributes:
        method: what represents images. Its hyper-parameters that play no part in that are not set.
        weights: its parameters and state.
        recipe: the colour space of images.
        size: side in pixels of the centre crop that the network sees.
        canvas: side in pixels of the square that images are fitted into first.
        crop: fraction of the shorter side that the crop shows, see `augment.center`.
        feature: what `embed` returns by default, "backbone", "projection" or "hidden:K".
        origin: where the weights are from, for messages.
    """

    method: Method
    weights: Weights
    recipe: augment.Recipe
    size: int
    canvas: int
    crop: float
    feature: str
    origin: str

    @property
    def network(self) -> Network:
        """The network, a Flax module."""
        return self.method.network

    @property
    def variables(self) -> Any:
        """What the network's `apply` takes, `{"params": ..., "batch_stats": ...}`.

        A method that trains several networks has a tuple of these.
        """
        networks = self.method.networks(*self.weights)
        found = tuple({"params": one.params, "batch_stats": one.stats} for one in networks)
        return found[0] if len(found) == 1 else found

    def embed(self, images: Sequence[np.ndarray | Image.Image] | np.ndarray, feature: str | None = None) -> np.ndarray:
        """Returns the features of images, float32 [N, D], as evaluation during training sees them.

        All devices share the work. The first call for a feature compiles a program.

        Args:
            images: N images of any sizes, each uint8 [H, W, 3] or a PIL image.
            feature: "backbone", "projection" or "hidden:K", the output of the Kth hidden layer of the projector; None:
                `Model.feature`.

        Raises:
            UserError: if an image is something else, there is none, or the network does not have the feature.
        """
        return np.concatenate(list(self.embed_source(Pictures(images), feature)))

    def embed_source(
        self, source: Any, feature: str | None = None, start: int = 0, stop: int | None = None
    ) -> Iterator[np.ndarray]:
        """Yields the features of the images start, ..., stop - 1 of a source, in their order, a batch at a time.

        Args:
            source: a `data.Source`, of which the fields, the length and the examples are used.
            feature: see `embed`.
            start: position of the first image.
            stop: position after the last; None: that of the end.

        Returns:
            A generator of float32 [B, D].
        """
        encode, mesh = self.program(feature), self.mesh
        stop = len(source) if stop is None else stop
        shards = parallel.row_shards(mesh)
        most = -(-min(BATCH * shards, stop - start) // shards)
        size = shards * 2 ** math.ceil(math.log2(most))  # of few sizes, since each is compiled

        def order(step):
            index = start + step * size + np.arange(size, dtype=np.int32)
            return np.where(index < stop, index, -1)

        rows = parallel.local_rows(mesh, size)
        steps = -(-(stop - start) // size)
        for step, raw in enumerate(data.batches(source, order, self.canvas, 0, steps, rows)):
            shown = parallel.scatter(mesh, {name: raw[name] for name in ("image", "box")})
            found = parallel.gather(encode(self.everywhere, shown)["embedding"])
            yield found[: stop - start - step * size]

    def encoder(self, mesh: jax.sharding.Mesh, layers: dict[str, int]) -> Encode:
        """Returns a compiled function of `Weights` on the mesh and a raw batch, see `evaluate.features.encoder`."""
        return center_encoder(self.method, self.recipe, self.size, self.crop, mesh, layers)

    @functools.cached_property
    def mesh(self) -> jax.sharding.Mesh:
        """All devices."""
        return parallel.make_mesh()

    @functools.cached_property
    def everywhere(self) -> Weights:
        """The weights on all devices."""
        return parallel.replicate(self.mesh, self.weights)

    def program(self, feature: str | None) -> Encode:
        """Returns the compiled encoder of a feature, under the name `embedding`."""
        name, known = layers(self.method, feature or self.feature, "the feature")
        if name not in self.programs:
            self.programs[name] = self.encoder(self.mesh, {"embedding": known[name]})
        return self.programs[name]

    @functools.cached_property
    def programs(self) -> dict[str, Encode]:
        """The compiled encoder of each feature that was asked for."""
        return {}


class Pictures:
    """Images in memory, as a source has them.

    Args:
        images: uint8 [H, W, 3] or PIL images.

    Raises:
        UserError: if there is no image, or one is something else.
    """

    def __init__(self, images: Sequence[np.ndarray | Image.Image] | np.ndarray):
        if not hasattr(images, "__len__") or isinstance(images, str):
            kind = type(images).__name__
            raise UserError(f"the images are one {kind}; give a list of PIL images or of uint8 arrays, [image] for one")
        self.images, self.fields = images, data.image_fields()
        if not len(images):
            raise UserError("there are no images to embed")
        for i, image in enumerate(images):
            check_picture(i, image)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> dict[str, Any]:
        image = self.images[i]
        return {"image": rgb(image) if isinstance(image, Image.Image) else np.asarray(image), "label": -1}


def check_picture(i: int, image: Any) -> None:
    """Checks that an image is one that `Model.embed` takes."""
    if isinstance(image, Image.Image):
        return
    kind = f"{image.dtype}{list(image.shape)}" if hasattr(image, "dtype") else type(image).__name__
    if not kind.startswith("uint8") or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UserError(f"image {i} is {kind}; give a list of PIL images or of uint8 arrays [height, width, 3]")


def load(workdir: str | os.PathLike) -> Model:
    """Loads the network of a run at its latest checkpoint, for any number of devices; the training images play no part.

    Args:
        workdir: the workdir of the run.

    Raises:
        UserError: if there is no run in the workdir, it has no whole checkpoint yet, or that is of another network.
    """
    opened = open_run(workdir, ADVICE)
    config = schema.complete(opened.config)
    recipes = build_recipes(config)
    method = representing(config, recipes[-1])
    feature, _ = layers(method, config.evaluate.get("feature"))
    # A run whose images are all smaller has a smaller canvas, on which it sees them alike.
    how = recipes[-1], config.data.size, reading(config, recipes).wanted, config.evaluate.crop, feature
    model = Model(method, read(opened, method), *how, f"{opened.checkpoints.parent} at step {opened.step:,}")
    check_weights(model)
    return model


def check_weights(model: Model) -> None:
    """Checks that the weights are of the network that the config describes, which only a trace tells.

    Raises:
        UserError: if they are of another one.
    """
    image = jax.ShapeDtypeStruct((1, model.size, model.size, 3), np.float32)
    try:
        jax.eval_shape(model.method.features, *model.weights, image)
    except FlaxError as error:
        what = str(error).split(" (http")[0]
        raise UserError(f"the weights of {model.origin} are not of the network in its config.json ({what})") from error


def representing(config: ConfigDict, recipe: augment.Recipe) -> Method:
    """Builds a method that represents images and does no more, so that it needs neither images, steps nor a teacher."""
    grid = next((group.grid for group in recipe.groups if group.grid), None)
    from_data = {ImageCount: 0, ClassCount: 0, augment.Grid | None: grid}
    as_written = dict.fromkeys((Schedule, Steps), lambda value: value)
    return build_method(config, schema.method_class(config), from_data, as_written | {Teacher: lambda folder: None})


def read(opened: Opened, method: Method) -> Weights:
    """Reads the weights of a method, but not what grows with the number of images or keys."""
    left_out = tuple(f"state/{name}/" for name in (*method.memories, *method.queues))
    names = [
        name
        for name in checkpoint.array_names(opened.checkpoints, opened.step)
        if name.startswith(("params/", "state/")) and not f"{name}/".startswith(left_out)
    ]
    table = checkpoint.read_arrays(opened.checkpoints, opened.step, names)
    tree = traverse_util.unflatten_dict(table, sep="/")
    kinds, state = typing.get_type_hints(method.State), tree.get("state", {})
    fields = {name: restored(state.get(name, {}), kinds[name]) for name in method.State._fields}
    return Weights(tree["params"], method.State(**fields))


def restored(tree: Any, kind: Any) -> Any:
    """Returns a field of a state, of a kind, from the nested dicts of its paths, which lack what is empty."""
    if kind is Variables:
        return Variables(**{"params": {}, "stats": {}} | tree)
    if typing.get_origin(kind) is tuple:
        return tuple(tree[name] for name in sorted(tree, key=int))
    return tree
