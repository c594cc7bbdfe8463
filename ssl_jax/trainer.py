"""One step of any method: the state between two steps, the step as a pure function, and its program on a mesh."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssl_jax import augment, data, parallel, resolution
from ssl_jax.evaluate import probe
from ssl_jax.evaluate.spectrum import projection_crowding, projection_std
from ssl_jax.method import Batch, Method, PyTree
from ssl_jax.optimizer import scaled
from ssl_jax.rules import gradient_norms
from ssl_jax.run import Run


class TrainState(NamedTuple):
    """The whole state of a run between two steps."""

    step: jax.Array  # int32 [], steps taken; the only clock
    params: PyTree
    state: PyTree  # the method's
    opt_state: PyTree
    probe: PyTree  # the online linear probe, None without labels


# From parameters, the method's state, a batch and a key to losses by name.
Penalty = Callable[[PyTree, PyTree, Batch, jax.Array], dict[str, jax.Array]]


def train_step(
    method: Method,
    optimizer: optax.GradientTransformation,
    train: TrainState,
    batch: Batch,
    key: jax.Array,
    watched: Sequence[str] = (),
    penalty: Penalty | None = None,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step of any method.

    Args:
        method: the method.
        optimizer: the optimiser of its parameters.
        train: the state before the step.
        batch: `views`, `label` and `index` int32 [B], and the further fields of the source, see `augment.batch`.
        key: the key of the run; the step number is folded into it.
        watched: patterns of the parameters whose gradients' norms to log, see `gradient_norms`.
        penalty: returns losses by name, which are added to the method's and logged; None: there are none.

    Returns:
        The state after the step, and scalars to log.
    """
    key = jax.random.fold_in(key, train.step)

    def objective(params):
        result = method.loss(params, train.state, batch, key, train.step)
        added = {} if penalty is None else penalty(params, train.state, batch, key)
        result = result._replace(metrics=result.metrics | added)
        return sum(added.values(), result.loss), result

    (_, result), grads = jax.value_and_grad(objective, has_aux=True)(train.params)
    updates, opt_state = optimizer.update(grads, train.opt_state, train.params)
    params = optax.apply_updates(train.params, updates)
    params, state = method.after_step(params, result.state, key, train.step)

    metrics = result.metrics | {"loss": result.loss} | gradient_norms(grads, watched)
    spread = jax.lax.stop_gradient(result.embeddings)
    metrics |= {"projection_std": projection_std(spread), "projection_crowding": projection_crowding(spread)}
    online = train.probe
    if online is not None:
        online, probed = probe.update(online, result.features, batch["label"])
        metrics |= probed
    return TrainState(train.step + 1, params, state, opt_state, online), metrics


def initial_state(run: Run, key: jax.Array) -> TrainState:
    """Returns the state before the first step."""
    batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), run.example_batch)
    return untrained(run, *run.method.init(key, batch), key)


def untrained(run: Run, params: PyTree, state: Any, key: jax.Array) -> TrainState:
    """Returns the state of step 0, given the results of `method.init`."""
    online = None
    if run.probed:
        image = jax.ShapeDtypeStruct((1, *[run.config.data.size] * 2, 3), jnp.float32)
        features = jax.eval_shape(run.method.features, params, state, image)
        online = probe.init(jax.random.fold_in(key, 2), features.shape[-1], len(run.classes))
    return TrainState(jnp.zeros((), jnp.int32), params, state, run.optimizer.init(params), online)


def make_program(run: Run, resident: bool, number: int = -1):
    """Returns the function of one step, from raw images to the new state and metrics.

    Its arguments are the state; the batch, with only indices if the set is on the device; the set on the device, or
    None; and the key of the run.

    Args:
        run: the run.
        resident: whether the set is on the device.
        number: of the recipe, in `run.recipes`.
    """
    settings = run.resolution
    factor = settings.learning_rates[number] if settings.learning_rates else 1.0
    optimizer = run.optimizer if factor == 1 else scaled(run.optimizer, factor)
    method = resolution.with_patches(run.method, settings, number)
    penalty = None if settings.consistency == "none" else functools.partial(resolution.penalty, settings, method)

    def program(train: TrainState, raw: Batch, dataset: Batch | None, key: jax.Array):
        if resident:
            raw = data.take(dataset, raw["index"], run.source, run.canvas)
        visit = run.order.visit(train.step)
        batch = augment.batch(run.recipes[number], key, raw, visit)
        if penalty:
            batch |= {"sizes": resolution.same_crop(settings, run.recipes[number], key, raw, visit)}
        rate = factor * run.learning_rate(train.step)
        train, metrics = train_step(method, optimizer, train, batch, key, run.config.log.gradients, penalty)
        return train, metrics | {"learning_rate": rate}

    return program


