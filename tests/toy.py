"""A toy network for the properties of methods, and a run for methods that learn from one."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, networks
from ssl_jax.augment import Views
from ssl_jax.build import build
from ssl_jax.checkpoint import Checkpoints
from ssl_jax.fields import to_dict
from ssl_jax.method import Method, Result, Stats, Variables, apply
from ssl_jax.model import Model, Weights
from ssl_jax.networks import MLP, Encoding, Network, Outputs, Prototypes, TextTower
from ssl_jax.workdir import claim

BATCH, VIEWS, SIZE, DIMENSION, PROTOTYPES = 8, 2, 4, 6, 10
TEXT = TextTower(vocabulary=20, dim=8, depth=1, heads=2, output=DIMENSION)


class Linear(nn.Module):
    """Images [N, H, W, C] -> features [N, 8] by one matrix; the patches are the pixels."""

    stride = 1

    @nn.compact
    def __call__(self, x, train=False, mask=None, keep=None):
        patches = x.reshape(x.shape[0], -1, x.shape[-1])
        return Encoding(nn.Dense(8)(x.reshape(x.shape[0], -1)), patches, x.shape[1:3])


class Pixels(nn.Module):
    """Images [N, H, W, C] -> patches [N, H W, 8] by one matrix for every pixel, and features, their mean."""

    @nn.compact
    def __call__(self, x, train=False, mask=None, keep=None):
        patches = nn.Dense(8)(x).reshape(x.shape[0], -1, 8)
        return Encoding(patches.mean(1), patches, x.shape[1:3])


def network(predictor=None) -> Network:
    head = {"mlp": MLP(DIMENSION, layers=1), "prototypes": Prototypes(PROTOTYPES), None: None}[predictor]
    return Network(Linear(), MLP(DIMENSION, layers=1), head, passes="resolution")


def batch(seed=0, views=VIEWS, small=0):
    """A batch of random large views, and of small ones, which are of the same size."""
    arrays = jnp.split(jax.random.normal(jax.random.key(seed), (BATCH, views + small, SIZE, SIZE, 3)), [views], axis=1)
    return {"views": Views(arrays, ("large", "small")) if small else Views(arrays[:1])}


def captioned(seed=0, **options):
    """A batch with captions of three random tokens between 18, the start, and 19, the end."""
    tokens = np.random.default_rng(seed).integers(1, 18, (BATCH, 5))
    tokens[:, 0], tokens[:, -1] = 18, 19
    return batch(seed, **options) | {"text": jnp.asarray(tokens, jnp.int32)}


def outputs(method, params, state, batch) -> Outputs:
    """Returns the outputs of the method's network for the views."""
    return apply(method.network, method.variables(params, state), batch["views"])[0]


def loss(method, params, state, batch, key=0, step=0) -> Result:
    """Returns the method's result for a batch."""
    return method.loss(params, state, batch, jax.random.key(key), jnp.int32(step))


def save_run(workdir, config):
    """Makes a workdir as left by a run of this config that stopped before it moved its weights; returns the run."""
    claim(workdir, config)
    run = build(config)
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), run.example_batch)
    params, state = jax.jit(run.method.init)(jax.random.key(1), batch)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(3, {"params": params, "state": state})
    (workdir / "metrics.jsonl").write_text('{"step": 3, "loss": 1.0}\n')
    return run


def write_run(workdir, config, nest=lambda tree: tree):
    """Makes a workdir as left by a run of this config, with random weights, `nest`ed in its state; returns them.

    It also has a moving average, in which each weight is larger by 1.
    """
    claim(workdir, config)
    variables = networks.build(to_dict(config.network)).init(jax.random.key(7), (jnp.zeros((1, 1, 16, 16, 3)),))
    target = Variables(jax.tree.map(lambda x: x + 1, variables["params"]), variables["batch_stats"])
    kept = {"stats": nest(variables["batch_stats"]), "queue": jnp.zeros((2, 4, 4)), "target": target}
    state = {"params": {"network": nest(variables["params"])}, "state": kept}
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(3, state)
    return Variables(variables["params"], variables["batch_stats"])


def drawn(shapes):
    """Random arrays of these shapes: matrices that keep the size of what they multiply, else numbers around 1."""
    random = np.random.default_rng(0)

    def draw(x):
        if not np.issubdtype(x.dtype, np.floating):
            return np.zeros(x.shape, x.dtype)
        if len(x.shape) < 2:
            return random.uniform(0.5, 1.5, x.shape).astype(x.dtype)
        return (random.normal(size=x.shape) / np.sqrt(np.prod(x.shape[:-1]))).astype(x.dtype)

    return jax.tree.map(draw, shapes)


def random_run(workdir, config):
    """Makes a workdir as left by a run of this config, with weights that no network begins with.

    Returns:
        The run, its parameters and its state.
    """
    claim(workdir, config)
    run = build(config)
    params, state = drawn(run.shapes)
    with Checkpoints(workdir / "checkpoints") as checkpoints:
        checkpoints.save(3, {"params": params, "state": state})
    return run, params, state


def model(encoder, size):
    """A model of an encoder with random weights, some of which differ from those that networks begin with."""
    shapes = jax.eval_shape(Network(encoder).init, jax.random.key(0), (jnp.zeros((1, 1, size, size, 3)),))
    variables = drawn(dict(shapes))
    weights = Weights({"network": variables["params"]}, Stats(variables.get("batch_stats", {})))
    space = augment.SPACES["rgb"]._replace(mean=(0.5, 0.4, 0.3))
    recipe = augment.Recipe((), space)
    return Model(Method(Network(encoder)), weights, recipe, size, size, 1.0, "backbone", "toy")
