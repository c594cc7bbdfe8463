"""DINOv2: DINO and iBOT with targets that use all prototypes, features that spread, and a cheap patch loss."""

import dataclasses
import math
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.distillation import check_hiding, check_scores, choose_hidden, target_entropies
from ssl_jax.errors import UserError
from ssl_jax.fields import not_negative, one_of, positive, share
from ssl_jax.losses import centered_softmax, cross_views, koleo, sinkhorn, soft_cross_entropy
from ssl_jax.masking import block_mask
from ssl_jax.method import Decay, Method, PyTree, Result, Temperature, Variables, apply, follow, initialize
from ssl_jax.numeric import as_rows, ema
from ssl_jax.patches import grid_of


@dataclasses.dataclass(frozen=True)
class DINOv2(Method):
    """Learning Robust Visual Features without Supervision (Oquab et al. 2023, arXiv:2304.07193), section 4.

    Masks are drawn for a group of images at a time: a fixed number of its large views are hidden in part, each by a
    ratio from its own slice of `mask_ratio`. So a group never has more than a fixed number of hidden patches. These
    alone, of student and teacher, go through the heads of the patches.
    """

    decay: Decay  # of the teacher
    teacher_temperature: Temperature  # tau_t, for views and patches
    temperature: Annotated[float, positive] = 0.1  # tau_s, of the student
    centering: Annotated[str, one_of(("sinkhorn", "center"))] = "sinkhorn"
    center_decay: Annotated[float, share] = 0.9  # of both centres, with `centering` "center"; 1: they stay 0
    iterations: int = 3  # of Sinkhorn-Knopp
    patch_weight: Annotated[float, not_negative] = 1.0
    koleo_weight: Annotated[float, not_negative] = 0.1
    mask_share: Annotated[float, share] = 0.5  # of the large views that have hidden patches
    mask_ratio: tuple[float, float] = (0.1, 0.5)  # least and largest share of patches that are then hidden
    mask_group: Annotated[int, positive] = 64  # images, a divisor of the batch; best also of each device's share
    large_views = 2
    mixes_sizes = False

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics of the student
        target: Variables  # the teacher: moving average of the student
        center: jax.Array  # [K] moving average of the teacher's scores of views
        patch_center: jax.Array  # [K'] moving average of its scores of hidden patches

    def check(self, batch):
        super().check(batch)
        check_scores(self.network)
        check_hiding(self.network, self.mask_ratio)
        images, large = batch["views"].large[0].shape[:2]
        if images % self.mask_group:
            raise UserError(
                f"method.mask_group is {self.mask_group}, which does not divide the batch of {images} images; "
                "set it to a divisor"
            )
        patches = math.prod(grid_of(self.network, batch["views"].large[0]))
        if not self.most_hidden(large, patches):
            raise UserError(
                f"of {patches} patches none is ever hidden; raise method.mask_ratio, method.mask_share or "
                "method.mask_group, or set a smaller network.encoder.patch"
            )

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        centers = (jnp.zeros(scores.shape[-1]) for scores in (shapes.prediction, shapes.dense[0]))
        return {"network": variables.params}, self.State(variables.stats, variables, *centers)

    def loss(self, params, state, batch, key, step):
        views = batch["views"]
        others = (None,) * (len(views) - 1)
        mask = self.hidden(jax.random.fold_in(key, 1), views)  # [R, G A, S]
        chosen, weights = choose_hidden(mask, self.most_hidden(views.large.total, mask.shape[-1]))
        of_views = mask.reshape(*views.large[0].shape[:2], -1)
        network = Variables(params["network"], state.stats)
        student, stats = apply(self.network, network, views, key, (of_views, *others), chosen=(chosen, *others))
        teacher, teacher_stats = apply(self.network, state.target, views.large, chosen=(chosen,))

        temperature = self.teacher_temperature(step)
        targets, center = self.targets(teacher.prediction, state.center, temperature)
        pairs = soft_cross_entropy(targets[:, :, None], student.prediction[:, None], self.temperature)  # [B, A, V]
        patch_targets, patch_center = self.targets(teacher.dense[0], state.patch_center, temperature, weights > 0)
        patches = soft_cross_entropy(patch_targets, student.dense[0], self.temperature)
        view_loss, patch_loss = cross_views(pairs), jnp.sum(weights * patches)
        spread = jnp.sum(jax.vmap(koleo, in_axes=1)(student.features[:, : views.large.total]))

        loss = view_loss + self.patch_weight * patch_loss + self.koleo_weight * spread
        state = self.State(stats, state.target._replace(stats=teacher_stats), center, patch_center)
        metrics = target_entropies(targets) | {"view_loss": view_loss, "patch_loss": patch_loss, "koleo": spread}
        return Result(loss, state, metrics, teacher.features[:, 0], student.projection)

    def targets(self, scores, center, temperature, counted=None):
        """Returns distributions for scores [..., K], and the next centre; only rows that are `counted` move it."""
        rows = jax.lax.stop_gradient(as_rows(scores))
        counted = jnp.ones(len(rows), bool) if counted is None else counted.reshape(-1)
        counted |= ~jnp.any(counted)  # blocks may all have been too large for a small grid
        if self.centering == "sinkhorn":
            codes = sinkhorn(rows, temperature, self.iterations, counted=counted)
            return codes.reshape(scores.shape), center
        mean = jnp.mean(rows, axis=0, where=counted[:, None])
        return centered_softmax(scores, center, temperature), ema(center, mean, self.center_decay)

    def hidden(self, key, views):
        """Returns bool [R, G A, S], the hidden patches of the large views of each group of images."""
        grid, (images, large) = grid_of(self.network, views.large[0]), views.large[0].shape[:2]
        ratios = jnp.asarray(self.ratios(large))
        seen = jnp.zeros(self.mask_group * large - len(ratios) + 1)

        def group(key):
            ratio, order, place = jax.random.split(key, 3)
            drawn = jax.random.uniform(ratio, (len(ratios) - 1,), minval=ratios[:-1], maxval=ratios[1:])
            most = jnp.floor(math.prod(grid) * jax.random.permutation(order, jnp.concatenate([drawn, seen])))
            return jax.vmap(lambda key, most: block_mask(key, grid, most))(jax.random.split(place, len(most)), most)

        return jax.vmap(group)(jax.random.split(key, images // self.mask_group))

    def ratios(self, large: int) -> np.ndarray:
        """Returns the ends of the slices of `mask_ratio`, one slice for each large view of a group that is hidden."""
        hidden = int(self.mask_group * large * self.mask_share)
        return np.linspace(*self.mask_ratio, hidden + 1, dtype=np.float32)

    def most_hidden(self, large: int, patches: int) -> int:
        """Returns the largest number of patches that are hidden in a group."""
        return int(np.sum(np.floor(patches * self.ratios(large)[1:])))

    def after_step(self, params, state, key, step):
        return params, state._replace(target=follow(state.target, params["network"], self.decay(step)))

    def variables(self, params, state):
        return state.target
