"""Golden cases of supervised metric learning."""

import re

import jax.numpy as jnp

from adapters import adapter
from adapters.losses import differentiate
from ssl_jax import losses
from ssl_jax.numeric import l2_normalize


@adapter("supcon", ignored={"labels": "where the case uses none"})
def supcon(args, arrays):
    count, views, _ = arrays["features"].shape
    label = jnp.asarray(arrays["labels"]) if args["use_labels"] else jnp.arange(count)
    label = jnp.repeat(label, views)
    temperature = args["temperature"]
    anchors = jnp.arange(count * views) % views == 0  # in the mode "one", only first views are anchors

    def loss(features):
        rows = features.reshape(count * views, -1)
        each = losses.supervised_contrastive(rows, label, arrays["temperature"])
        chosen = jnp.ones_like(anchors) if args["contrast_mode"] == "all" else anchors
        return temperature / args["base_temperature"] * jnp.mean(each, where=chosen)

    value, (grad,) = differentiate(loss, arrays["features"])
    return {"loss": value, "grad_features": grad}


MINING = {"all": "all", "batchhard": "batch_hard", "semihard": "semihard", "hard": "hard"}


def loss_named(name):
    """Returns the loss f(embedding, label, proxies) for a name and parameters of pytorch-metric-learning."""
    kind, *rest = name.split("_")
    numbers = [float(x) for x in re.findall(r"_[a-z]*([\d.]+)", name)]
    if kind == "triplet":
        squared = rest[:2] == ["euclid", "sq"]
        length = (lambda x: x) if squared else l2_normalize
        mining = MINING[rest[-2]]
        return lambda x, y, p: losses.triplet(length(x), y, numbers[-1], mining, squared)
    return {
        "circle": lambda x, y, p: losses.circle(l2_normalize(x), y, *numbers),
        "ntxent": lambda x, y, p: losses.supervised_info_nce(l2_normalize(x), y, numbers[0]),
        "supcon": lambda x, y, p: jnp.mean(losses.supervised_contrastive(l2_normalize(x), y, numbers[0])),
        "contrastive": lambda x, y, p: losses.margin_contrastive(l2_normalize(x), y, numbers[1]),
        "multisim": lambda x, y, p: losses.multi_similarity(l2_normalize(x), y, *numbers, epsilon=None),
        "proxynca": lambda x, y, p: losses.proxy_nca(l2_normalize(x), y, l2_normalize(p), numbers[0]),
        "proxyanchor": lambda x, y, p: losses.proxy_anchor(l2_normalize(x), y, l2_normalize(p), *numbers),
    }[kind]


@adapter("pml", ignored={"*_mined": "which triplets count: the loss and its gradient over them are compared"})
def pml(args, arrays):
    label = jnp.asarray(arrays["labels"])
    ours = {}
    for name in (key.removesuffix("_loss") for key in arrays if key.endswith("_loss")):
        loss = loss_named(name)
        value, grads = differentiate(lambda x, p, f=loss: f(x, label, p), arrays["embeddings"], arrays["proxies"])
        ours |= {f"{name}_loss": value, f"{name}_grad": grads[0]}
        if name.startswith("proxy"):
            ours[f"{name}_grad_proxies"] = grads[1]
    return ours
