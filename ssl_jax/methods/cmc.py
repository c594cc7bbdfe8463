"""CMC: contrast the embeddings of different groups of channels, each from a network of its own."""

import dataclasses
import itertools
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax.augment import Views
from ssl_jax.errors import UserError
from ssl_jax.fields import positive, share
from ssl_jax.losses import instance_softmax, nce_with_first_normalizer, positive_is_first, sampled_scores
from ssl_jax.memory import padded, random_bank, sample_candidates, update_bank
from ssl_jax.method import ImageCount, Method, PyTree, Result, Variables, apply, encode, initialize
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class CMC(Method):
    """Contrastive Multiview Coding (Tian et al. 2019, arXiv:1906.05849), with all pairs of views (section 3.3).

    The views of an image are groups of its channels, each with a network of its own. The embedding of one view is
    matched to its image in the memory of another.
    """

    images: ImageCount
    channels: tuple[tuple[int, ...], ...] = ((0,), (1, 2))  # of each view; default: lightness and colour of Lab
    temperature: Annotated[float, positive] = 0.07  # tau
    negatives: int = 16384  # drawn per image, shared by its views; 0: the softmax is over all images
    softmax: bool = False  # over own and drawn rows, instead of noise-contrastive estimation
    momentum: Annotated[float, share] = 0.5  # weight of the old row in the new one
    mixes_sizes = False
    memories = ("banks",)

    class State(NamedTuple):
        stats: tuple[PyTree, ...]  # BatchNorm statistics of each network
        banks: tuple[jax.Array, ...]  # [N, D] of each view, a row per image
        normalizers: jax.Array  # [M, M], Z of view i in the bank of view j, from the first batch; 0 before

    def check(self, batch):
        super().check(batch)
        if batch["views"].small:
            raise UserError(
                "CMC contrasts the channels of one crop, not several crops; set augment.small_views=0, and with "
                "several resolution.sizes, resolution.mode=random"
            )
        available = batch["views"].large[0].shape[-1]
        valid = [isinstance(group, tuple) and group and set(group) <= set(range(available)) for group in self.channels]
        if len(valid) < 2 or not all(valid):
            raise UserError(
                f"method.channels is {self.channels}; set it to at least two groups of the channels 0 to "
                f"{available - 1}, such as ((0,),(1,2))"
            )

    def init(self, key, batch):
        params, stats, banks = {}, [], []
        for number, view in enumerate(self.split(batch["views"].large[0])):
            own = jax.random.fold_in(key, number)
            variables, shapes = initialize(self.network, own, Views([view]))
            params[f"network{number}"] = variables.params
            stats.append(variables.stats)
            dimension = shapes.projection.shape[-1]
            banks.append(random_bank(jax.random.fold_in(own, 1), padded(self.images), dimension))
        return params, self.State(tuple(stats), tuple(banks), jnp.zeros((len(stats), len(stats))))

    def loss(self, params, state, batch, key, step):
        views, index = self.split(batch["views"].large[0][:, :1]), batch["index"]
        networks = zip(self.networks(params, state), views, strict=True)
        outputs, stats = zip(*(apply(self.network, one, Views([view]), key) for one, view in networks), strict=True)
        embeddings = [l2_normalize(one.projection[:, 0]) for one in outputs]
        candidates = sample_candidates(key, index, self.negatives, self.images)

        def contrast(embedding, bank, normalizer):
            if not self.negatives:
                return instance_softmax(embedding, bank, index, self.temperature, self.images), normalizer
            scores = sampled_scores(embedding, bank, candidates, self.temperature)
            if self.softmax:
                return positive_is_first(scores), normalizer
            return nce_with_first_normalizer(scores, normalizer, self.images)

        loss, normalizers = jnp.zeros(()), state.normalizers
        for i, j in itertools.permutations(range(len(views)), 2):
            found, normalizer = contrast(embeddings[i], state.banks[j], normalizers[i, j])
            loss, normalizers = loss + found, normalizers.at[i, j].set(normalizer)
        memories = zip(state.banks, embeddings, strict=True)
        banks = tuple(update_bank(bank, index, rows, self.momentum) for bank, rows in memories)
        features = jnp.concatenate([one.features[:, 0] for one in outputs], axis=-1)
        return Result(loss, self.State(stats, banks, normalizers), {}, features, jnp.stack(embeddings, axis=1))

    def networks(self, params, state):
        """Returns the networks of the groups of channels."""
        stats = state.stats or [{}] * len(self.channels)  # a checkpoint holds nothing of norms without statistics
        return [Variables(params[f"network{number}"], own) for number, own in enumerate(stats)]

    def variables(self, params, state):
        raise UserError(
            "CMC trains a network for each group of channels, so its runs are neither teachers nor weights to start "
            "from; set another run or method"
        )

    def seen(self, params, state, images):
        """Returns the network of the first group of channels, and these."""
        return self.networks(params, state)[0], self.split(images)[0]

    def represent(self, params, state, images, layers=0):
        networks = zip(self.networks(params, state), self.split(images), strict=True)
        return jnp.concatenate([encode(self.network, one, view, layers) for one, view in networks], axis=-1)

    def split(self, images: jax.Array) -> list[jax.Array]:
        """Returns the channels of images [..., C] that each network sees."""
        return [images[..., np.array(group)] for group in self.channels]
