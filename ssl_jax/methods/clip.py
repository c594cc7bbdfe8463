"""CLIP: match images and their captions among all of the batch."""

import dataclasses

import jax

from ssl_jax.language import Objective, check_pairs, clip_scale, embed_text, first_scale, first_text, match
from ssl_jax.method import Method, Result, apply, initialize
from ssl_jax.networks import TextTower


@dataclasses.dataclass(frozen=True)
class CLIP(Method):
    """Learning Transferable Visual Models From Natural Language Supervision (Radford et al. 2021, arXiv:2103.00020).

    The projector maps the features of an image to where texts are. With the objective "sigmoid" it is SigLIP (Zhai et
    al. 2023, arXiv:2303.15343). With a text tower of depth 0, images and texts go through the same blocks (MS-CLIP, You
    et al. 2022, arXiv:2207.12661, which also keeps the norms of each block apart).
    """

    text: TextTower
    objective: Objective = "softmax"
    needs_text = True
    least_batch = 2

    def check(self, batch):
        super().check(batch)
        check_pairs(self.network, self.text, batch)

    def init(self, key, batch):
        variables, _ = initialize(self.network, key, batch["views"])
        text = first_text(self.text, jax.random.fold_in(key, 1), batch)
        params = {"network": variables.params, "text": text, "scale": first_scale(self.objective)}
        return params, self.State(variables.stats)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        text = embed_text(self.network, self.text, params, batch["text"])
        loss, metrics = match(self.objective, params["scale"], outputs.projection, text)
        return Result(loss, self.State(stats), metrics, outputs.features[:, 0], outputs.projection)

    def after_step(self, params, state, key, step):
        return params | {"scale": clip_scale(params["scale"])}, state
