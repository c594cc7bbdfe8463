"""Golden cases of the losses over positions of a feature map."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from adapters import adapter
from adapters.losses import differentiate, from_ring, loss_first, to_ring
from ssl_jax import losses
from ssl_jax.augment import Views
from ssl_jax.method import Variables
from ssl_jax.methods.densecl import DenseCL
from ssl_jax.networks import MLP, Encoding, Network


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
    """An encoder whose patches are the pixels of the images."""

    def __call__(self, x, train=False, mask=None, keep=None):
        patches = x.reshape(x.shape[0], -1, x.shape[-1])
        return Encoding(patches.mean(1), patches, x.shape[1:3])


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
    queues = [from_ring(arrays[name], batch) for name in ("queue_0", "queue2_0")]
    state = method.State({}, Variables(neck(arrays, "param_k_0"), {}), *queues)
    gradient = jax.value_and_grad(lambda *given: loss_first(method.loss(*given)), has_aux=True)
    history = []
    for step in range(len(arrays["feat_q"])):
        _, state = method.after_step(params, state, None, step)  # they move the key encoder before it encodes
        query, key = (jnp.asarray(arrays[f"feat_{name}"][step]).transpose(0, 2, 3, 1) for name in "qk")
        views = {"views": Views([jnp.stack([query, key], 1)])}
        (loss, result), grads = gradient(params, state, views, jax.random.key(0), jnp.int32(step))
        state, metrics = result.state, result.metrics
        positions = (x.reshape(batch, -1, args["C"]) for x in (query, key))
        history.append(
            {
                "loss_dense_weighted": weight * metrics["dense_loss"],
                "loss_single_weighted": loss - weight * metrics["dense_loss"],
                "match_index": losses.nearest_position(*positions),
                "queue_after": to_ring(state.queue),
                "queue2_after": to_ring(state.dense_queue),
                **unneck(grads["network"], "grad_q", arrays),
            }
        )
    return jax.tree.map(lambda *steps: jnp.stack(steps), *history) | unneck(state.target.params, "param_k_after", arrays)
