"""InstDisc: each image is a class of its own, represented by its last embeddings in a memory."""

import dataclasses
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.fields import positive, share
from ssl_jax.losses import instance_softmax, nce_with_first_normalizer, positive_is_first, sampled_scores
from ssl_jax.memory import padded, random_bank, sample_candidates, update_bank
from ssl_jax.method import ImageCount, Method, PyTree, Result, apply, initialize
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class InstDisc(Method):
    """Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al. 2018, arXiv:1805.01978)."""

    images: ImageCount
    temperature: Annotated[float, positive] = 0.07  # tau
    negatives: int = 4096  # drawn per image; 0: the softmax is over all images
    softmax: bool = False  # over own and drawn rows, instead of noise-contrastive estimation
    momentum: Annotated[float, share] = 0.5  # weight of the old row in the new one
    proximal: float = 0.0  # lambda, weight of the distance to the old row (section 3.3); 0 in the authors' code
    feature = "projection"
    memories = ("bank",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        bank: jax.Array  # [N, D], a row per image
        normalizer: jax.Array  # [], Z from the first batch; 0 before

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        bank = random_bank(jax.random.fold_in(key, 1), padded(self.images), shapes.projection.shape[-1])
        return {"network": variables.params}, self.State(variables.stats, bank, jnp.zeros(()))

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embeddings, index = l2_normalize(outputs.projection), batch["index"]
        candidates = sample_candidates(key, index, self.negatives, self.images)

        def contrast(embedding, normalizer):
            if not self.negatives:
                return instance_softmax(embedding, state.bank, index, self.temperature, self.images), normalizer
            scores = sampled_scores(embedding, state.bank, candidates, self.temperature)
            if self.softmax:
                return positive_is_first(scores), normalizer
            return nce_with_first_normalizer(scores, normalizer, self.images)

        losses, normalizer = [], state.normalizer
        for view in range(embeddings.shape[1]):
            embedding = embeddings[:, view]
            loss, normalizer = contrast(embedding, normalizer)
            if self.proximal:
                loss += self.proximal * jnp.mean(jnp.sum((embedding - state.bank[index]) ** 2, axis=1))
            losses.append(loss)
        bank = update_bank(state.bank, index, embeddings[:, 0], self.momentum)
        state = self.State(stats, bank, normalizer)
        return Result(sum(losses) / len(losses), state, {}, outputs.features[:, 0], outputs.projection)