def memory_rules(method: Method) -> list[parallel.Split]:
    """Returns how a training state is laid out: what the method remembers of images by rows, the rest by size."""
    places = enumerate((method.memories, method.queues))
    return [parallel.rows(f"state/{name}", axis) for axis, names in places for name in names]


class Trainer:
    """A run on a mesh: its compiled step, its data and its state."""

    def __init__(self, run: Run, mesh: jax.sharding.Mesh):
        self.run, self.mesh = run, mesh
        self.resident = data.fits(run.source, run.canvas, run.config.data.device_bytes)
        key = jax.eval_shape(jax.random.key, 0)
        shapes = jax.eval_shape(functools.partial(untrained, run), *run.shapes, key)
        self.shardings = parallel.layout(mesh, shapes, memory_rules(run.method))
        self.abstract = jax.tree.map(
            lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, self.shardings
        )
        compiled = functools.partial(
            jax.jit, donate_argnums=0, out_shardings=(self.shardings, parallel.replicated(mesh))
        )
        self.programs = [
            compiled(parallel.with_mesh(mesh, make_program(run, self.resident, number)))
            for number in range(len(run.recipes))
        ]
        # Runs a program by its number; its metrics, which no later step takes by donation, tell when it has ended.
        self.advance = parallel.paced(lambda number, *rest: self.programs[number](*rest), lambda result: result[1])

    @functools.cached_property
    def key(self) -> jax.Array:
        """The key of the run, on the mesh."""
        make_key = functools.partial(jax.random.key, self.run.config.seed)
        with jax.transfer_guard("allow"):  # as below
            return jax.jit(make_key, out_shardings=parallel.replicated(self.mesh))()

    @functools.cached_property
    def dataset(self) -> Batch | None:
        """The whole training set on the device, see `data.pack`; None if it does not fit."""
        if not self.resident:
            return None
        dataset = data.pack(data.load_all(self.run.source, self.run.canvas))
        with jax.transfer_guard("allow"):  # the first step uses it inside the loop, which disallows transfers
            return parallel.replicate(self.mesh, dataset)

    def step(self, state: TrainState, batch: Batch, taken: int = 0) -> tuple[TrainState, dict[str, jax.Array]]:
        """Takes one step; the state that is passed is donated.

        Args:
            state: the state before the step.
            batch: its batch, from `batches`.
            taken: steps taken before it, which decide at which size images are seen, if each step has one.
        """
        return self.advance(self.run.recipe_at(taken), state, batch, self.dataset, self.key)

    def init(self) -> TrainState:
        """Returns the state before the first step, on the mesh."""
        # On the CPU, compiling takes longer than the single run, so it is not optimised.
        options = {"xla_backend_optimization_level": 0} if jax.default_backend() == "cpu" else None
        init = functools.partial(initial_state, self.run)
        return jax.jit(init, out_shardings=self.shardings, compiler_options=options)(self.key)

    @functools.cached_property
    def largest(self) -> Callable[[PyTree], jax.Array]:
        """The program that returns the largest magnitude among parameters; NaN if one is NaN."""
        norm = functools.partial(optax.tree.norm, ord="inf")
        return jax.jit(norm, out_shardings=parallel.replicated(self.mesh))

    def batches(self, start: int):
        """Yields the batches of the steps from `start` on, as arrays on the mesh."""
        run = self.run
        rows = parallel.local_rows(self.mesh, run.batch_size)
        if not self.resident:
            workers = run.config.data.workers
            stream = data.batches(run.source, run.order, run.canvas, start, run.steps, rows, workers)
        else:
            stream = ({"index": run.order(step)[rows]} for step in range(start, run.steps))
        return (parallel.scatter(self.mesh, batch) for batch in stream)
