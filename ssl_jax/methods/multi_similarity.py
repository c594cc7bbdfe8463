"""Multi-similarity loss: weight pairs by their similarity, relative to the other pairs of the anchor."""

import dataclasses

from ssl_jax.losses import multi_similarity
from ssl_jax.method import Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows


@dataclasses.dataclass(frozen=True)
class MultiSimilarity(Method):
    """Multi-Similarity Loss with General Pair Weighting (Wang et al. 2019, arXiv:1904.06627), section 3.4."""

    alpha: float = 2.0  # sharpness for positives
    beta: float = 50.0  # sharpness for negatives
    base: float = 0.5  # lambda, the similarity that separates near from far
    epsilon: float | None = 0.1  # margin of the mining of pairs; None: all pairs count
    needs_labels = True
    least_batch = 2
    feature = "projection"

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = multi_similarity(embedding, label, self.alpha, self.beta, self.base, self.epsilon)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
