"""Builds optimisers from configs: SGD, LARS and AdamW in optax, with rules on parameter paths."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ssl_jax import schedule
from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import all_lasting, decay, every, lasting, not_negative, positive
from ssl_jax.rules import Rule, labels, per_parameter, resolve
from ssl_jax.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Settings:
    """The optimiser's settings in a config.

    `learning_rate`, `warmup_start` and `end` are multiplied by the scaling: they are values for a batch of 256
    (linear), for a batch of 1 (sqrt), or final (none). Durations are written in steps, "10 epochs" or "40000 examples".

    `rules` are pairs of a regular expression, which is searched in parameter paths such as "encoder/stem/kernel", and
    the fields of `Rule` to set; all rules that match apply, and later ones take precedence. The usual rules:

        (("bias|scale", {"weight_decay": 0.0, "adaptation": False}),)    # BYOL, SimCLR: biases and BatchNorm
        (("prototypes", {"freeze": "1 epoch"}),)                         # SwAV
    """

    name: str  # sgd, lars or adamw
    learning_rate: Annotated[float, not_negative]
    scaling: str = "linear"  # of the rate with the batch: linear (x batch / 256), sqrt (x sqrt(batch)) or none
    schedule: str = "cosine"  # cosine to `end`, step (x `factor` at `milestones`) or constant
    warmup: Annotated[int | str, lasting] = 0  # duration of the linear warm-up
    warmup_start: Annotated[float, not_negative] = 0.0  # learning rate at the start of the warm-up
    end: Annotated[float, not_negative] = 0.0  # learning rate at the end of a cosine
    milestones: Annotated[Sequence[int | str], all_lasting] = ()
    factor: Annotated[float, positive] = 0.1
    per_epoch: bool = False  # whether the schedule changes once per epoch, not at each step
    momentum: Annotated[float, decay] = 0.9  # of sgd and lars
    nesterov: bool = False
    weight_decay: Annotated[float, not_negative] | Mapping[str, Any] = 0.0  # a number or a schedule
    betas: Annotated[tuple[float, float], every(decay)] = (0.9, 0.999)  # of adamw
    eps: Annotated[float, positive] = 1e-8  # of adamw
    variant: str = "byol"  # of lars: simclr, popular, byol, larc or solo
    eta: Annotated[float, positive] = 1e-3  # trust coefficient of lars
    clip: Annotated[float, positive] | None = None  # largest norm of the gradient of all parameters together
    clip_each: Annotated[float, positive] | None = None  # largest norm of each parameter's gradient
    rules: Sequence[tuple[str, Mapping[str, Any]]] = ()


def build(
    config: Mapping[str, Any], steps: int, batch_size: int, steps_per_epoch: int, params: Any
) -> tuple[optax.GradientTransformation, Schedule]:
    """Builds the optimiser of a config.

    Args:
        config: the fields of `Settings`.
        steps: the steps of the whole run.
        batch_size: the global batch size in images.
        steps_per_epoch: the number of whole batches in the training set.
        params: the parameters, or a tree of the same structure, as from `jax.eval_shape`; only the paths matter.

    Returns:
        The optax transformation, and its learning rate as a function of the step.

    Raises:
        UserError: if a field, a name or a duration is unknown, or a rule matches no parameter.
    """
    settings = parse(config)
    to_steps = functools.partial(schedule.duration, steps_per_epoch=steps_per_epoch, batch_size=batch_size)
    learning_rate = learning_rate_schedule(settings, steps, batch_size, steps_per_epoch, to_steps)
    weight_decay = schedule.build(settings.weight_decay, steps, to_steps)
    rules = resolve(settings.rules, params, to_steps)
    peak = SCALINGS[settings.scaling](batch_size) * settings.learning_rate
    return transformation(settings, learning_rate, weight_decay, rules, peak), learning_rate


def parse(config: Mapping[str, Any]) -> Settings:
    """Checks the names in a config and returns its settings."""
    fields = {field.name for field in dataclasses.fields(Settings)}
    for key in set(config) - fields:
        raise UserError(f"unknown key optimizer.{key}; {suggest(key, fields)}")
    for key in {"name", "learning_rate"} - set(config):
        raise UserError(f"optimizer.{key} is not set; set it, as in --config.optimizer.{key}=VALUE")
    settings = Settings(**config)
    valid: dict[str, Collection] = {"name": OPTIMIZERS, "variant": LARS, "scaling": SCALINGS, "schedule": SCHEDULES}
    for field, table in valid.items():
        value = getattr(settings, field)
        if value not in table:
            raise UserError(f"unknown optimizer.{field} {value!r}; {suggest(str(value), table)}")
    if settings.milestones and settings.schedule != "step":
        raise UserError(
            f"optimizer.milestones have no effect on the schedule {settings.schedule!r}; set optimizer.schedule=step, "
            "or leave them out"
        )
    return settings


SCALINGS: dict[str, Callable[[int], float]] = {
    "linear": lambda batch_size: batch_size / 256,
    "sqrt": math.sqrt,
    "none": lambda batch_size: 1.0,
}
SCHEDULES = ("cosine", "step", "constant")


def learning_rate_schedule(
    settings: Settings, steps: int, batch_size: int, steps_per_epoch: int, to_steps: Callable[[int | str], int]
) -> Schedule:
    """Returns the learning rate as a function of the step: warm-up, then the schedule, scaled by the batch size."""
    scale = SCALINGS[settings.scaling](batch_size)
    peak, start, end = (scale * rate for rate in (settings.learning_rate, settings.warmup_start, settings.end))
    warmup = to_steps(settings.warmup)
    rate = {
        "cosine": schedule.cosine(peak, end, steps - warmup, begin=warmup),
        "step": schedule.milestones(peak, [to_steps(at) for at in settings.milestones], settings.factor),
        "constant": schedule.constant(peak),
    }[settings.schedule]
    if settings.per_epoch:
        rate = schedule.per_epoch(rate, steps_per_epoch)
    return schedule.warmup(rate, warmup, start)


def transformation(
    settings: Settings, learning_rate: Schedule, weight_decay: Schedule, rules: Mapping[str, Rule], peak: float
) -> optax.GradientTransformation:
    """Returns the optimiser for the rule of each parameter path; `peak` is the rate of rules that are `constant`."""

    def group(rule):
        own = "" if rule.momentum is None else f", momentum {rule.momentum}"
        return f"frozen until {rule.freeze}" + ", constant" * rule.constant + own

    groups = {group(rule): rule for rule in rules.values()}  # few different rules for many parameters

    def at(step):
        def update(rule):
            rate = jnp.asarray(peak, float) if rule.constant else learning_rate(step)
            momentum = settings.momentum if rule.momentum is None else rule.momentum
            own = dataclasses.replace(settings, momentum=momentum)
            inner = OPTIMIZERS[settings.name](own, rate, weight_decay(step), rules)
            scaled = optax.chain(inner, per_parameter(lambda rule, update, _: update * rule.learning_rate, rules))
            return frozen(scaled, step < rule.freeze)

        updates = {name: update(rule) for name, rule in groups.items()}
        return optax.partition(updates, lambda tree: labels(group, tree, rules))

    clips = [clip_each(settings.clip_each)] if settings.clip_each else []
    clips += [optax.clip_by_global_norm(settings.clip)] if settings.clip else []
    return optax.chain(*clips, scheduled(at)) if clips else scheduled(at)


def clip_each(limit: float) -> optax.GradientTransformation:
    """Clips the gradient of each parameter to a norm of at most `limit`.

    Source: `clip_gradients` in the code of DINO (Caron et al. 2021, arXiv:2104.14294), with its 1e-6.
    """

    def clip(gradient):
        return gradient * jnp.minimum(1.0, limit / (optax.safe_norm(gradient, 0.0) + 1e-6)).astype(gradient.dtype)

    return optax.stateless(lambda updates, params: jax.tree.map(clip, updates))


class ScheduledState(NamedTuple):
    """The state of `scheduled`."""

    step: jax.Array  # int32
    inner: optax.OptState


def scheduled(at: Callable[[jax.Array], optax.GradientTransformation]) -> optax.GradientTransformation:
    """Returns the transformation that `at` makes for each step; its state holds the one clock of all schedules."""

    def init(params):
        step = jnp.zeros((), jnp.int32)
        return ScheduledState(step, at(step).init(params))

    def update(updates, state, params=None):
        updates, inner = at(state.step).update(updates, state.inner, params)
        return updates, ScheduledState(state.step + 1, inner)

    return optax.GradientTransformation(init, update)


def scaled(optimizer: optax.GradientTransformation, factor: float) -> optax.GradientTransformation:
    """Returns an optimiser whose updates are multiplied by a factor; its state is that of the original."""

    def update(updates, state, params=None):
        updates, state = optimizer.update(updates, state, params)
        return jax.tree.map(lambda x: factor * x, updates), state

    return optax.GradientTransformation(optimizer.init, update)


def frozen(inner: optax.GradientTransformation, still: jax.Array) -> optax.GradientTransformation:
    """Returns the inner transformation, whose updates are zero and whose state does not change while `still`."""

    def update(updates, state, params=None):
        moved, new = inner.update(updates, state, params)
        moved = jax.tree.map(lambda value: jnp.where(still, 0.0, value), moved)
        return moved, jax.tree.map(lambda old, value: jnp.where(still, old, value), state, new)

    return optax.GradientTransformation(inner.init, update)


def decayed(weight_decay, rules) -> optax.GradientTransformation:
    """Returns a transformation that adds the weight decay of each parameter to its update."""
    return per_parameter(lambda rule, update, param: update + weight_decay * rule.weight_decay * param, rules)


def sgd(settings: Settings, learning_rate, weight_decay, rules) -> optax.GradientTransformation:
    """SGD with momentum, and with weight decay added to the gradient."""
    return optax.chain(decayed(weight_decay, rules), optax.sgd(learning_rate, settings.momentum, settings.nesterov))


def adamw(settings: Settings, learning_rate, weight_decay, rules) -> optax.GradientTransformation:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101, Algorithm 2)."""
    adam = optax.scale_by_adam(*settings.betas, settings.eps)

    def update(updates, state, params=None):
        with jax.numpy_dtype_promotion("standard"):  # optax raises a decay to an integer power
            return adam.update(updates, state, params)

    moments = optax.GradientTransformation(adam.init, update)
    return optax.chain(moments, decayed(weight_decay, rules), optax.scale_by_learning_rate(learning_rate))


