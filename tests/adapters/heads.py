"""Projection and prediction heads with the weights of MoCo v3, VICReg and SimSiam."""

import flax.linen as nn
import flax.traverse_util as traverse
import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from adapters.batch_norm import run, sample_sizes, torch_statistics
from adapters.weights import COUNTER, TORCH, to_torch, variables
from ssl_jax.losses import negative_cosine_similarity
from ssl_jax.networks import MLP, Encoding, Network


def sequential(prefix, layers):
    """Rows for an MLP that is a torch.nn.Sequential of linear, norm and ReLU."""
    return [
        (f"{kind}{i + 1}", f"{prefix}{3 * i + offset}")
        for i in range(layers)
        for kind, offset in (("linear", 0), ("norm", 1))
    ]


@adapter("mlp_heads", ignored=COUNTER)
def mlp_heads(args, arrays):
    x, layers = arrays["x"], args["num_layers"]
    mocov3 = MLP(args["out"], args["hidden"], layers, last_norm="batch" if args["last_bn"] else "none")
    given = variables(sequential("mocov3_param/", layers), arrays, TORCH)

    output, pullback = jax.vjp(lambda x: run(mocov3, given, x)[0], x)
    (grad_x,) = pullback(jnp.asarray(arrays["cotangent"]))
    vicreg = MLP(args["out"], args["hidden"], 3, hidden_bias=True)
    given_vicreg = variables(sequential("vicreg_param/", 3), arrays, TORCH)
    expanded, _ = run(vicreg, given_vicreg, x)
    return {"mocov3_out": output, "mocov3_grad_x": grad_x, "vicreg_out": expanded}


class Body(nn.Module):
    """The encoder of the SimSiam case: one linear layer and a ReLU on vectors dressed as images."""

    width: int

    @nn.compact
    def __call__(self, x, train, mask=None, keep=None):
        features = nn.relu(nn.Dense(self.width, name="body")(x.reshape(len(x), -1)))
        return Encoding(features, features[:, None], (1, 1))


@adapter("simsiam_heads", ignored=COUNTER)
def simsiam_heads(args, arrays):
    width = len(arrays["param/encoder.body.weight"])
    network = Network(
        Body(width),
        MLP(args["dim"], width, 3, output_bias=True, last_norm="batch"),
        MLP(args["dim"], args["pred_dim"], 2, output_bias=True),
        passes="view",
    )
    table = [("encoder/body", "param/encoder.body")]
    table += [(f"projector/{ours}", theirs) for ours, theirs in sequential("param/encoder.fc.", 3)]
    table += [(f"predictor/{ours}", theirs) for ours, theirs in sequential("param/predictor.", 2)]
    given = variables(table, arrays, TORCH)
    views = (jnp.stack([arrays["x1"], arrays["x2"]], axis=1)[:, :, None, None],)

    def loss(params):
        outputs, new = network.apply(given | {"params": params}, views, train=True, mutable=["batch_stats"])
        target = jax.lax.stop_gradient(outputs.projection[:, ::-1])
        return negative_cosine_similarity(outputs.prediction, target).mean(), (outputs, new["batch_stats"])

    with sample_sizes() as sizes:
        (value, (outputs, new)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(given["params"])
    stats = torch_statistics(given["batch_stats"], new, sizes)
    flat = traverse.flatten_dict(grads, sep="/")
    ours = {"loss": value}
    for view in (0, 1):
        ours |= {f"p{view + 1}": outputs.prediction[:, view], f"z{view + 1}": outputs.projection[:, view]}
    for module, name in table:
        name = name.removeprefix("param/")
        for leaf, (_, kind, _) in TORCH.items():
            if f"grad/{name}{leaf}" in arrays:
                grad = flat[f"{module}/{kind(arrays[f'grad/{name}{leaf}'])}"]
                ours[f"grad/{name}{leaf}"] = to_torch(np.asarray(grad))
        ours |= {f"after/{name}.{leaf}": value for leaf, value in stats.get(module, {}).items()}
    return ours
