"""Golden family 09: CLIP, SigLIP, SLIP and DetailCLIP."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from adapters import Near, adapter
from adapters.distillation import by_image
from adapters.losses import Given, GivenEncoder, differentiate
from adapters.weights import nhwc
from ssl_jax import losses, schedule
from ssl_jax.augment import Views
from ssl_jax.language import match
from ssl_jax.masking import most_salient
from ssl_jax.method import Variables
from ssl_jax.methods.detailclip import DetailCLIP, Said
from ssl_jax.methods.slip import SLIP
from ssl_jax.networks import Network

NETWORK = Network(GivenEncoder(), projector=Given())


class GivenText(nn.Module):
    """A text tower whose embeddings are its parameters."""

    depth: int = 1

    @nn.compact
    def __call__(self, tokens, blocks=None):
        return self.variables["params"]["rows"]


@adapter("clip_slip", ignored={"slip_*_acc": "of a batch, which we do not log"})
def clip_slip(args, arrays):
    scale, pair = arrays["logit_scale"], (arrays["image"], arrays["text"])
    clip_loss, grads = differentiate(losses.image_text_softmax, *pair, scale)
    ours = {"clip_loss": clip_loss}
    ours |= {f"clip_grad_{name}": grad for name, grad in zip(("image", "text", "logit_scale"), grads, strict=True)}
    # Theirs is a difference of float64 numbers near 1, ours is not: they differ where the loss is itself 1e-15.
    ours = {name: Near(numbers, 1e-15) for name, numbers in ours.items()}
    ours["siglip_loss_bias_minus5"] = losses.image_text_sigmoid(*pair, scale, -5.0)

    method = SLIP(NETWORK, GivenText(), Given(), args["ssl_scale"], args["ssl_temperature"])

    def slip(image, text, aug1, aug2, scale):
        batch = {"views": Views([jnp.stack([image, aug1, aug2], axis=1)]), "text": None}
        params = {"network": {}, "text": {"rows": text}, "head": {}, "scale": {"log": jnp.log(scale)}}
        result = method.loss(params, method.State({}, {}), batch, jax.random.key(0), jnp.int32(0))
        return result.loss, result.metrics

    names = ("image", "text", "aug1", "aug2")
    given = [jnp.asarray(arrays[f"slip_{name}"]) for name in names]
    gradient = jax.jit(jax.value_and_grad(slip, argnums=(0, 1, 2, 4), has_aux=True))  # they kept none of aug2
    (loss, metrics), grads = gradient(*given, jnp.asarray(scale))
    ours |= {f"slip_grad_{name}": grad for name, grad in zip((*names[:3], "logit_scale"), grads, strict=True)}
    return ours | {"slip_loss": loss} | {f"slip_{name}": metrics[name] for name in ("clip_loss", "ssl_loss")}


@adapter("clip")
def clip(args, arrays):
    """Theirs gives each of several processes a loss, and each row the gradient that reaches it, averaged over them."""
    world, scale, pair = args["world_size"], arrays["logit_scale"], (arrays["image"], arrays["text"])

    def find(query, key):
        logits = scale * query @ key.T
        return jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)

    loss, grads = differentiate(lambda *pair: losses.image_text_softmax(*pair, scale), *pair)
    rows = (find(*pair) + find(*pair[::-1])) / 2
    of_ranks = rows.reshape(world, -1).mean(1) if args["local_loss"] else jnp.full(world, rows.mean())
    ours = {"loss_single": loss, "loss_mean": of_ranks.mean(), "loss_per_rank": of_ranks}
    reached = grads
    if not args["gather_with_grad"] and args["local_loss"]:  # only as a query
        reached = [
            jax.grad(lambda query, key: find(query, key).mean() / 2)(jnp.asarray(a), jnp.asarray(b))
            for a, b in (pair, pair[::-1])
        ]
    elif not args["gather_with_grad"]:  # only on its own process
        reached = [grad / world for grad in grads]
    for name, grad, part in zip(("image", "text"), grads, reached, strict=True):
        ours |= {f"grad_{name}_single": grad, f"grad_{name}_mean": part}
    return ours


class Patches(nn.Module):
    """An encoder that says how large its patches are."""

    stride: int = 16


def detailclip(**fields) -> DetailCLIP:
    constant = schedule.constant(1.0)
    fields = {"teacher_temperature": constant, "patch_temperature": constant} | fields
    return DetailCLIP(Network(Patches()), GivenText(), None, decay=constant, **fields)


@adapter("detailclip_reconst")
def detailclip_reconst(args, arrays):
    method = detailclip(normalize=args["norm_pix_loss"])
    images, mask = (jnp.asarray(x)[:, None] for x in (nhwc(arrays["images"]), arrays["mask"]))
    loss, (grad,) = differentiate(lambda pred: method.error(pred[:, None], images, mask), arrays["pred"])
    return {"loss": loss, "grad_pred": grad}


@adapter("detailclip_tokenremoval", ignored={"ids_restore": "the order of what is kept, in which theirs is compared"})
def detailclip_tokenremoval(args, arrays):
    kept = most_salient(jnp.asarray(arrays["attention"]), (14, 14), 2, int(49 * arrays["ratio"]) + 1)
    place = np.where(kept, arrays["ids_restore"], arrays["mask"].shape[1])
    order = np.argsort(place, axis=1)[:, : int(kept[0].sum())]
    return {"mask": ~kept, "x_kept": np.take_along_axis(arrays["x"], order[:, :, None], axis=1)}


@adapter("detailclip_total", ignored=dict.fromkeys(("out_dim", "epochs"), "as the arrays show, or of no effect"))
def detailclip_total(args, arrays):
    weights = {theirs: args["weights"][theirs] for theirs in ("clip", "ibot_cls", "ibot_patch", "reconst")}
    method = detailclip(
        teacher_temperature=schedule.constant(0.04),
        patch_temperature=lambda step: jnp.where(step < 1, 0.04, 0.07),
        **dict(zip(("clip_weight", "view_weight", "patch_weight", "pixel_weight"), weights.values(), strict=True)),
    )

    def both(name, scale=1.0):
        pair = [jnp.asarray(arrays[name.format(view)], float) / scale for view in "uv"]
        return jnp.stack(pair, axis=1)

    images, pixels = both("{}_uint8", 255).transpose(0, 1, 3, 4, 2), both("pred_{}_times2", 2)
    compared, width = both("mask_{}") > 0, arrays["student_cls"].shape[1]
    target = Said(*(by_image(arrays[name], 2) for name in ("teacher_cls", "teacher_patch")))
    state = method.State({}, Variables({}, {}), jnp.zeros(width), jnp.zeros(width))
    scale = {"log": jnp.log(jnp.asarray(arrays["logit_scale"]))}

    @jax.jit
    def compute(scores, patches, first, text):
        embedding = jnp.stack([first, jnp.asarray(arrays["img_embed_v"])], axis=1)
        own = Said(by_image(scores, 2), by_image(patches, 2), embedding, pixels)
        loss, metrics, centers = method.compare(
            scale, state, jnp.int32(args["epoch"]), images, compared, own, target, text
        )
        return loss, (metrics, centers)

    names = ("student_cls", "student_patch", "img_embed_u", "text_embed")
    given = [jnp.asarray(arrays[name]) for name in names]
    gradient = jax.value_and_grad(compute, argnums=(0, 1, 2, 3), has_aux=True)
    (loss, (metrics, (center, patch_center))), grads = gradient(*given)
    ours = {f"grad_{name}": grad for name, grad in zip(names, grads, strict=True)} | {"loss": loss}
    for number, embedding in enumerate(("img_embed_u", "img_embed_v"), 1):
        views, text = jnp.asarray(arrays[embedding])[:, None], jnp.asarray(arrays["text_embed"])
        ours[f"contra_loss_{number}"] = match("softmax", scale, views, text)[0]
    theirs = {"view_loss": "ibot_cls_loss", "patch_loss": "ibot_patch_loss", "pixel_loss": "reconst_loss"}
    ours |= {name: metrics[own] for own, name in theirs.items()}
    return ours | {"center_after": center[None], "center2_after": patch_center[None, None]}
