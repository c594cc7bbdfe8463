"""Supervised: a linear classifier on the encoder, the baseline of all other methods."""

import dataclasses

import jax
import jax.numpy as jnp

from ssl_jax.losses import cross_entropy
from ssl_jax.method import ClassCount, Method, Result, apply, initialize
from ssl_jax.methods.labelled import linear, through


@dataclasses.dataclass(frozen=True)
class Supervised(Method):
    """Cross-entropy with the classes of all views, and label smoothing.

    Source: for label smoothing, Szegedy et al. 2015 (arXiv:1512.00567), section 7.
    """

    classes: ClassCount
    smoothing: float = 0.0  # epsilon, the fraction of the target that is spread over all classes
    needs_labels = True

    def init(self, key, batch):
        variables, shapes = initialize(self.network, key, batch["views"])
        classifier = linear(jax.random.fold_in(key, 1), shapes.features.shape[-1], self.classes)
        return {"network": variables.params, "classifier": classifier}, self.State(variables.stats)

    def loss(self, params, state, batch, key, step):
        outputs, stats = apply(self.network, self.variables(params, state), batch["views"], key)
        logits = through(params["classifier"], outputs.features)
        label = jnp.broadcast_to(batch["label"][:, None], logits.shape[:2])
        metrics = {
            "uniform_loss": jnp.log(jnp.float32(self.classes)),
            "train_top1": 100 * jnp.mean(jnp.argmax(logits, axis=-1) == label),
        }
        loss = cross_entropy(logits, label, self.smoothing)
        return Result(loss, self.State(stats), metrics, outputs.features[:, 0], outputs.features)
