"""Proxy-Anchor: a learned proxy per class attracts the rows of its class and repels the others."""

import dataclasses

from ssl_jax.losses import proxy_anchor
from ssl_jax.method import ClassCount, Method, Result, apply
from ssl_jax.methods.labelled import labelled_rows, with_proxies
from ssl_jax.numeric import l2_normalize


@dataclasses.dataclass(frozen=True)
class ProxyAnchor(Method):
    """Proxy Anchor Loss for Deep Metric Learning (Kim et al. 2020, arXiv:2003.13911), equation 4."""

    classes: ClassCount
    margin: float = 0.1  # delta
    scale: float = 32.0  # alpha
    needs_labels = True
    feature = "projection"

    def init(self, key, batch):
        params, stats = with_proxies(self.network, key, batch["views"], self.classes)
        return params, self.State(stats)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        embedding, label = labelled_rows(outputs.projection, batch["label"])
        loss = proxy_anchor(embedding, label, l2_normalize(params["proxies"]), self.margin, self.scale)
        return Result(loss, self.State(stats), {}, outputs.features[:, 0], outputs.projection)
