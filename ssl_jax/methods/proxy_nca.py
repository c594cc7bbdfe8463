"""Proxy-NCA: rows find the learned proxy of their class by distance."""

import dataclasses

from ssl_jax.losses import proxy_nca
from ssl_jax.method import Classes, Method, apply, initialize_with_proxies, labelled_rows
from ssl_jax.numeric import normalize


@dataclasses.dataclass(frozen=True)
class ProxyNCA(Method):
    """No Fuss Distance Metric Learning using Proxies (Movshovitz-Attias et al. 2017, arXiv:1703.07464), section 3.2."""

    classes: Classes
    scale: float = 9.0  # of the squared distances
    needs_labels = True

    def init(self, key, batch):
        params, stats = initialize_with_proxies(self.network, key, batch["views"], self.classes)
        return params, self.State(stats)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, params, state.stats, batch["views"])
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = proxy_nca(embedding, label, normalize(params["proxies"]), self.scale)
        return loss, (self.State(stats), {"outputs": outputs})
