"""Golden family 07: DINO, iBOT and DINOv2."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from adapters.batch_norm import run, sample_sizes, torch_statistics
from adapters.losses import Given, differentiate
from adapters.weights import COUNTER, TORCH, to_torch, variables
from ssl_jax import losses, schedule
from ssl_jax.augment import Views
from ssl_jax.distillation import choose_hidden
from ssl_jax.method import Variables
from ssl_jax.methods.dino import DINO
from ssl_jax.methods.dinov2 import DINOv2
from ssl_jax.methods.ibot import IBOT
from ssl_jax.networks import MLP, Encoding, Network, Prototypes


class Table(nn.Module):
    """An encoder whose images are row numbers [N], and whose features and patches are these rows of its parameters."""

    @nn.compact
    def __call__(self, x, train=False, mask=None, keep=None):
        params = self.variables["params"]
        patches = params["patches"][x % len(params["patches"])] if "patches" in params else x[:, None, None]
        return Encoding(params["rows"][x], patches, (1, 1))


NETWORK = Network(Table(), Given(), Given(), passes="resolution")


def table(rows, patches=None):
    """The parameters of a network that gives these scores [N, K], and these of patches [N, S, K]."""
    arrays = {"rows": rows} if patches is None else {"rows": rows, "patches": patches}
    return {"encoder": {name: jnp.asarray(array) for name, array in arrays.items()}}


def numbered(batch, large, small=0):
    """Views whose images are the numbers of rows in which one view comes after the other."""
    views = jnp.arange((large + small) * batch).reshape(-1, batch).T
    groups = {"large": views[:, :large], "small": views[:, large:]}
    groups = {role: group for role, group in groups.items() if group.shape[1]}
    return {"views": Views(groups.values(), groups)}


def by_image(rows, views):
    """Rows [V B, ...], one view after the other, as [B, V, ...]."""
    return jnp.asarray(rows).reshape(views, -1, *rows.shape[1:]).swapaxes(0, 1)


def temperatures(start, end, warmup, epochs):
    """A teacher's temperature in each epoch; that of the originals arrives in the last epoch of its warm-up."""
    rise = schedule.linear(start, end, warmup - 1) if warmup else schedule.constant(end)
    return rise(jnp.arange(epochs))


def advance(method, state, student, teacher, batch, epoch):
    """Returns a method's result for given scores of the two networks, and the gradient of the student's."""

    @jax.jit
    def compute(student, state):
        return method.loss({"network": student}, state, batch, jax.random.key(0), jnp.int32(epoch))

    state = state._replace(target=Variables(teacher, {}))
    result = compute(student, state)
    return result, jax.grad(lambda student: compute(student, state).loss)(student)


@adapter("dino_loss", ignored={"out_dim": "as wide as the scores"})
def dino_loss(args, arrays):
    warmup = args["warmup_teacher_temp"], args["teacher_temp"], args["warmup_teacher_temp_epochs"], args["nepochs"]
    method = DINO(
        NETWORK,
        decay=schedule.constant(1.0),
        teacher_temperature=lambda step: temperatures(*warmup)[step],
        temperature=args["student_temp"],
        center_decay=args["center_momentum"],
    )
    batch = numbered(args["batch"], 2, args["ncrops"] - 2)
    state, history = method.State({}, Variables({}, {}), jnp.asarray(arrays["center_0"][0])), []
    for call, epoch in enumerate(args["epochs"]):
        scores = (table(arrays[name][call]) for name in ("student_output", "teacher_output"))
        result, grad = advance(method, state, *scores, batch, epoch)
        state = result.state
        history.append(
            {"loss": result.loss, "grad_student": grad["encoder"]["rows"], "center_after": state.center[None]}
        )
    ours = jax.tree.map(lambda *calls: jnp.stack(calls), *history)
    return ours | {"teacher_temp_schedule": temperatures(*warmup)}


class GivenMask(IBOT):
    """iBOT with the masks of its batch."""

    def hidden(self, key, views):
        return views.mask


