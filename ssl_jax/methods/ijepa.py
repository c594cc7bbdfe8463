"""I-JEPA: predict the features of blocks of an image from the patches around them."""

import dataclasses
import math
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssl_jax.errors import UserError
from ssl_jax.fields import positive, share
from ssl_jax.masking import random_blocks, random_context
from ssl_jax.method import Decay, Method, PyTree, Result, Variables, apply, follow, initialize
from ssl_jax.methods.masked import check_masked
from ssl_jax.networks import Decoder
from ssl_jax.numeric import widen
from ssl_jax.patches import grid_of


@dataclasses.dataclass(frozen=True)
class IJEPA(Method):
    """Image-based Joint-Embedding Predictive Architecture (Assran et al. 2023, arXiv:2301.08243), section 3.

    The representation is that of the target encoder. As in the authors' code, the distance is the smooth L1 (the paper
    has the squared one) to features that are normalised patch by patch.

    Shapes are static here. In the authors' code, the area and the proportions of all target blocks of a step are drawn
    from (0.15, 0.2) and (0.75, 1.5), and each image of a step keeps as many patches of the context as the one that has
    the fewest, those farthest up. Here blocks have one area and one proportion, upright or lying, and the context is as
    many patches as are left in the worst case, drawn at random.
    """

    predictor: Decoder
    decay: Decay  # of the target encoder: 0.996 -> 1, linear
    blocks: Annotated[int, positive] = 4  # targets in each image
    area: Annotated[float, share] = 0.175  # of a target block, as a share of the image
    aspect: Annotated[float, positive] = 1.125  # longer side of a target block / shorter side
    context: Annotated[float, share] = 0.925  # of the square that the context is drawn from, as a share of the image
    mixes_sizes = False

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the context encoder
        target: Variables  # the target encoder: moving average of the context encoder

    def check(self, batch):
        super().check(batch)
        check_masked(self.network, batch["views"])
        grid = grid_of(self.network, batch["views"][0])
        (height, width), side, count = self.sizes(grid)
        if not height * width or max(height, width) > min(grid):
            raise UserError(
                f"target blocks of {height} x {width} patches do not fit an image of {grid[0]} x {grid[1]}; change "
                "method.area or method.aspect, or lower network.encoder.patch"
            )
        if count < 1:
            raise UserError(
                f"{self.blocks} target blocks of {height} x {width} may leave nothing of a context of {side} x {side} "
                "patches; lower method.blocks or method.area, raise method.context, or lower network.encoder.patch"
            )

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        patches, grid = shapes.patches[0][:, 0], grid_of(self.network, batch["views"][0])
        places = jnp.zeros(patches.shape[:2], int)
        predictor = self.predictor.init(jax.random.fold_in(key, 1), patches, places, grid, patches.shape[-1])["params"]
        return {"network": variables.params, "predictor": predictor}, self.State(variables.stats, variables)

    def loss(self, params, state, batch, key, step):
        views = batch["views"]
        grid = grid_of(self.network, views[0])
        blocks, context = self.draw(jax.random.fold_in(key, 1), len(views[0]), grid)
        found, target_stats = apply(self.network, state.target, views)
        online = Variables(params["network"], state.stats)
        outputs, stats = apply(self.network, online, views, key, keep=(context[:, None],))
        prediction = self.predict(params, outputs.patches[0][:, 0], context, blocks, grid)
        features = jax.nn.standardize(widen(found.patches[0][:, 0]))
        target = jnp.take_along_axis(features[:, None], blocks[..., None], axis=2)
        loss = jnp.mean(optax.losses.huber_loss(prediction, target))  # the smooth L1
        state = self.State(stats, state.target._replace(stats=target_stats))
        return Result(loss, state, {}, found.features[:, 0], found.features[:, 0])

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))

    def variables(self, params, state):
        return state.target

    def predict(self, params, patches, context, blocks, grid) -> jax.Array:
        """Predicts each block by itself from the context.

        Args:
            params: of the method.
            patches: [B, n, C], what the context encoder makes of the context.
            context: int [B, n], its patches.
            blocks: int [B, M, T], the patches of each block.
            grid: (rows, columns) of an image's patches.

        Returns:
            [B, M, T, C].
        """
        images, count, size = blocks.shape
        places = jnp.concatenate([jnp.repeat(context[:, None], count, axis=1), blocks], axis=2)
        rows = jnp.repeat(patches, count, axis=0), places.reshape(images * count, -1)
        prediction: Any = self.predictor.apply({"params": params["predictor"]}, *rows, grid, patches.shape[-1])
        return prediction[:, -size:].reshape(images, count, size, -1)

    def draw(self, key: jax.Array, images: int, grid: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
        """Draws the patches of the target blocks, int [B, M, T], and of the context, int [B, n]."""
        shape, side, count = self.sizes(grid)
        blocks = random_blocks(jax.random.fold_in(key, 0), images, self.blocks, grid, shape)
        return blocks, random_context(jax.random.fold_in(key, 1), blocks, grid, side, count)

    def sizes(self, grid: tuple[int, int]) -> tuple[tuple[int, int], int, int]:
        """Returns, in patches, the sides of a target block, that of the context's square, and the context's size."""
        patches = grid[0] * grid[1]
        target = int(patches * self.area)
        height, width = round(math.sqrt(target * self.aspect)), round(math.sqrt(target / self.aspect))
        side = round(math.sqrt(patches * self.context))
        return (height, width), side, side * side - self.blocks * height * width
