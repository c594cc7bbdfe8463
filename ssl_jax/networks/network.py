"""How an encoder and its heads compose, and which views share a pass."""

import operator
from typing import Annotated, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment.views import Buckets, length, merge_buckets
from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import positive
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.statistics import at_size
from ssl_jax.numeric import widen

PASSES = ("view", "resolution")


class Outputs(NamedTuple):
    """The outputs for each view, in the order of the input; None where there is no such head."""

    features: jax.Array  # [B, V, D] of the encoder
    projection: jax.Array | None = None  # [B, V, D] of the projector
    prediction: jax.Array | None = None  # [B, V, D] of the predictor
    patches: tuple[jax.Array, ...] = ()  # [B, V, S, C] of the encoder, one array per group of views
    # Of the dense heads, one array per group that they see: [B, V, S, D], or [R, n, D] of the n patches chosen in each
    # R-th of the batch; empty without such a head.
    dense: tuple[jax.Array, ...] = ()


class Network(nn.Module):
    """An encoder, a projector on its features and a predictor on the projection.

    `passes` decides which views share a pass, and so the statistics of a BatchNorm. With "view" each view has its own
    pass through everything, and running statistics move once per view. With "resolution" all views of a group share a
    pass through the encoder, and all views of all groups one pass through the heads.

    Attributes:
        encoder: images [N, H, W, C] -> `Encoding`.
        projector: features [B, V, D] -> projection, or None.
        predictor: projection -> prediction, or None.
        dense: the encoder's patches [..., C] -> [..., D], or None.
        dense_predictor: what comes after `dense`, as the predictor after the projector, or None.
        shared_heads: whether patches go through projector and predictor, in place of dense heads of their own.
        passes: "view" or "resolution".
        layers: last stages or blocks of the encoder whose means over positions are the features, joined; each is scaled
            to a root mean square of 1, so that none outweighs the others. 1: the encoder's pooled features as they are.
        statistics: sizes in pixels for which the encoder's BatchNorms have running statistics of their own; none: all
            sizes share them.
        scan_views: with `passes="view"`, whether the passes of a group's views are one loop in the program, compiled
            once. It computes the same.
        chunks: number of pieces, a divisor of the images of a pass, in which these go through the encoder. With more
            than one, only one piece's activations are in memory at a time, and the backward pass computes them again:
            the heads and the loss see all rows and the gradient is exact (GradCache, Gao et al. 2021,
            arXiv:2101.06983). But a BatchNorm in the encoder then takes its statistics from one piece.
        remat: whether the backward pass computes the encoder's activations again, pass by pass.

    Raises:
        UserError: if `passes` is unknown, `chunks` no divisor, or shared heads are not there or not alone.
    """

    encoder: nn.Module
    projector: nn.Module | None = None
    predictor: nn.Module | None = None
    dense: nn.Module | None = None
    dense_predictor: nn.Module | None = None
    shared_heads: bool = False
    passes: str = "view"
    layers: Annotated[int, positive] = 1
    statistics: tuple[int, ...] = ()
    scan_views: bool = False
    chunks: Annotated[int, positive] = 1
    remat: bool = False

    def __call__(
        self,
        views: tuple[jax.Array, ...],
        train: bool = False,
        mask: tuple | None = None,
        keep: tuple | None = None,
        chosen: tuple | None = None,
    ) -> Outputs:
        """Returns the outputs for the views.

        Args:
            views: one array [B, V, H, W, C], or `Buckets`, per group.
            train: whether BatchNorm uses and updates the statistics of the batch.
            mask: per group a bool [B, V, S], patches that the mask token replaces, or None; None: no group.
            keep: per group an int [B, V, n], the only patches the encoder sees, or None; None: no group.
            chosen: per group an int [R, n], the only patches the dense heads see, or None, if they see none of it;
                None: they see all. R divides B: the numbers count the patches of each R-th of the batch, image by
                image and view by view. It needs a pass per resolution.
        """
        self.check(chosen)
        nothing = (None,) * len(views)
        groups = list(zip(views, mask or nothing, keep or nothing, strict=True))
        if self.passes == "resolution":
            return self.heads(join([self.encoded(*group, train) for group in groups]), train, chosen)
        return join([self.each_view(*group, train) for group in groups])

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
        features = pooled(self.encoding(images, train=False), self.layers)
        if layers == 0 or self.projector is None:
            return widen(features)
        stop = None if layers in (-1, depth) else layers
        return widen(self.projector(features, stop=stop))

    def each_view(self, views, mask, keep, train):
        """The outputs of one group, with a pass for each view."""

        def run(network, outputs, group):
            return outputs, network.heads(network.encoded(*group, train), train)

        group = views, mask, keep
        if self.scan_views and not self.is_initializing():
            _, outputs = scan(run)(self, (), jax.tree.map(lambda x: jnp.swapaxes(x[:, :, None], 0, 1), group))
            return jax.tree.map(lambda x: jnp.swapaxes(x[:, :, 0], 0, 1), outputs)
        of_each = [jax.tree.map(operator.itemgetter(np.s_[:, i : i + 1]), group) for i in range(length(views))]
        parts = [run(self, (), one)[1] for one in of_each]
        return jax.tree.map(lambda *arrays: jnp.concatenate(arrays, axis=1), *parts)

    def encoded(self, views, mask, keep, train):
        """The encoder's share of the outputs, in one pass over a group, or over each of its buckets."""
        if isinstance(views, Buckets):
            parts = [self.encoded(part, None, None, train) for part in views]
            # Without patches, since images of other sizes have other numbers of them.
            return Outputs(merge_buckets([part.features for part in parts]))

        def run(network, carry, group):
            images, mask, keep = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), group)
            encoding = network.encoding(images, train=train, mask=mask, keep=keep)
            parts = pooled(encoding, self.layers), encoding.patches
            features, patches = (x.reshape(-1, views.shape[1], *x.shape[1:]) for x in parts)
            return carry, Outputs(features, patches=(patches,))

        return self.in_chunks(run, (views, mask, keep))

    def encoding(self, images, **options):
        """The encoder's output for images [N, H, W, C] of one size."""
        return at_size(lambda encoder, x: encoder(x, **options), self.encoder, images, self.statistics)

    def attended(self, images):
        """How much of the attention each patch gets in the encoder's last block, see `ViT.attended`."""
        return at_size(lambda encoder, x: encoder.attended(x), self.encoder, images, self.statistics)

    def in_chunks(self, run, group):
        """The outputs that `run` makes of a group of arrays [B, ...], as `chunks` and `remat` say."""
        if self.is_initializing() or (self.chunks == 1 and not self.remat):
            return run(self, (), group)[1]
        if self.chunks == 1:
            return nn.remat(run)(self, (), group)[1]
        images = len(group[0])
        if images % self.chunks:
            raise UserError(
                f"{images} images cannot go through the encoder in {self.chunks} equal pieces; "
                "set network.chunks to a divisor of their number"
            )
        # Each piece takes every chunks-th image, so that images which are split over devices stay where they are.
        pieces = jax.tree.map(lambda x: x.reshape(-1, self.chunks, *x.shape[1:]).swapaxes(0, 1), group)
        _, outputs = scan(nn.remat(run, prevent_cse=False))(self, (), pieces)
        return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(images, *x.shape[2:]), outputs)

    def heads(self, outputs, train, chosen=None):
        """The outputs with the heads' share; all but patches of the encoder is widened to float32."""
        projection = None if self.projector is None else self.projector(outputs.features, train=train)
        prediction = None if self.predictor is None else self.predictor(projection, train=train)
        dense = ()
        if self.dense is not None or self.shared_heads:
            chosen = (slice(None),) * len(outputs.patches) if chosen is None else chosen
            groups = zip(outputs.patches, chosen, strict=True)
            dense = tuple(self.dense_heads(choose(x, which), train) for x, which in groups if which is not None)
        wide = jax.tree.map(widen, Outputs(outputs.features, projection, prediction, dense=dense))
        return wide._replace(patches=outputs.patches)

    def project(self, features: jax.Array) -> jax.Array:
        """Returns the projections [..., E] of features [..., D]; without a projector, the features."""
        return features if self.projector is None else self.projector(features)

    def dense_heads(self, x, train):
        shared = (self.projector, self.predictor) if self.shared_heads else (self.dense, self.dense_predictor)
        for head in shared:
            x = x if head is None else head(x, train=train)
        return x

    def check(self, chosen):
        if self.passes not in PASSES:
            raise UserError(f"passes cannot be {self.passes!r}; {suggest(self.passes, PASSES)}")
        if chosen is not None and self.passes != "resolution":
            raise UserError("the dense heads see chosen patches of all views together; set network.passes=resolution")
        if self.shared_heads and (self.projector is None or self.dense or self.dense_predictor):
            raise UserError(
                "patches share projector and predictor; set network.projector and leave out network.dense and "
                "network.dense_predictor, or set network.shared_heads=false"
            )


