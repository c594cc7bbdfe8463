"""DetailCLIP: CLIP on the patches that a teacher attends to, which also tells what the others hold."""

import dataclasses
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.augment import Views
from ssl_jax.distillation import target_entropies
from ssl_jax.errors import UserError
from ssl_jax.fields import not_negative, one_of, positive, share
from ssl_jax.language import Objective, check_pairs, clip_scale, embed_text, first_scale, first_text, match
from ssl_jax.losses import centered_softmax, cross_views, hidden_weights, soft_cross_entropy
from ssl_jax.masking import most_salient
from ssl_jax.method import Decay, Method, PyTree, Result, Temperature, Variables, apply, follow, initialize
from ssl_jax.networks import Decoder, Outputs, TextTower, ViT
from ssl_jax.numeric import ema, widen
from ssl_jax.patches import grid_of, moments, patchify


class Said(NamedTuple):
    """What a network says of V views of images."""

    scores: jax.Array  # [B, V, K], of the views
    patches: jax.Array  # [B, V, S, K], of their patches, row by row
    embedding: jax.Array | None = None  # [B, V, E], to compare with texts
    pixels: jax.Array | None = None  # [B, V, S, D], predicted of each patch


@dataclasses.dataclass(frozen=True)
class DetailCLIP(Method):
    """Detail-Oriented CLIP for Fine-Grained Tasks (Monsefi et al. 2024, arXiv:2409.06809), section 3.

    The student encodes the patches of two views to which its teacher attends. Beside CLIP's loss there are three parts,
    each of which can be switched off: what the decoder makes of all patches goes through the dense heads, to be
    compared with the teacher's patches where the student saw none (`patch_weight`), and through a linear map to the
    pixels (`pixel_weight`); and views are compared as in DINO (`view_weight`), through the same heads. With `removal`
    "none" the student sees all patches, and all are compared.
    """

    text: TextTower
    decoder: Decoder
    decay: Decay  # of the teacher: 0.996 -> 1 along a cosine
    teacher_temperature: Temperature  # tau_t, for views
    patch_temperature: Temperature  # tau_t, for patches
    temperature: Annotated[float, positive] = 0.1  # tau_s, of the student
    center_decay: Annotated[float, share] = 0.9  # of both centres; 1: they stay 0
    removal: Annotated[str, one_of(("attention", "random", "none"))] = "attention"
    kept: Annotated[float, share] = 0.5  # share of the cells that the student sees; it sees one more
    cell: Annotated[int, positive] = 2  # side in patches of the cells that are seen or removed as a whole
    clip_weight: Annotated[float, not_negative] = 1.0
    view_weight: Annotated[float, not_negative] = 1.0
    patch_weight: Annotated[float, not_negative] = 1.0
    pixel_weight: Annotated[float, not_negative] = 1.0
    normalize: bool = True  # whether the pixels of a patch are predicted with their mean 0 and their variance 1
    objective: Objective = "softmax"
    needs_text = True
    least_batch = 2
    large_views = 2
    mixes_sizes = False

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the student
        target: Variables  # the teacher: moving average of the student
        center: jax.Array  # [K] moving average of the teacher's scores of views
        patch_center: jax.Array  # [K] moving average of its scores of patches

    def check(self, batch):
        super().check(batch)
        check_pairs(self.network, self.text, batch)
        encoder: Any = self.network.encoder
        if not isinstance(encoder, ViT) or encoder.pool != "token" or encoder.dim != self.decoder.dim:
            raise UserError(
                "the method needs the attention of a class token, and decoded patches as wide as encoded ones; set "
                "network.encoder to a vision transformer with pool=token, and decoder.dim to its dim"
            )
        if len(batch["views"]) != 1:
            raise UserError(
                "the method removes patches of large views alone; leave augment.small_views out, and with several "
                "resolution.sizes, set resolution.mode=random"
            )
        if self.network.dense is None or getattr(self.network.dense, "norm", "none") == "batch":
            raise UserError("patches and views share dense heads without BatchNorm; set network.dense.norm=none")
        rows, columns = grid_of(self.network, batch["views"].large[0])
        divides = rows % self.cell == columns % self.cell == 0
        if self.removal != "none" and not (divides and self.count((rows, columns)) < rows * columns):
            raise UserError(
                f"with method.cell {self.cell} and method.kept {self.kept}, {rows} x {columns} patches are no cells of "
                "which some are removed; set cell to a divisor of both, and kept below 1"
            )

    def init(self, key, batch):
        views = batch["views"]
        variables, shapes = initialize(self.network, key, views)
        patches, size = shapes.patches[0], views[0].shape[-1] * self.network.encoder.stride**2
        places = jnp.zeros(patches.shape[:3], int)[:, 0]
        decoder = self.decoder.init(
            jax.random.fold_in(key, 2), patches[:, 0], places, grid_of(self.network, views.large[0]), None
        )
        params = {
            "network": variables.params,
            "text": first_text(self.text, jax.random.fold_in(key, 1), batch),
            "scale": first_scale(self.objective),
            "decoder": decoder["params"],
            "pixels": nn.Dense(size).init(jax.random.fold_in(key, 3), jnp.zeros((1, self.decoder.dim)))["params"],
        }
        centers = (jnp.zeros(shapes.dense[0].shape[-1]) for _ in range(2))
        return params, self.State(variables.stats, variables, *centers)

    def loss(self, params, state, batch, key, step):
        views = batch["views"]
        seen = self.choose(state.target, views, jax.random.fold_in(key, 1))
        order = jnp.argsort(~seen, axis=2, stable=True)  # of the patches: first those that the student sees
        keep = order[:, :, : self.count(grid_of(self.network, views.large[0]))]
        network = self.variables(params, state)
        teacher, teacher_stats = apply(self.network, state.target, views)
        student, stats = apply(self.network, network, views, key, keep=(keep,))

        decoded = self.decode(params["decoder"], student, order, grid_of(self.network, views.large[0]))
        pixels: Any = nn.Dense(params["pixels"]["bias"].size).apply({"params": params["pixels"]}, decoded)
        scores, patch_scores = (self.heads(network, x) for x in (student.features, decoded))
        own = Said(scores, patch_scores, student.projection, pixels)
        target = Said(self.heads(state.target, teacher.features), teacher.dense[0])
        text = embed_text(self.network, self.text, params, batch["text"])
        compared = seen if self.removal == "none" else ~seen
        loss, metrics, centers = self.compare(params["scale"], state, step, views[0], compared, own, target, text)
        state = self.State(stats, state.target._replace(stats=teacher_stats), *centers)
        return Result(loss, state, metrics, student.features[:, 0], student.projection)

    def compare(self, scale, state, step, images, compared, own: Said, target: Said, text):
        """Returns the loss of what student and teacher say, metrics, and the next two centres.

        Args:
            scale: see `language.first_scale`.
            state: of the method.
            step: which decides the teacher's temperatures.
            images: [B, V, H, W, C].
            compared: bool [B, V, S], the patches that count.
            own: what the student says.
            target: what the teacher says.
            text: embeddings [B, E].
        """
        clip_loss, metrics = match(self.objective, scale, own.embedding, text)
        targets = centered_softmax(target.scores, state.center, self.teacher_temperature(step))
        pairs = soft_cross_entropy(targets[:, :, None], own.scores[:, None], self.temperature)  # [B, A, V]
        patch_targets = centered_softmax(target.patches, state.patch_center, self.patch_temperature(step))
        patches = soft_cross_entropy(patch_targets, own.patches, self.temperature)
        parts = {
            "clip": clip_loss,
            "view": cross_views(pairs),
            "patch": jnp.sum(hidden_weights(compared) * patches),
            "pixel": self.error(own.pixels, images, compared),
        }
        loss = sum(getattr(self, f"{name}_weight") * part for name, part in parts.items())
        metrics |= target_entropies(targets) | {f"{name}_loss": part for name, part in parts.items()}
        del metrics["uniform_loss"]  # is of one part alone
        center = ema(state.center, jnp.mean(target.scores, axis=(0, 1)), self.center_decay)
        patch_center = ema(state.patch_center, jnp.mean(target.patches, axis=(0, 1, 2)), self.center_decay)
        return loss, metrics, (center, patch_center)

    def choose(self, target: Variables, views: Views, key: jax.Array) -> jax.Array:
        """Returns bool [B, V, S], the patches of views [B, V, H, W, C] that the student sees."""
        images, grid = views[0], grid_of(self.network, views.large[0])
        shape = *images.shape[:2], grid[0] * grid[1]
        if self.removal == "none":
            return jnp.ones(shape, bool)
        salience: Any = jax.random.uniform(key, shape)
        if self.removal == "attention":
            params = {"params": target.params["encoder"]}  # the same pass as the teacher's, which XLA does once
            salience = self.network.encoder.apply(params, as_images(images), method="salience")
            salience = salience.reshape(shape)
        return most_salient(salience, grid, self.cell, self.count(grid) // self.cell**2)

    def count(self, grid: tuple[int, int]) -> int:
        """Returns how many patches of a grid the student sees."""
        if self.removal == "none":
            return grid[0] * grid[1]
        cells = (grid[0] // self.cell) * (grid[1] // self.cell)
        return (int(cells * self.kept) + 1) * self.cell**2

    def decode(self, params: PyTree, student: Outputs, order: jax.Array, grid: tuple[int, int]) -> jax.Array:
        """Returns what the decoder makes of all patches, [B, V, S, dim] row by row, of those that the student saw."""
        batch, views, count = order.shape
        seen, places, token = map(as_images, (student.patches[0], order, student.features))
        decoded: Any = self.decoder.apply({"params": params}, seen, places, grid, None, token)
        decoded = jnp.take_along_axis(decoded, jnp.argsort(places, axis=1)[:, :, None], axis=1)
        return decoded.reshape(batch, views, count, -1)

    def heads(self, network: Variables, x: jax.Array) -> jax.Array:
        """Returns the scores [..., K] that the dense heads give features or patches [..., C]."""
        tree = {"params": network.params, "batch_stats": network.stats}
        scores: Any = self.network.apply(tree, x, True, method="dense_heads")
        return widen(scores)

    def error(self, pixels: jax.Array, images: jax.Array, compared: jax.Array) -> jax.Array:
        """Returns the squared error of predictions [B, V, S, D], the mean over views of the mean over what counts."""
        patches = patchify(widen(as_images(images)), self.network.encoder.stride)
        if self.normalize:
            mean, deviation = moments(patches)
            patches = (patches - mean) / deviation
        errors = jnp.mean(jnp.square(pixels - patches.reshape(pixels.shape)), axis=3)
        return jnp.mean(jnp.mean(errors, axis=(0, 2), where=compared))

    def after_step(self, params, state, key, step):
        target = follow(state.target, params["network"], self.decay(step + 1))  # theirs moves before it encodes
        return params | {"scale": clip_scale(params["scale"])}, state._replace(target=target)


def as_images(views: jax.Array) -> jax.Array:
    """Returns what belongs to views, [B, V, ...], as [B V, ...]."""
    return views.reshape(-1, *views.shape[2:])
