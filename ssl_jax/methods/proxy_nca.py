"""Proxy-NCA: match rows to the learned proxy of their class by distance."""

import dataclasses

from ssl_jax.losses import proxy_nca
from ssl_jax.method import ClassCount, Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows, with_proxies
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class ProxyNCA(Method):
    """No Fuss Distance Metric Learning using Proxies (Movshovitz-Attias et al. 2017, arXiv:1703.07464), section 3.2."""

    classes: ClassCount
    scale: float = 9.0  # factor of the squared distances
    needs_labels = True
    feature = "projection"

    def init(self, key, batch):
        params, stats = with_proxies(self.network, key, batch["views"], self.classes)
        return params, self.State(stats)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = proxy_nca(embedding, label, l2_normalize(params["proxies"]), self.scale)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
