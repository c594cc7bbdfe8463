"""Golden cases of the losses against a bank of all images."""

import jax
import jax.numpy as jnp

from adapters import adapter
from adapters.losses import INTERMEDIATE, differentiate
from ssl_jax import losses, memory
from ssl_jax.numeric import l2_normalize


def over_steps(step, state, inputs):
    """Runs `step(state, input) -> state, numbers` over the leading axis of the inputs; stacks the numbers."""
    history = []
    for t in range(len(jax.tree.leaves(inputs)[0])):
        state, numbers = step(state, jax.tree.map(lambda x, t=t: jnp.asarray(x[t]), inputs))
        history.append(numbers)
    return jax.tree.map(lambda *parts: jnp.stack(parts), *history)


def scores_of(bank, index, temperature):
    """Scores of embeddings [B, D] with the rows `index` [B, 1 + K] of a bank, as a function of the embeddings."""
    return lambda x: losses.sampled_scores(x, bank, index, temperature)


@adapter("instdisc_nce")
def instdisc_nce(args, arrays):
    images, temperature, momentum = args["n_data"], arrays["T"], arrays["momentum"]

    def step(state, given):
        bank, z = state
        scores = scores_of(bank, given["idx"], temperature)
        z = losses.nce_normalizer(scores(given["x"]), images) if z is None else z
        loss, (grad,) = differentiate(lambda x: losses.nce(scores(x), z, images), given["x"])
        bank = memory.update_bank(bank, given["y"], given["x"], momentum)
        out = jnp.exp(scores(given["x"])) / z
        return (bank, z), {"out": out, "loss": loss, "grad_x": grad, "memory_after": bank, "Z": z}

    start = jnp.asarray(arrays["memory_0"]), None
    return over_steps(step, start, {name: arrays[name] for name in ("x", "y", "idx")})


@adapter("instdisc_softmax")
def instdisc_softmax(args, arrays):
    bank, index, temperature = jnp.asarray(arrays["memory_0"]), jnp.asarray(arrays["y"]), arrays["T"]
    loss, (grad,) = differentiate(
        lambda x: losses.instance_softmax(x, bank, index, temperature, args["n_data"]), arrays["x"]
    )
    after = memory.update_bank(bank, index, jnp.asarray(arrays["x"]), arrays["momentum"])
    return {"logits": arrays["x"] @ bank.T / temperature, "loss": loss, "grad_x": grad, "memory_after": after}


def two_banks(args, arrays, loss_of):
    """CMC's steps: each view is scored against the bank of the other."""

    def step(state, given):
        banks, z = state
        scores = [scores_of(bank, given["idx"], arrays["T"]) for bank in reversed(banks)]
        views = [given["l"], given["ab"]]
        if z is None:
            z = [losses.nce_normalizer(score(x), args["n_data"]) for score, x in zip(scores, views, strict=True)]
        each = [
            differentiate(lambda x, s=s, z=z_: loss_of(s(x), z), x) for s, x, z_ in zip(scores, views, z, strict=True)
        ]
        banks = [memory.update_bank(b, given["y"], x, arrays["momentum"]) for b, x in zip(banks, views, strict=True)]
        numbers = {"memory_l_after": banks[0], "memory_ab_after": banks[1]}
        for name, x, score, (loss, (grad,)) in zip(("l", "ab"), views, scores, each, strict=True):
            numbers |= {f"loss_{name}": loss, f"grad_{name}": grad, f"scores_{name}": score(x)}
        return (banks, z), numbers | {"Z_l": z[0], "Z_ab": z[1]}

    banks = [jnp.asarray(arrays[f"memory_{name}_0"]) for name in ("l", "ab")]
    return over_steps(step, (banks, None), {k: arrays[k] for k in ("l", "ab", "y", "idx")})


