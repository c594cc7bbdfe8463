"""How an encoder and its heads compose, and which views share a pass."""

from collections.abc import Callable
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, nearest
from ssl_jax.fields import positive
from ssl_jax.networks.norm import divide
from ssl_jax.numeric import widen

PASSES = ("view", "resolution")


class Outputs(NamedTuple):
    """What a network makes of each view, in the order of the input; None where there is no such head."""

    features: jax.Array  # [B, V, D] of the encoder
    projection: jax.Array | None = None  # [B, V, D] of the projector
    prediction: jax.Array | None = None  # [B, V, D] of the predictor
    patches: tuple[jax.Array, ...] = ()  # [B, V, S, C] of the encoder, one array per group of views
    dense: tuple[jax.Array, ...] = ()  # [B, V, S, D] of the dense head, one array per group; empty without that head


class Network(nn.Module):
    """An encoder, a projector on its features and a predictor on the projection.

    `passes` decides which views share a pass, and so the statistics of a BatchNorm. With "view" each view has its own
    pass through everything, and running statistics move once per view. With "resolution" all views of a group share a
    pass through the encoder, and all views of all groups one pass through the heads.

    With `chunks` the rows of a batch run in that many parts, one after the other, and the backward pass computes each
    part again: memory for activations is that of one part, at the price of another forward pass. The loss still sees
    all rows and its gradient is exact (Gao et al. 2021, arXiv:2101.06983), unless there is a BatchNorm: its statistics
    are those of a part (over all devices, "ghost" BatchNorm), and running statistics move once per part.

    Checkpoints do not depend on `chunks`, `remat` and `scan_views`: parameters are the same.

    Attributes:
        encoder: images [N, H, W, C] -> `Encoding`.
        projector: features [B, V, D] -> projection, or None.
        predictor: projection -> prediction, or None.
        dense: the encoder's patches [B, V, S, C] -> [B, V, S, D], or None.
        passes: "view" or "resolution".
        chunks: parts of a batch, a divisor of its rows; on several devices of the rows that each of them has.
        remat: whether the backward pass computes the encoder's passes again, one at a time, in place of storing their
            activations; with `chunks`, those of each part once more.
        scan_views: whether the passes per view are a loop, which is compiled once for the views of a group.
    """

    encoder: nn.Module
    projector: nn.Module | None = None
    predictor: nn.Module | None = None
    dense: nn.Module | None = None
    passes: str = "view"
    chunks: Annotated[int, positive] = 1
    remat: bool = False
    scan_views: bool = False

    def __call__(
        self, views: tuple[jax.Array, ...], train: bool = False, mask: tuple | None = None, keep: tuple | None = None
    ) -> Outputs:
        """Returns the outputs for the views.

        Args:
            views: one array [B, V, H, W, C] per group.
            train: whether BatchNorm uses and updates the statistics of the batch.
            mask: per group a bool [B, V, S], patches that the mask token replaces, or None; None: no group.
            keep: per group an int [B, V, n], the only patches the encoder sees, or None; None: no group.

        Raises:
            UserError: if `passes` is unknown, or `chunks` does not divide the rows.
        """
        if self.passes not in PASSES:
            raise UserError(f"passes cannot be {self.passes!r}; {nearest(self.passes, PASSES)}")
        divide(len(views[0]), self.chunks, "rows", "network.chunks")
        nothing = (None,) * len(views)
        groups = tuple(zip(views, mask or nothing, keep or nothing, strict=True))
        if self.chunks == 1 or self.is_initializing():
            return self.outputs(groups, train)

        def chunk(self, groups):
            return self.outputs(groups, train)

        # Row i is in chunk i % chunks, so that each device has the same share of every chunk and no row has to move.
        chunks = jax.tree.map(lambda x: x.reshape(-1, self.chunks, *x.shape[1:]), groups)
        return jax.tree.map(merge, one_by_one(nn.remat(chunk, prevent_cse=False))(self, chunks))

    def encode(self, images: jax.Array, layers: int = 0) -> jax.Array:
        """Returns the features [B, D] of images [B, H, W, C] in evaluation mode, each independent of the others.

        Args:
            images: normalised.
            layers: of the projector that the features go on through, 0 to all of them; -1: all of them. From the middle
                of the head is where SimCLR v2 fine-tunes (Chen et al. 2020, arXiv:2006.10029, section 2).

        Raises:
            UserError: if the projector has fewer layers.
        """
        depth = 0 if self.projector is None else self.projector.layers
        if not -1 <= layers <= depth:
            raise UserError(f"features cannot go on through {layers} layers of a projector with {depth}")
        features = self.encoder(images, train=False).pooled
        if layers == 0 or self.projector is None:
            return widen(features)
        stop = None if layers in (-1, depth) else layers
        return widen(self.projector(features, stop=stop))

    def outputs(self, groups, train):
        """The outputs for (views, mask, keep) of each group."""
        if self.passes == "resolution":
            return self.heads(join([self.encoded(*group, train) for group in groups]), train)
        return join([self.each_view(group, train) for group in groups])

    def each_view(self, group, train):
        """The outputs of one group, with a pass for each view."""

        def one(self, view):
            outputs = self.heads(self.encoded(*jax.tree.map(lambda x: x[:, None], view), train), train)
            return jax.tree.map(lambda x: x[:, 0], outputs)

        def view(i):
            return jax.tree.map(lambda x: x[:, i], group)

        if self.scan_views and not self.is_initializing():
            return one_by_one(one)(self, group)
        parts = [one(self, view(i)) for i in range(group[0].shape[1])]
        return jax.tree.map(lambda *arrays: jnp.stack(arrays, axis=1), *parts)

    def encoded(self, views, mask, keep, train):
        """The encoder's share of the outputs, in one pass over a group."""

        def run(self, images, mask, keep):
            encoding = self.encoder(images, train=train, mask=mask, keep=keep)
            return encoding.pooled, encoding.patches

        run = nn.remat(run) if self.remat else run
        rows = run(self, *jax.tree.map(merge, (views, mask, keep)))
        pooled, patches = (x.reshape(*views.shape[:2], *x.shape[1:]) for x in rows)
        return Outputs(pooled, patches=(patches,))

    def heads(self, outputs, train):
        """The outputs with the heads' share; what is not per patch is widened to float32."""
        projection = None if self.projector is None else self.projector(outputs.features, train=train)
        prediction = None if self.predictor is None else self.predictor(projection, train=train)
        dense = () if self.dense is None else tuple(self.dense(x, train=train) for x in outputs.patches)
        wide = jax.tree.map(widen, Outputs(outputs.features, projection, prediction, dense=dense))
        return wide._replace(patches=outputs.patches)


def merge(x):
    """[A, B, ...] as [A B, ...]."""
    return jax.lax.collapse(x, 0, 2)


def join(parts):
    """The outputs of several groups as one: per view along the axis of views, per patch side by side."""

    def concatenate(*arrays):
        return None if arrays[0] is None else jnp.concatenate(arrays, axis=1)

    whole = [concatenate(*(getattr(part, name) for part in parts)) for name in ("features", "projection", "prediction")]
    return Outputs(*whole, *(sum((getattr(part, name) for part in parts), ()) for name in ("patches", "dense")))


def one_by_one(function: Callable) -> Callable:
    """Lifts `function(module, x)` to a loop over axis 1 of all arrays, through which running statistics are carried."""

    def body(module, _, x):
        return None, function(module, x)

    loop = nn.scan(
        body,
        variable_broadcast="params",
        variable_carry="batch_stats",
        split_rngs={"drop_path": True},
        in_axes=1,
        out_axes=1,
        check_constancy_invariants=False,
    )
    return lambda module, x: loop(module, None, x)[1]
