"""Golden cases of Barlow Twins and VICReg."""

import jax.numpy as jnp

from adapters import adapter
from adapters.losses import differentiate
from ssl_jax import losses

RUNNING = "running statistics of a norm without parameters, which nothing reads"


@adapter("barlow", ignored={"bn_running_*": RUNNING})
def barlow(args, arrays):
    loss, grads = differentiate(lambda x, y: losses.barlow_twins(x, y, arrays["lambd"]), arrays["z1"], arrays["z2"])
    ours = {"loss": loss, "loss_lightly": loss, "loss_solo_scaled": arrays["solo_scale"] * loss}
    return ours | {"grad_z1": grads[0], "grad_z2": grads[1], "grad_z1_lightly": grads[0]}


def deviation(x, y):
    """The variance term over two views, as the authors halve it."""
    return (losses.variance(x) + losses.variance(y)) / 2


def covariance(x, y):
    return losses.covariance(x) + losses.covariance(y)


@adapter(
    "vicreg",
    ignored={
        "loss_per_rank": "of which the mean is compared",
        "world_size": "we know no processes",
        "*_coeff": "in the case's args",
    },
)
def vicreg(args, arrays):
    weights = args["coeffs"]
    terms = losses.invariance, deviation, covariance
    views = arrays["x"], arrays["y"]

    def total(x, y):
        return sum(weight * term(x, y) for weight, term in zip(weights, terms, strict=True))

    loss, grads = differentiate(total, *views)
    if "loss_mean" in arrays:
        ours = {"loss_mean": loss, "loss_single_device": loss}
        for name, grad in zip("xy", grads, strict=True):
            ours |= {f"grad_{name}_mean": grad, f"grad_{name}_single": grad}
        return ours
    std = deviation(*map(jnp.asarray, views))
    ours = {"loss": loss, "grad_x": grads[0], "grad_y": grads[1], "loss_lightly": loss, "grad_x_lightly": grads[0]}
    ours["loss_solo"] = loss + weights[1] * std  # it does not halve that term
    for name, term in zip(("sim", "std", "cov"), terms, strict=True):
        value, (grad, _) = differentiate(term, *views)
        ours |= {f"{name}_loss": value, f"{name}_grad_x": grad}
    return ours