@adapter("cmc_nce")
def cmc_nce(args, arrays):
    numbers = two_banks(args, arrays, lambda scores, z: losses.nce(scores, z, args["n_data"]))
    for name in ("l", "ab"):
        z = numbers[f"Z_{name}"]
        numbers[f"out_{name}"] = jnp.exp(numbers.pop(f"scores_{name}")) / z[:, None, None]
    return numbers


@adapter("cmc_softmax", ignored={"Z_l": "not used by the softmax", "Z_ab": "not used by the softmax"})
def cmc_softmax(args, arrays):
    numbers = two_banks(args, arrays, lambda scores, z: losses.positive_is_first(scores))
    for name in ("l", "ab"):
        numbers[f"out_{name}"] = numbers.pop(f"scores_{name}")
        del numbers[f"Z_{name}"]
    return numbers


@adapter(
    "cmc_memorymoco", ignored={"out": INTERMEDIATE, "index_after": "the place in their ring where the next key goes"}
)
def cmc_memorymoco(args, arrays):
    def step(state, given):
        queue, pointer = state
        loss, (grad,) = differentiate(lambda query: losses.info_nce(query, given["k"], queue, arrays["T"]), given["q"])
        places = (pointer + jnp.arange(args["batch"])) % args[
            "K"
        ]  # a batch need not divide their ring, as it must ours
        queue = queue.at[places].set(given["k"])
        return (queue, places[-1] + 1), {"loss": loss, "grad_q": grad, "memory_after": queue}

    return over_steps(step, (jnp.asarray(arrays["memory_0"]), 0), {"q": arrays["q"], "k": arrays["k"]})


@adapter("crd")
def crd(args, arrays):
    images, temperature, momentum = args["n_data"], arrays["T"], arrays["momentum"]
    embed = {
        side: [jnp.asarray(arrays[f"param/embed_{side}.linear.{name}"]) for name in ("weight", "bias")] for side in "st"
    }

    def project(x, weight, bias):
        return l2_normalize(x @ weight.T + bias[None, :])

    def step(state, given):
        student_bank, teacher_bank, z = state
        index = given["contrast_idx"]

        def scores(f_s, f_t, weight):
            student, teacher = project(f_s, weight, embed["s"][1]), project(f_t, *embed["t"])
            with_teachers = scores_of(teacher_bank, index, temperature)(student)
            return (with_teachers, scores_of(student_bank, index, temperature)(teacher)), (student, teacher)

        given_features = given["f_s"], given["f_t"], embed["s"][0]
        first, (student, teacher) = scores(*given_features)
        z = [losses.nce_normalizer(x, images) for x in first] if z is None else z

        def loss(*features):
            return sum(losses.nce(x, z_, images) for x, z_ in zip(scores(*features)[0], z, strict=True))

        value, grads = differentiate(loss, *given_features)
        student_bank = memory.update_bank(student_bank, given["y"], student, momentum)
        teacher_bank = memory.update_bank(teacher_bank, given["y"], teacher, momentum)
        numbers = dict(zip(("grad_f_s", "grad_f_t", "grad_embed_s"), grads, strict=True)) | {"loss": value}
        numbers |= {"memory_v1_after": student_bank, "memory_v2_after": teacher_bank, "Z_v1": z[0], "Z_v2": z[1]}
        return (student_bank, teacher_bank, z), numbers

    start = jnp.asarray(arrays["memory_v1_0"]), jnp.asarray(arrays["memory_v2_0"]), None
    inputs = {name: arrays[name] for name in ("f_s", "f_t", "y", "contrast_idx")}
    numbers = over_steps(step, start, inputs)
    return numbers | {name: numbers[name][0] for name in ("Z_v1", "Z_v2")}


@adapter("invaspread", ignored={"negM": "in the case's args"})
def invaspread(args, arrays):
    def loss(x):
        return losses.spread_out(x.reshape(2, args["batch"], -1).swapaxes(0, 1), arrays["T"], args["negM"])

    value, (grad,) = differentiate(loss, arrays["x"])
    return {"loss": value, "grad_x": grad}
