"""InstDisc: each image is a class of its own, represented by what it looked like when it was last seen."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ssl_jax.losses import find_own, random_bank, remember, with_negatives
from ssl_jax.method import Images, Method, PyTree, apply, initialize, padded, shapes
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class InstDisc(Method):
    """Unsupervised Feature Learning via Non-Parametric Instance Discrimination (Wu et al. 2018, arXiv:1805.01978)."""

    images: Images
    temperature: float = 0.07  # tau
    negatives: int = 4096  # drawn for each image; 0: none, the softmax is over all images
    softmax: bool = False  # over own and drawn rows, in place of noise-contrastive estimation
    momentum: float = 0.5  # share of its old row that an image keeps
    proximal: float = 0.0  # lambda, keeps an image near its row (section 3.3); 0 in the authors' code
    memories = ("bank",)

    class State(NamedTuple):
        stats: PyTree  # BatchNorm statistics
        bank: jax.Array  # [N, D], a row an image
        normalizer: jax.Array  # [], Z of the first batch; 0 before

    def init(self, key, batch):
        params, stats = initialize(self.network, key, batch["views"])
        dimension = shapes(self.network, params, stats, batch["views"]).projection.shape[-1]
        bank = random_bank(jax.random.fold_in(key, 1), padded(self.images), dimension)
        return params, self.State(stats, bank, jnp.zeros(()))

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        embedding, index = normalize(outputs.projection[:, 0]), batch["index"]
        candidates = with_negatives(key, index, self.negatives, self.images)
        loss, normalizer = find_own(
            embedding, state.bank, candidates, state.normalizer, self.images, self.temperature, self.softmax
        )
        if self.proximal:
            loss += self.proximal * jnp.mean(jnp.sum((embedding - state.bank[index]) ** 2, axis=1))
        bank = remember(state.bank, index, embedding, self.momentum)
        return loss, (self.State(stats, bank, normalizer), {"outputs": outputs})