def lars(settings: Settings, learning_rate, weight_decay, rules) -> optax.GradientTransformation:
    """LARS (You et al. 2017, arXiv:1708.03888, Algorithm 1) in the variant the settings name."""
    return LARS[settings.variant](settings, learning_rate, weight_decay, rules)


def lars_simclr(settings: Settings, learning_rate, weight_decay, rules) -> optax.GradientTransformation:
    """LARS as in SimCLR: the learning rate is applied before the momentum."""
    adapted = functools.partial(labels, lambda rule: rule.adaptation, rules=rules)
    inner = optax.lars(
        learning_rate,
        trust_coefficient=settings.eta,
        trust_ratio_mask=adapted,
        momentum=settings.momentum,
        nesterov=settings.nesterov,
    )
    return optax.chain(decayed(weight_decay, rules), inner)


def lars_popular(settings: Settings, learning_rate, weight_decay, rules) -> optax.GradientTransformation:
    """LARS as in SimCLR's code with `classic_momentum` off: the trust ratio is computed after the momentum."""
    adapted = functools.partial(labels, lambda rule: rule.adaptation, rules=rules)
    momentum = optax.trace(settings.momentum, settings.nesterov)
    trust = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=settings.eta), adapted)
    return optax.chain(decayed(weight_decay, rules), momentum, trust, optax.scale_by_learning_rate(learning_rate))


