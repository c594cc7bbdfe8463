"""Golden cases of the losses over positions of a feature map."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from adapters import adapter
from adapters.losses import differentiate, slotted
from ssl_jax import losses
from ssl_jax.augment import Views
from ssl_jax.method import Variables
from ssl_jax.methods.densecl import DenseCL
from ssl_jax.networks import MLP, Encoding, Network
from ssl_jax.numeric import as_rows


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


class Maps(nn.Module):
    """An encoder whose last feature map is the image [N, H, W, C]."""

    def __call__(self, x, train=False, mask=None, keep=None):
        return Encoding(x.mean((1, 2)), x.reshape(len(x), -1, x.shape[-1]), x.shape[1:3])


LAYERS = {"linear1": "0", "linear2": "2"}  # ours, theirs


def neck(arrays, prefix):
    """Parameters of projector and dense head; a 1x1 convolution is a linear layer."""
    return {
        ours: {
            layer: {
                "kernel": jnp.asarray(arrays[f"{prefix}/{theirs}.{number}.weight"])
                .reshape(arrays[f"{prefix}/{theirs}.{number}.weight"].shape[:2])
                .T,
                "bias": jnp.asarray(arrays[f"{prefix}/{theirs}.{number}.bias"]),
            }
            for layer, number in LAYERS.items()
        }
        for ours, theirs in {"projector": "mlp", "dense": "mlp2"}.items()
    }


def unneck(params, prefix, arrays):
    """The same numbers under their names and in their shapes."""
    named = {}
    for ours, theirs in {"projector": "mlp", "dense": "mlp2"}.items():
        for layer, number in LAYERS.items():
            name = f"{theirs}.{number}"
            shape = arrays[f"param_q/{name}.weight"].shape
            named[f"{prefix}/{name}.weight"] = params[ours][layer]["kernel"].T.reshape(shape)
            named[f"{prefix}/{name}.bias"] = params[ours][layer]["bias"]
    return named


@adapter("densecl", ignored={"ptr_after": "where the next keys go in their ring"})
def densecl(args, arrays):
    batch, weight = args["batch"], arrays["loss_lambda"]
    head = functools.partial(MLP, args["dim"], args["hid"], norm="none", hidden_bias=True, output_bias=True)
    method = DenseCL(
        Network(Maps(), projector=head(), dense=head()),
        decay=lambda step: arrays["momentum"],
        queue_size=args["queue_len"],
        temperature=arrays["temperature"],
        weight=weight,
    )
    params = {"network": neck(arrays, "param_q")}
    queues = [slotted(arrays[name].T, batch) for name in ("queue_0", "queue2_0")]
    state = method.State({}, Variables(neck(arrays, "param_k_0"), {}), *queues)

    @jax.jit
    def move(state, query, key, step):
        _, state = method.after_step(params, state, jax.random.key(0), step)  # theirs is updated before it encodes

        def loss(params):
            views = Views([jnp.stack([query, key], 1)])
            result = method.loss(params, state, {"views": views}, jax.random.key(0), step)
            return result.loss, (result.state, result.metrics["dense_loss"])

        (value, (state, dense)), grads = jax.value_and_grad(loss, has_aux=True)(params)
        positions = (x.reshape(batch, -1, args["C"]) for x in (query, key))
        return state, {
            "loss_dense_weighted": weight * dense,
            "loss_single_weighted": value - weight * dense,
            "match_index": losses.nearest_position(*positions),
            "queue_after": as_rows(state.queue).T,
            "queue2_after": as_rows(state.dense_queue).T,
            **unneck(grads["network"], "grad_q", arrays),
        }

    history = []
    for step, pair in enumerate(zip(arrays["feat_q"], arrays["feat_k"], strict=True)):
        state, ours = move(state, *(jnp.asarray(x).transpose(0, 2, 3, 1) for x in pair), step)
        history.append(ours)
    after = unneck(state.target.params, "param_k_after", arrays)
    return jax.tree.map(lambda *steps: jnp.stack(steps), *history) | after
