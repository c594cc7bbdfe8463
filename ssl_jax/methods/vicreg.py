"""VICReg: views agree, channels vary, and do not vary together."""

import dataclasses

from ssl_jax.losses import covariance, invariance, variance
from ssl_jax.method import Method, apply, two_views


@dataclasses.dataclass(frozen=True)
class VICReg(Method):
    """Variance-Invariance-Covariance Regularization (Bardes et al. 2021, arXiv:2105.04906), Algorithm 1.

    The variance of the two views is averaged, their covariances are added, as in the authors' code.
    """

    invariance: float = 25.0  # lambda
    variance: float = 25.0  # mu
    covariance: float = 1.0  # nu

    def loss(self, params, state, batch, key, step):
        two_views(batch["views"])
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        x, y = outputs.projection[:, 0], outputs.projection[:, 1]
        terms = {
            "invariance": invariance(x, y),
            "variance": (variance(x) + variance(y)) / 2,
            "covariance": covariance(x) + covariance(y),
        }
        loss = sum(getattr(self, name) * term for name, term in terms.items())
        return loss, (self.State(stats), terms | {"outputs": outputs})
