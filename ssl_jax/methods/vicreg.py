"""VICReg: views agree, and channels have variance but no covariance."""

import dataclasses

from ssl_jax.losses import covariance, invariance, mean_over_pairs, variance
from ssl_jax.method import Method, Result, apply


@dataclasses.dataclass(frozen=True)
class VICReg(Method):
    """Variance-Invariance-Covariance Regularization (Bardes et al. 2021, arXiv:2105.04906), Algorithm 1.

    The variance of the two views is averaged, their covariances are added, as in the authors' code.
    """

    invariance: float = 25.0  # lambda
    variance: float = 25.0  # mu
    covariance: float = 1.0  # nu
    large_views = 2
    least_batch = 2

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        z, pairs = outputs.projection, batch["views"].pairs
        spread, shared = ([part(z[:, view]) for view in range(z.shape[1])] for part in (variance, covariance))
        terms = {
            "invariance": mean_over_pairs(pairs, lambda a, b: invariance(z[:, a], z[:, b])),
            "variance": mean_over_pairs(pairs, lambda a, b: (spread[a] + spread[b]) / 2),
            "covariance": mean_over_pairs(pairs, lambda a, b: shared[a] + shared[b]),
        }
        loss = sum(getattr(self, name) * term for name, term in terms.items())
        return Result(loss, self.State(stats), terms, outputs.features[:, 0], z)
