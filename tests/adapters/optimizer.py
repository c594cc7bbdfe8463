"""Golden cases of optimisers and schedules."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax

from adapters import adapter
from ssl_jax import optimizer, schedule
from ssl_jax.rules import resolve

EXCLUDED = {"weight_decay": 0.0, "adaptation": False}


def run(arrays, rules=(), weight_decay=0.0, output="params", **settings):
    """Returns our parameters after each step of the case, by their names, and the states of the optimiser."""
    names = list(parameters(arrays))
    params = {name: jnp.asarray(arrays["init/" + name]) for name in names}
    grads = {name: jnp.asarray(arrays["grad/" + name]) for name in names}
    rate = jnp.asarray(arrays["lr"])
    decay = jnp.broadcast_to(jnp.asarray(weight_decay), rate.shape)
    rules = resolve(rules, params, int)
    settings = optimizer.Settings(learning_rate=0.0, **settings)
    transformation = optimizer.transformation(settings, lambda step: rate[step], lambda step: decay[step], rules, 0.0)

    def step(carry, grads):
        params, state = carry
        updates, state = transformation.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), (params, state)

    _, (history, states) = jax.lax.scan(step, (params, transformation.init(params)), grads)
    return {f"{output}/{name}": history[name] for name in names}, states


def parameters(arrays):
    return {name.removeprefix("init/"): value for name, value in arrays.items() if name.startswith("init/")}


def without(names):
    """Returns rules that exempt these parameters from weight decay and adaptation."""
    return tuple((f"^{re.escape(name)}$", EXCLUDED) for name in names)


def one_dimensional(arrays):
    return without(name for name, value in parameters(arrays).items() if value.ndim == 1)


@adapter("sgd_torch")
def sgd_torch(args, arrays):
    return run(arrays, name="sgd", momentum=args["momentum"], weight_decay=args["weight_decay"])[0]


@adapter("adamw_dino")
def adamw_dino(args, arrays):
    ours, _ = run(
        arrays,
        one_dimensional(arrays),
        weight_decay=arrays["wd"],
        name="adamw",
        betas=args["betas"],
        eps=args["eps"],
    )
    return ours


@adapter("lars_byol")
def lars_byol(args, arrays):
    def excluded(name):
        module, leaf = name.rsplit("/", 1)
        return args["exclude_bias_and_norm"] and (leaf == "b" or "norm" in module)

    ours, _ = run(
        arrays,
        without(filter(excluded, parameters(arrays))),
        args["weight_decay"],
        name="lars",
        variant="byol",
        eta=args["eta"],
        momentum=args["momentum"],
    )
    return ours


@adapter("lars_simclr")
def lars_simclr(args, arrays):
    patterns = args["exclude_from_weight_decay"] or ()
    classic = args["classic_momentum"]
    ours, states = run(
        arrays,
        without(name for name in parameters(arrays) if any(re.search(pattern, name) for pattern in patterns)),
        args["weight_decay"],
        name="lars",
        variant="simclr" if classic else "popular",
        eta=args["eeta"],
        momentum=args["momentum"],
        nesterov=args["use_nesterov"],
    )
    momentum = optax.tree.get(states, "trace")
    sign = -1 if classic else 1  # of updates, minus theirs; else of gradients, as theirs
    return ours | {f"momentum/{name}": sign * value for name, value in momentum.items()}


@adapter("lars_torch")
def lars_torch(args, arrays):
    excluded, everything = one_dimensional(arrays), without(parameters(arrays))
    rules_of = {
        "barlowtwins": ("byol", excluded),
        "vicreg": ("byol", excluded),
        "dino": ("byol", excluded),
        "mocov3": ("byol", excluded),
        "barlowtwins_nofilter": ("byol", ()),
        "solo": ("larc", excluded),
        "lightly_wd0groups": ("larc", excluded if args["weight_decay"] else everything),  # no decay, no adaptation
        "swav_larc": ("larc", ()),
        "solo_clip": ("solo", ()),
    }
    ours = {}
    for code, (variant, rules) in rules_of.items():
        settings = {"name": "lars", "variant": variant, "eta": args["eta"], "momentum": args["momentum"]}
        params, _ = run(arrays, rules, args["weight_decay"], output="", **settings)
        ours |= {f"params_{code}{name}": value for name, value in params.items()}
    return ours


def learning_rate(steps, batch_size, epoch_length=1, **config):
    """The learning rate of a whole config, at any step."""
    config = {"name": "sgd", **config}
    _, rate = optimizer.build(config, steps, batch_size, epoch_length, {"kernel": jnp.zeros(1)})
    return rate


@adapter("sched_byol")
def sched_byol(args, arrays):
    rate = learning_rate(
        args["total_steps"],
        args["batch_size"],
        learning_rate=args["base_learning_rate"],
        warmup=args["warmup_steps"],
    )
    return {"lr": rate(arrays["steps"])}


@adapter("sched_simclr", ignored={"train_epochs": "total_steps follow from them, unless they are set"})
def sched_simclr(args, arrays):
    rate = learning_rate(
        args["total_steps"],
        args["train_batch_size"],
        learning_rate=args["learning_rate"],
        scaling=args["scaling"],
        warmup=f"{args['warmup_epochs'] * args['num_examples']} examples",
    )
    return {"schedule": rate(np.arange(args["total_steps"] + 1))}


@adapter("sched_barlow_vicreg")
def sched_barlow_vicreg(args, arrays):
    length = args["iters_per_epoch"]
    steps = args["epochs"] * length

    def rate(base):
        config = {"learning_rate": base, "end": base / 1000, "warmup": "10 epochs"}
        return learning_rate(steps, args["batch_size"], length, **config)(np.arange(steps))

    weights, biases = rate(args["learning_rate_weights"]), rate(args["learning_rate_biases"])
    return {"barlow_lr_weights_biases": jnp.stack([weights, biases], 1), "vicreg_lr": rate(args["vicreg_base_lr"])}


def inclusive_warmup(start, peak, end, warmup, steps):
    """A warm-up that reaches the peak at its last step, as with numpy's linspace, then a cosine."""
    return schedule.join(
        schedule.linear(start, peak, warmup - 1), schedule.cosine(peak, end, steps - warmup, begin=warmup), warmup
    )