def choose(patches, which):
    """Patches [B, V, S, C], or those [R, n, C] of numbers [R, n]."""
    if isinstance(which, slice):
        return patches
    return jnp.take_along_axis(patches.reshape(len(which), -1, patches.shape[-1]), which[:, :, None], axis=1)


def pooled(encoding: Encoding, layers: int) -> jax.Array:
    """Returns the features [N, D] of images: the encoder's, or those of its last layers joined, see `Network`.

    Raises:
        UserError: if the encoder has fewer layers.
    """
    if layers == 1:
        return encoding.pooled
    if layers > len(encoding.layers):
        raise UserError(f"network.layers is {layers}, but the encoder has {len(encoding.layers)}; lower it")
    parts = [*(widen(x).mean(1) for x in encoding.layers[-layers:-1]), widen(encoding.pooled)]
    scaled = [x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + 1e-6) for x in parts]
    return jnp.concatenate(scaled, axis=-1).astype(encoding.pooled.dtype)


def scan(run):
    """A loop over `run(network, carry, inputs)`, in which running statistics go from one round to the next."""
    return nn.scan(run, variable_broadcast="params", variable_carry="batch_stats", split_rngs={"drop_path": True})


def join(parts):
    """The outputs of several groups as one: per view along the axis of views, per patch side by side."""

    def merge(*arrays):
        return None if arrays[0] is None else jnp.concatenate(arrays, axis=1)

    whole = [merge(*(getattr(part, name) for part in parts)) for name in ("features", "projection", "prediction")]
    return Outputs(*whole, *(sum((getattr(part, name) for part in parts), ()) for name in ("patches", "dense")))
