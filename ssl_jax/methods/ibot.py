"""iBOT: DINO, and the same prediction for patches that are hidden from the student."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.distillation import check_hiding, check_scores, choose_hidden, target_entropies
from ssl_jax.fields import not_negative, one_of, positive, share
from ssl_jax.losses import centered_softmax, cross_views, soft_cross_entropy
from ssl_jax.masking import block_mask, random_mask
from ssl_jax.method import Decay, Method, PyTree, Result, Temperature, Variables, apply, follow, initialize
from ssl_jax.numeric import ema
from ssl_jax.patches import grid_of


@dataclasses.dataclass(frozen=True)
class IBOT(Method):
    """Image BERT Pre-Training with Online Tokenizer (Zhou et al. 2021, arXiv:2111.07832), Algorithm 1.

    The student sees the large views with a token in place of some patches. What it says of these patches is compared
    with what the teacher says of the same patches, what it says of views with the teacher's large views, as in DINO.
    """

    decay: Decay  # of the teacher: 0.996 -> 1 along a cosine
    teacher_temperature: Temperature  # tau_t, for views
    patch_temperature: Temperature  # tau_t, for patches
    temperature: Annotated[float, positive] = 0.1  # tau_s, of the student
    center_decay: Annotated[float, share] = 0.9  # of both centres; 1: they stay 0
    view_weight: Annotated[float, not_negative] = 1.0  # lambda_1
    patch_weight: Annotated[float, not_negative] = 1.0  # lambda_2
    mask: Annotated[str, one_of(("block", "random"))] = "block"
    mask_share: Annotated[float, share] = 0.5  # probability that a large view has hidden patches
    mask_ratio: tuple[float, float] = (0.1, 0.5)  # least and largest share of patches that are then hidden
    large_views = 2
    mixes_sizes = False

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the student
        target: Variables  # the teacher: moving average of the student
        center: jax.Array  # [K] moving average of the teacher's scores of views
        patch_center: jax.Array  # [K'] moving average of its scores of patches, hidden or not

    def check(self, batch):
        super().check(batch)
        check_scores(self.network)
        check_hiding(self.network, self.mask_ratio)

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        centers = (jnp.zeros(scores.shape[-1]) for scores in (shapes.prediction, shapes.dense[0]))
        return {"network": variables.params}, self.State(variables.stats, variables, *centers)

    def loss(self, params, state, batch, key, step):
        views = batch["views"]
        mask = self.hidden(jax.random.fold_in(key, 1), views)
        others = (None,) * (len(views) - 1)
        chosen, weights = choose_hidden(mask, mask.shape[1] * int(self.mask_ratio[1] * mask.shape[2]))
        network = Variables(params["network"], state.stats)
        student, stats = apply(self.network, network, views, key, (mask, *others), chosen=(chosen, *others))
        teacher, teacher_stats = apply(self.network, state.target, views.large)

        targets = centered_softmax(teacher.prediction, state.center, self.teacher_temperature(step))
        pairs = soft_cross_entropy(targets[:, :, None], student.prediction[:, None], self.temperature)  # [B, A, V]
        scores = teacher.dense[0].reshape(len(mask), -1, teacher.dense[0].shape[-1])
        scores = jnp.take_along_axis(scores, chosen[:, :, None], axis=1)
        patch_targets = centered_softmax(scores, state.patch_center, self.patch_temperature(step))
        patches = soft_cross_entropy(patch_targets, student.dense[0], self.temperature)
        view_loss, patch_loss = cross_views(pairs), jnp.sum(weights * patches)

        center = ema(state.center, jnp.mean(teacher.prediction, axis=(0, 1)), self.center_decay)
        patch_center = ema(state.patch_center, jnp.mean(teacher.dense[0], axis=(0, 1, 2)), self.center_decay)
        state = self.State(stats, state.target._replace(stats=teacher_stats), center, patch_center)
        loss = self.view_weight * view_loss + self.patch_weight * patch_loss
        metrics = target_entropies(targets) | {"view_loss": view_loss, "patch_loss": patch_loss}
        return Result(loss, state, metrics, teacher.features[:, 0], student.projection)

    def hidden(self, key, views):
        """Returns bool [B, A, S], the patches of the large views that are hidden."""
        grid = grid_of(self.network, views.large[0])
        shape, patches = views.large[0].shape[:2], grid[0] * grid[1]
        use, ratio, place = jax.random.split(key, 3)
        ratios = jax.random.uniform(ratio, shape, minval=self.mask_ratio[0], maxval=self.mask_ratio[1])
        most = patches * jnp.where(jax.random.bernoulli(use, self.mask_share, shape), ratios, 0.0)
        least = (min(grid) // 3) ** 2
        draw = {
            "block": lambda key, most: block_mask(key, grid, most, least),
            "random": lambda key, most: random_mask(key, patches, most.astype(int)),
        }[self.mask]
        return jax.vmap(jax.vmap(draw))(jax.random.split(place, shape), most)

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))

    def variables(self, params, state):
        return state.target