@adapter("ibot_loss", ignored=dict.fromkeys(("out_dim", "patch_out_dim", "grid"), "as the arrays show"))
def ibot_loss(args, arrays):
    large, small, batch = args["global_crops"], args["local_crops"], args["batch"]
    warmups = [
        (args[f"warmup_teacher_temp{which}"], args[f"teacher_temp{which}"], args["warmup_epochs"], args["nepochs"])
        for which in ("", "2")
    ]
    method = GivenMask(
        NETWORK.clone(dense=Given()),
        decay=schedule.constant(1.0),
        teacher_temperature=lambda step: temperatures(*warmups[0])[step],
        patch_temperature=lambda step: temperatures(*warmups[1])[step],
        temperature=args["student_temp"],
        center_decay=args["center_momentum"],
        view_weight=args["lambda1"],
        patch_weight=args["lambda2"],
        mask_ratio=(0.1, 1.0),
    )
    centers = (jnp.asarray(arrays[name].reshape(-1)) for name in ("center_0", "center2_0"))
    state, history = method.State({}, Variables({}, {}), *centers), []
    for call, epoch in enumerate(args["epochs"]):
        views = numbered(batch, large, small)["views"]
        views.mask = by_image(arrays["mask"][call].reshape(large * batch, -1), large)
        rows = np.concatenate([arrays["student_cls"][call], arrays["student_local_cls"][call]])
        student = table(rows, arrays["student_patch"][call])
        teacher = table(arrays["teacher_cls"][call], arrays["teacher_patch"][call])
        result, grad = advance(method, state, student, teacher, {"views": views}, epoch)
        state = result.state
        history.append(
            {
                "loss": result.loss,
                "loss_cls": args["lambda1"] * result.metrics["view_loss"],
                "loss_patch": args["lambda2"] * result.metrics["patch_loss"],
                "grad_student_cls": grad["encoder"]["rows"][: large * batch],
                "grad_student_patch": grad["encoder"]["patches"],
                "center_after": state.center[None],
                "center2_after": state.patch_center[None, None],
            }
        )
    ours = jax.tree.map(lambda *calls: jnp.stack(calls), *history)
    return ours | {
        f"teacher_temp{which}_schedule": temperatures(*warmup) for which, warmup in zip(("", "2"), warmups, strict=True)
    }


def dinov2_targets(args, arrays, scores, centering="center", counted=None):
    """The targets of DINOv2 for scores [..., K], and the next centre."""
    method = DINOv2(NETWORK, schedule.constant(1.0), schedule.constant(1.0), centering=centering)
    center = jnp.asarray(arrays["center_0"].reshape(-1))
    return method.targets(jnp.asarray(scores), center, args["teacher_temp"], counted)


@adapter("dinov2_clsloss", ignored={"n_student": "as the arrays show", "n_teacher": "as the arrays show"})
def dinov2_clsloss(args, arrays):
    targets, center = dinov2_targets(args, arrays, arrays["teacher"])
    codes, _ = dinov2_targets(args, arrays, arrays["teacher"][0], "sinkhorn")

    def loss(student):
        pairs = losses.soft_cross_entropy(targets[:, None], student[None], args["student_temp"])  # [A, V, B]
        return jnp.sum(jnp.mean(pairs, axis=2))

    value, (grad,) = differentiate(loss, arrays["student"])
    ours = {"loss": value, "grad_student": grad, "teacher_softmax_centered": targets, "center_after": center[None]}
    return ours | {"teacher0_sinkhorn_float32": codes}


