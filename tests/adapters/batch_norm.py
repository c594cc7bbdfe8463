"""Golden cases of BatchNorm: running statistics as in torch, and synchronisation over devices."""

import contextlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from adapters.weights import HAIKU, get, variables
from ssl_jax.networks import MLP, Norm


def run(model, given, x):
    """Returns the output of the compiled model in training mode, and its new statistics."""
    return jax.jit(lambda given, x: model.apply(given, x, train=True, mutable=["batch_stats"]))(given, x)


@contextlib.contextmanager
def sample_sizes():
    """Collects module path -> the number of values behind each statistic, once per call of a BatchNorm."""
    sizes = {}

    def count(call, args, kwargs, context):
        if isinstance(context.module, Norm) and context.method_name == "__call__" and context.module.kind == "batch":
            sizes.setdefault("/".join(context.module.path), []).append(args[0].size // args[0].shape[-1])
        return call(*args, **kwargs)

    with nn.intercept_methods(count):
        yield sizes


@contextlib.contextmanager
def norm_fields(**fields):
    """A context in which every Norm has these fields, for which our models have no options."""

    def override(call, args, kwargs, context):
        if isinstance(context.module, Norm) and context.method_name == "__call__":
            for name, value in fields.items():
                object.__setattr__(context.module, name, value)
        return call(*args, **kwargs)

    with nn.intercept_methods(override):
        yield


def torch_statistics(old, new, sizes):
    """Our new running statistics with torch's unbiased variance: module path -> their leaf -> value."""
    stats = {}
    for path, (size, *more) in sizes.items():
        kept = Norm.momentum ** (1 + len(more)) * get(old, path)["var"]
        added = get(new, path)["var"] - kept
        stats[path] = {"running_mean": get(new, path)["mean"], "running_var": kept + added * size / (size - 1)}
    return stats


def on_devices(count, function, *rows):
    """Runs a function of global arrays under `jit`, with rows split over some devices."""
    mesh = jax.make_mesh((count,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:count])
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    return jax.jit(function)(*jax.device_put(rows, sharding))


@adapter(
    "byol_mlp_syncbn",
    deviates={
        "grad_param_global/predictor/linear/b": (1e3, "zero but for rounding: BatchNorm removes a bias before it")
    },
)
def byol_head(args, arrays):
    norm = args["bn"]
    assert norm["cross_replica_axis"], "without an axis there are as many statistics as replicas"
    fields = {
        "momentum": norm["decay_rate"],
        "eps": norm["eps"],
        "scale": norm["create_scale"],
        "bias": norm["create_offset"],
    }
    with norm_fields(**fields):
        return byol_head_numbers(args, arrays)


def byol_head_numbers(args, arrays):
    model = MLP(args["out"], args["hidden"], 2, hidden_bias=True)
    names = {"linear1": "linear", "norm1": "batch_norm", "linear2": "linear_1"}
    given = variables([(ours, f"param/predictor/{theirs}") for ours, theirs in names.items()], arrays, HAIKU)
    # The original starts from zeros and corrects the bias of the average.
    zero = {"batch_stats": {"norm1": {"mean": np.zeros(args["hidden"]), "var": np.zeros(args["hidden"])}}}

    def step(x, cotangent):
        def loss(params, x):
            y, new = model.apply({"params": params} | zero, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y * cotangent), (y, new["batch_stats"]["norm1"])

        return jax.grad(loss, (0, 1), has_aux=True)(given["params"], x)

    ours = {}
    for name, devices in (("sync", args["world_size"]), ("global", 1)):
        (grads, grad_x), (y, stats) = on_devices(devices, step, arrays["x"], arrays["cotangent"])
        ours |= {f"y_{name}": y, f"grad_x_{name}": grad_x}
        average = {leaf: np.asarray(value) / (1 - args["bn"]["decay_rate"]) for leaf, value in stats.items()}
        for leaf in ("mean", "var"):
            state = f"state_after_{name}/predictor/batch_norm/~/{leaf}_ema"
            ours |= {f"{state}/hidden": stats[leaf][None], f"{state}/average": average[leaf][None]}
            ours[f"{state}/counter"] = 1
    trained = {"params": given["params"], "batch_stats": {"norm1": average}}
    ours["y_eval_after_one_step"] = model.apply(trained, arrays["x"])
    for module, name in names.items():
        for leaf, (collection, kind, _) in HAIKU.items():
            theirs = f"grad_param_global/predictor/{name}{leaf}"
            if collection == "params" and theirs in arrays:
                ours[theirs] = np.reshape(grads[module][kind("")], arrays[theirs].shape)
    return ours


@adapter("tf_syncbn")
def tensorflow_batch_norm(args, arrays):
    norm = Norm(momentum=args["momentum"], eps=args["eps"])
    channels = len(arrays["gamma"])
    given = {
        "params": {"scale": arrays["gamma"], "bias": arrays["beta"]},
        "batch_stats": {"mean": np.zeros(channels, np.float32), "var": np.ones(channels, np.float32)},
    }

    def step(x, cotangent):
        def loss(x):
            y, new = norm.apply(given, x, train=True, mutable=["batch_stats"])
            return jnp.sum(y * cotangent), (y, new["batch_stats"])

        return jax.grad(loss, has_aux=True)(x)

    ours = {}
    for name, moving, devices in (("sync", "after", args["world_size"]), ("global", "global", 1)):
        grad_x, (y, stats) = on_devices(devices, step, arrays["x"], arrays["cotangent"])
        ours |= {f"y_{name}": y, f"grad_x_{name}": grad_x}
        ours |= {f"moving_mean_{moving}": stats["mean"], f"moving_variance_{moving}": stats["var"]}
    return ours
