"""Golden cases of the contrastive, regression and clustering losses."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from adapters import adapter
from ssl_jax import losses, schedule
from ssl_jax.augment import Views
from ssl_jax.method import Variables
from ssl_jax.methods.moco import MoCo
from ssl_jax.methods.swav import SwAV, unit_prototypes
from ssl_jax.networks import MLP, Encoding, Network, Prototypes
from ssl_jax.numeric import as_rows, ema, l2_normalize

INTERMEDIATE = "an intermediate: the loss and its gradient through it are compared"


def differentiate(loss, *arrays):
    """Returns the value of a loss and its gradients with respect to all arguments."""
    gradient = jax.value_and_grad(loss, argnums=tuple(range(len(arrays))))
    return jax.jit(gradient)(*map(jnp.asarray, arrays))


def two_views(first, second, temperature):
    return losses.nt_xent(jnp.stack([first, second], 1), temperature)


def per_rank(first, second, world_size, temperature, norm=True):
    """Returns NT-Xent per process: the sum over both views of the mean over its images."""
    embedding = jnp.concatenate([first, second])
    embedding = l2_normalize(embedding) if norm else embedding
    each = losses.contrastive_cross_entropy(embedding, jnp.tile(jnp.eye(len(first), dtype=bool), (2, 2)), temperature)
    return each.reshape(2, int(world_size), -1).mean(2).sum(0)


@adapter("ntxent_tf2", ignored={"logits_ab": INTERMEDIATE, "labels": "one-hot positions of the positives"})
def ntxent_tf2(args, arrays):
    temperature = arrays["temperature"]

    def loss_of(first, second):
        if args.get("hidden_norm", True):
            return two_views(first, second, temperature)
        alike = jnp.tile(jnp.eye(len(first), dtype=bool), (2, 2))
        rows = jnp.concatenate([first, second])
        return 2 * jnp.mean(losses.contrastive_cross_entropy(rows, alike, temperature))

    if "world_size" not in args:
        loss, (grad,) = differentiate(lambda x: loss_of(*jnp.split(x, 2)), arrays["hidden"])
        return {"loss": loss, "grad_hidden": grad}
    views = arrays["hidden1"], arrays["hidden2"]
    loss, grads = differentiate(loss_of, *views)
    norm = args.get("hidden_norm", True)
    ours = {"loss_mean": loss, "loss_single_device": loss}
    ours["loss_per_replica"] = per_rank(*views, arrays["world_size"], temperature, norm)
    for view, grad in enumerate(grads, 1):
        ours |= {f"grad_hidden{view}": grad, f"grad_single_hidden{view}": grad}
    return ours


@adapter("ntxent_torch")
def ntxent_torch(args, arrays):
    temperature = arrays["temperature"]
    loss, grads = differentiate(lambda a, b: two_views(a, b, temperature) / 2, arrays["z1"], arrays["z2"])
    ours = {}
    for theirs in ("solo", "lightly"):
        ours |= {f"loss_{theirs}": loss, f"grad_z1_{theirs}": grads[0], f"grad_z2_{theirs}": grads[1]}
    return ours


@adapter("ntxent")
def ntxent(args, arrays):
    temperature = arrays["temperature"]
    views = arrays["z1"], arrays["z2"]
    loss, grads = differentiate(lambda a, b: two_views(a, b, temperature) / 2, *views)
    ours = {"loss_single_device_global_batch": loss, "grad_z1_single": grads[0], "grad_z2_single": grads[1]}
    for theirs in ("solo", "lightly"):
        ours[f"loss_per_rank_{theirs}"] = per_rank(*views, arrays["world_size"], temperature) / 2
        ours[f"loss_mean_{theirs}"] = loss
        ours |= {f"grad_z{view}_mean_{theirs}": grad for view, grad in enumerate(grads, 1)}
    return ours


@adapter("ntxent_multiview_solo")
def ntxent_multiview_solo(args, arrays):
    alike, temperature = jnp.asarray(arrays["indexes"][:, None] == arrays["indexes"]), arrays["temperature"]
    loss, (grad,) = differentiate(
        lambda z: jnp.mean(losses.contrastive_cross_entropy(l2_normalize(z), alike, temperature)), arrays["z"]
    )
    return {"loss": loss, "grad_z": grad}


@adapter(
    "moco_lightly_bank",
    ignored={"bank_ptr_after": "our queue shifts and has no pointer; lightly's drops the keys that reach its end"},
)
def moco_lightly_bank(args, arrays):
    banks = jnp.concatenate([arrays["bank_0"][None], arrays["bank_after"][:-1]])
    loss, (grad,) = jax.vmap(
        lambda query, key, bank: differentiate(
            lambda query: losses.info_nce(l2_normalize(query), l2_normalize(key), bank, float(arrays["temperature"])),
            query,
        )
    )(jnp.asarray(arrays["out0"]), jnp.asarray(arrays["out1"]), banks)
    return {"loss": loss, "grad_out0": grad}


@adapter("mocov3", ignored={"loss_per_rank": "of which the mean is compared", "world_size": "we know no processes"})
def mocov3(args, arrays):
    def direction(query, key):
        query, key = jnp.asarray(arrays[query]), l2_normalize(jnp.asarray(arrays[key]))
        loss, (grad,) = differentiate(
            lambda query: losses.info_nce_pairs(l2_normalize(query), key, arrays["temperature"]), query
        )
        return loss, grad

    if "world_size" in args:
        loss, grad = direction("q", "k")
        return {"loss_mean": loss, "loss_single_device": loss, "grad_q_mean": grad, "grad_q_single": grad}
    (first, grad1), (second, grad2) = direction("q1", "k2"), direction("q2", "k1")
    return {"loss_q1k2": first, "loss_q2k1": second, "loss": first + second, "grad_q1": grad1, "grad_q2": grad2}


class Given(nn.Module):
    """An encoder or a head that returns its input, vectors [N, D]."""

    layers: int = 1

    def __call__(self, x, train=False, mask=None, keep=None):
        return x


class GivenEncoder(nn.Module):
    """An encoder whose features are the images, vectors [N, D]."""

    def __call__(self, x, train=False, mask=None, keep=None):
        return Encoding(x, x[:, None], (1, 1))


def slotted(rows, batch):
    """Rows [K, D] as a queue [K / B, B, D]."""
    return jnp.asarray(rows).reshape(-1, batch, rows.shape[-1])


@adapter("moco_v1", ignored={"logits": INTERMEDIATE, "queue_ptr_after": "where the next keys go in the ring"})
def moco_v1(args, arrays):
    size, batch = args["K"], args["batch"]
    network = Network(encoder=GivenEncoder(), projector=MLP(output=args["dim"], layers=1, output_bias=True))
    method = MoCo(network, decay=lambda step: arrays["momentum"], queue_size=size, temperature=arrays["temperature"])

    def linear(weight, bias):
        return {"projector": {"linear1": {"kernel": jnp.asarray(arrays[weight].T), "bias": jnp.asarray(arrays[bias])}}}

    params = {"network": linear("Wq", "bq")}
    state = method.State({}, Variables(linear("Wk_0", "bk_0"), {}), slotted(arrays["queue_0"].T, batch))

    @jax.jit
    def move(state, views, step):
        _, state = method.after_step(params, state, jax.random.key(0), step)  # theirs is updated before it encodes

        def loss(params):
            result = method.loss(params, state, {"views": views}, jax.random.key(0), step)
            return result.loss, result.state

        (value, state), grads = jax.value_and_grad(loss, has_aux=True)(params)
        grad, key = (tree["projector"]["linear1"] for tree in (grads["network"], state.target.params))
        ours = {"loss": value, "grad_Wq": grad["kernel"].T, "grad_bq": grad["bias"]}
        ours |= {"Wk_after": key["kernel"].T, "bk_after": key["bias"]}
        return state, ours | {"queue_after": as_rows(state.queue).T}

    history = []
    for step, pair in enumerate(zip(arrays["xq"], arrays["xk"], strict=True)):
        state, ours = move(state, Views([jnp.stack(pair, 1)]), step)
        history.append(ours)
    return jax.tree.map(lambda *steps: jnp.stack(steps), *history)


def byol(p1, p2, z1, z2):
    """The loss of BYOL: both directions, added."""
    distance = losses.squared_cosine_distance
    return jnp.mean(distance(p1, z2) + distance(p2, z1))


def simsiam(p1, p2, z1, z2):
    """The loss of SimSiam: the mean of both directions."""
    similarity = losses.negative_cosine_similarity
    return jnp.mean(similarity(p1, z2) + similarity(p2, z1)) / 2


@adapter("byol_jax")
def byol_jax(args, arrays):
    p1, p2, z1, z2 = (jnp.asarray(arrays[name]) for name in ("p1", "p2", "z1", "z2"))
    loss, grads = differentiate(lambda p1, p2: byol(p1, p2, z1, z2), p1, p2)
    distance = losses.squared_cosine_distance(p1, z2)
    ours = {"loss": loss, "grad_p1": grads[0], "grad_p2": grads[1]}
    return ours | {"per_example_p1z2": distance, "l2_normalized_p1": l2_normalize(p1)}


@adapter("byol_simsiam")
def byol_simsiam(args, arrays):
    p1, p2, z1, z2 = (jnp.asarray(arrays[name]) for name in ("p1", "p2", "z1", "z2"))
    byol_loss, byol_grads = differentiate(lambda p1, p2: byol(p1, p2, z1, z2), p1, p2)
    simsiam_loss, simsiam_grads = differentiate(lambda p1, p2: simsiam(p1, p2, z1, z2), p1, p2)
    return {
        "byol_loss_solo_symmetric": byol_loss,
        "byol_grad_p1": byol_grads[0],
        "byol_grad_p2": byol_grads[1],
        "byol_loss_p1z2": jnp.mean(losses.squared_cosine_distance(p1, z2)),
        "byol_loss_p2z1": jnp.mean(losses.squared_cosine_distance(p2, z1)),
        "simsiam_loss": simsiam_loss,
        "simsiam_grad_p1": simsiam_grads[0],
        "simsiam_grad_p2": simsiam_grads[1],
        "simsiam_loss_lightly": simsiam_loss,
        "simsiam_loss_solo_p1z2": jnp.mean(losses.negative_cosine_similarity(p1, z2)),
    }


@adapter("byol_tau")
def byol_tau(args, arrays):
    spec = {"schedule": "cosine", "start": args["base_ema"], "end": 1.0}
    return {"tau": schedule.build(spec, args["max_steps"], int)(arrays["steps"])}


@adapter("ema_update", ignored={"*buffer/*": "running statistics, which are no parameters: nothing is averaged"})
def ema_update(args, arrays):
    names = [name.removeprefix("online/") for name in arrays if name.startswith("online/")]
    online = {name: jnp.asarray(arrays[f"online/{name}"]) for name in names}
    target = {name: jnp.asarray(arrays[f"target_before/{name}"]) for name in names}
    return {f"target_after/{name}": value for name, value in ema(target, online, arrays["momentum"]).items()}


@adapter("sinkhorn", ignored=dict.fromkeys(("epsilon", "iterations", "world_size"), "in the case's args"))
def sinkhorn(args, arrays):
    q = losses.sinkhorn(jnp.asarray(arrays["scores"]), args["epsilon"], args["iterations"])
    return {name: q for name in ("q_swav", "q_lightly", "q_gathered", "q_single_device") if name in arrays}


@adapter("deepclusterv2")
def deepclusterv2(args, arrays):
    memory = jnp.asarray(arrays["memory"])
    index, batch, crops = arrays["memory_index"], arrays["batch_idx"], sum(args["crops"])

    def cluster(call):
        """Centroids and assignments (by position in the data set) of every head, on alternating memories."""
        for head, rows in enumerate(arrays[f"init_idx_call{call}"]):
            points = memory[head % len(memory)]
            centroids, assignment = losses.spherical_kmeans(points, points[rows], 10)
            yield centroids, jnp.full(len(index), -1, jnp.int32).at[index].set(assignment)

    centroids1, assignments1 = map(jnp.stack, zip(*cluster(1), strict=True))
    centroids2, assignments2 = map(jnp.stack, zip(*cluster(2), strict=True))
    embedding = l2_normalize(jnp.asarray(arrays["features"]))

    def loss(features):
        scores = jnp.einsum("nd,hkd->nhk", l2_normalize(features), centroids2)
        assigned = jnp.tile(assignments2[:, batch].T, (crops, 1))
        return losses.prototype_cross_entropy(scores, assigned, arrays["temperature"])

    value, (grad,) = differentiate(loss, arrays["features"])
    start = jnp.arange(len(batch))
    by_crop = embedding.reshape(crops, len(batch), -1)[: len(memory)]
    return {
        "centroids_call1": centroids1,
        "assignments_call1": assignments1,
        "centroids_call2": centroids2,
        "loss": value,
        "grad_features": grad,
        "memory_after": memory.at[:, start].set(by_crop),
        "memory_index_after": jnp.asarray(index).at[start].set(batch),
    }


@adapter("swav_lightly")
def swav_lightly(args, arrays):
    assign = jax.vmap(lambda scores: losses.sinkhorn(scores, args["epsilon"], args["iterations"]))

    def loss(high, low):
        codes = assign(jnp.concatenate([high, arrays["queue_scores"]], 1))[:, : args["batch"]]
        codes = jax.lax.stop_gradient(codes).swapaxes(0, 1)
        scores = jnp.concatenate([high, low]).swapaxes(0, 1)
        return losses.swapped_prediction(codes, scores, args["temperature"])

    value, (high, low) = differentiate(loss, arrays["high"], arrays["low"])
    return {"loss": value[None], "grad_high": high, "grad_low": low}


@adapter("swav_loss", ignored=dict.fromkeys(("temperature", "epsilon"), "in the case's args"))
def swav_loss(args, arrays):
    batch, crops, size = args["batch"], sum(args["crops"]), args["queue_length"]
    large = arrays["queue_after"].shape[1] if size else 2  # their crops_for_assign, of any resolution
    method = SwAV(
        Network(GivenEncoder(), projector=Given(), predictor=Prototypes(args["K"]), passes="resolution"),
        temperature=args["temperature"],
        epsilon=args["epsilon"],
        iterations=args["sinkhorn_iterations"],
        queue_size=size,
    )
    state = method.State({}, jnp.zeros((size // batch, batch, large, args["dim"])))
    params = {"network": unit_prototypes({"predictor": {"kernel": jnp.asarray(arrays["prototypes"].T)}})}

    @jax.jit
    def move(state, features, step):
        def loss(params, features):
            by_image = features.reshape(crops, batch, -1).swapaxes(0, 1)
            groups = {"large": by_image[:, :large], "small": by_image[:, large:]}
            groups = {role: group for role, group in groups.items() if group.shape[1]}
            views = Views(groups.values(), groups)
            result = method.loss(params, state, {"views": views}, jax.random.key(0), step)
            return result.loss, result.state

        gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (value, new), (of_params, of_features) = gradient(params, features)
        prototypes = of_params["network"]["predictor"]["kernel"].T
        return new, {"loss": value, "grad_features": of_features, "grad_prototypes_normalised": prototypes}

    history = []
    for step, features in enumerate(jnp.asarray(arrays["features"])):
        state, ours = move(state, features, step)
        if size:  # theirs keeps the newest batch in front
            newest_first = jnp.roll(state.queue[::-1], step + 1, axis=0)
            ours |= {"queue_after": newest_first.reshape(size, large, -1).swapaxes(0, 1)}
        history.append(ours)
    return jax.tree.map(lambda *steps: jnp.stack(steps), *history)