def lars_byol(settings: Settings, learning_rate, weight_decay, rules) -> optax.GradientTransformation:
    """LARS as in BYOL, Barlow Twins, VICReg and MoCo v3: the learning rate is applied after the momentum."""
    adapted = functools.partial(labels, lambda rule: rule.adaptation, rules=rules)
    trust = optax.masked(optax.scale_by_trust_ratio(trust_coefficient=settings.eta), adapted)
    momentum = optax.sgd(learning_rate, settings.momentum, settings.nesterov)
    return optax.chain(decayed(weight_decay, rules), trust, momentum)


def larc(settings: Settings, learning_rate, weight_decay, rules, clip=False) -> optax.GradientTransformation:
    """LARC of apex as in SwAV: the ratio divides by the norm of the gradient plus that of the weight decay.

    With `clip`, as in solo-learn, the ratio is divided by the learning rate and clipped to 1.
    """

    def adapt(rule, update, param):
        decay = weight_decay * rule.weight_decay
        total = update + decay * param
        if not rule.adaptation:
            return total
        size, slope = optax.safe_norm(param, 0.0), optax.safe_norm(update, 0.0)
        trust = settings.eta * size / (slope + decay * size + 1e-8)
        if clip:
            trust = jnp.minimum(trust / learning_rate, 1.0)
        return jnp.where((size > 0) & (slope > 0), total * trust, update)

    return optax.chain(per_parameter(adapt, rules), optax.sgd(learning_rate, settings.momentum, settings.nesterov))


Factory = Callable[..., optax.GradientTransformation]
LARS: dict[str, Factory] = {
    "simclr": lars_simclr,
    "popular": lars_popular,
    "byol": lars_byol,
    "larc": larc,
    "solo": functools.partial(larc, clip=True),
}
OPTIMIZERS: dict[str, Factory] = {"sgd": sgd, "lars": lars, "adamw": adamw}