@adapter("sched_swav")
def sched_swav(args, arrays):
    length = args["iters_per_epoch"]
    steps, warmup = args["epochs"] * length, args["warmup_epochs"] * length
    rate = inclusive_warmup(args["start_warmup"], args["base_lr"], args["final_lr"], warmup, steps)
    return {"schedule": rate(np.arange(steps))}


@adapter("sched_lightly_solo")
def sched_lightly_solo(args, arrays):
    steps, warmup, base = args["max_steps"], args["warmup"], args["base_lr"]
    start, end = args["solo_warmup_start_lr"], args["solo_eta_min"]
    peak = base if warmup else start  # without a warm-up, solo-learn's rate stays at its initial value
    step = np.arange(steps)
    lightly = schedule.join(
        lambda step: schedule.linear(0.0, base, warmup)(step + 1),
        schedule.cosine(base, 0.001 * base, steps - warmup - 1, begin=warmup),  # 0.001 is lightly's default
        warmup,
    )
    return {
        "lightly_cosine_schedule_996_to_1": schedule.cosine(0.996, 1.0, steps - 1)(step),
        "lightly_cosine_warmup_scheduler": lightly(step),
        "solo_linear_warmup_cosine": inclusive_warmup(start, peak, end, warmup, steps)(step),
    }


@adapter("sched_moco_simsiam_mae")
def sched_moco_simsiam_mae(args, arrays):
    epochs, warmup, base = args["epochs"], args["warmup_epochs"], args["lr"]
    fraction, epoch = arrays["epoch_fraction"], np.arange(epochs)  # an epoch is the unit of time here

    def rate(**config):
        return learning_rate(epochs, 256, **{"learning_rate": base} | config)

    return {
        "mocov3_lr": rate(warmup=warmup)(fraction),
        "mocov3_momentum": schedule.cosine(args["moco_m"], 1.0, epochs)(fraction),
        "mae_lr": rate(warmup=warmup, end=args["min_lr"])(fraction),
        "simsiam_lr": rate(learning_rate=args["simsiam_init_lr"])(epoch),
        "moco_step_lr": rate(schedule="step", milestones=args["milestones"])(epoch),
        "moco_cos_lr": rate()(epoch),
    }