@adapter("dinov2_ibotpatch")
def dinov2_ibotpatch(args, arrays):
    targets, center = dinov2_targets(args, arrays, arrays["teacher_patch"])
    mask = jnp.asarray(arrays["mask"])[:, None]  # a group of one view each
    chosen, weights = choose_hidden(mask, int(mask.sum(2).max()))

    def take(values):
        return jnp.take_along_axis(values, chosen[:, :, None], axis=1)

    def loss(student):
        return jnp.sum(losses.hidden_weights(mask)[:, 0] * cost(targets, student))

    def loss_masked(student):
        return jnp.sum(weights * cost(take(targets), take(student)))

    def cost(targets, student):
        return losses.soft_cross_entropy(targets, student, args["student_temp"])

    value, (grad,) = differentiate(loss, arrays["student_patch"])
    value_masked, (grad_masked,) = differentiate(loss_masked, arrays["student_patch"])
    ours = {"loss": value, "grad_student": grad, "teacher_softmax": targets, "center_after": center[None, None]}
    return ours | {"loss_forward_masked": value_masked, "grad_student_masked": grad_masked[arrays["mask"]]}


@adapter("dino_head", ignored=COUNTER | {"grad/mlp.*.bias": "zero but for rounding before a BatchNorm"})
def dino_head(args, arrays):
    layers, norm = args["nlayers"], "batch" if args["use_bn"] else "none"
    mlp = MLP(args["bottleneck_dim"], args["hidden_dim"], layers, norm, "gelu", hidden_bias=True, output_bias=True)
    last = Prototypes(args["out_dim"], "trained")
    apart = 3 if args["use_bn"] else 2  # modules from one linear layer to the next
    rows = [(f"linear{i + 1}", f"mlp.{apart * i}" if layers > 1 else "mlp") for i in range(layers)]
    rows += [(f"norm{i + 1}", f"mlp.{3 * i + 1}") for i in range(layers - 1) if args["use_bn"]]
    given = variables([(ours, f"param/{theirs}") for ours, theirs in rows], arrays, TORCH)
    lengths, directions = arrays["param/last_layer.weight_g"], arrays["param/last_layer.weight_v"]
    prototypes = {"kernel": jnp.asarray(directions.T), "length": jnp.asarray(lengths[:, 0])}

    def forward(params, prototypes, x):
        hidden, new = run(mlp, given | {"params": params}, x)
        return last.apply({"params": prototypes}, hidden), new.get("batch_stats", {})

    with sample_sizes() as sizes:
        output, pullback, new = jax.vjp(forward, given["params"], prototypes, jnp.asarray(arrays["x"]), has_aux=True)
    of_mlp, of_prototypes, grad_x = pullback(jnp.asarray(arrays["cotangent"]))
    stats = {
        path: {"mean": moved["running_mean"], "var": moved["running_var"]}
        for path, moved in torch_statistics(given["batch_stats"], new, sizes).items()
    }
    hidden = mlp.apply({"params": given["params"], "batch_stats": stats}, jnp.asarray(arrays["x"]))
    ours = {"y_train": output, "grad_x": grad_x, "grad/last_layer.weight_v": of_prototypes["kernel"].T}
    ours["y_eval_after_one_train_step"] = last.apply({"params": prototypes}, hidden)
    for module, name in rows:
        for leaf, (_, kind, _) in TORCH.items():
            removed = f"norm{module.removeprefix('linear')}" in stats and leaf == ".bias"
            if f"grad/{name}{leaf}" in arrays and not removed:
                grad = of_mlp[module][kind(arrays[f"grad/{name}{leaf}"])]
                ours[f"grad/{name}{leaf}"] = to_torch(np.asarray(grad))
    return ours


@adapter("dino_cosine_lr", "dino_cosine_momentum", "dino_cosine_wd")
def dino_cosine(args, arrays):
    steps, warmup = (args.get(name, 0) * args["niter_per_ep"] for name in ("epochs", "warmup_epochs"))
    at = schedule.cosine(args["base_value"], args["final_value"], steps - warmup, begin=warmup)
    at = schedule.warmup(at, warmup - 1) if warmup else at  # theirs has its peak in the last step of the warm-up too
    return {"schedule": at(jnp.arange(steps))}


@adapter("koleo", ignored={"eps": "a constant of the original, and of our loss"})
def koleo(args, arrays):
    loss, (grad,) = differentiate(losses.koleo, arrays["x"])
    return {"loss": loss, "grad_x": grad, "loss_lightly": loss, "grad_x_lightly": grad}
