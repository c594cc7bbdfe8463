"""Golden cases of the losses over positions of a feature map."""

import jax.numpy as jnp

from adapters import adapter
from adapters.losses import differentiate
from ssl_jax import losses


@adapter("cpc_patchgrid")
def cpc_patchgrid(args, arrays):
    def loss(z, c, w):
        total = 0.0
        for k in range(1, args["prediction_steps"] + 1):
            below = k + args["skip_step"]
            target = jnp.einsum("oi,bihw->hwbo", w[k - 1], z[:, :, below:])
            context = c[:, :, :-below].transpose(2, 3, 0, 1)
            target, context = (x.reshape(-1, args["channels"]) for x in (target, context))
            drawn = target[arrays[f"rand_index_k{k}"]].reshape(len(target), args["negatives"], -1)
            total = total + losses.patch_info_nce(context, target, drawn)
        return total / args["prediction_steps"]

    value, grads = differentiate(loss, arrays["z"], arrays["c"], arrays["W"])
    return {"loss": value, "grad_z": grads[0], "grad_c": grads[1], "grad_W": grads[2]}
