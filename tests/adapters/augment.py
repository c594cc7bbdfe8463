"""Golden family 13: image operations of torchvision, PIL, TensorFlow (SimCLR) and BYOL."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np

from adapters import Near, adapter, rounding
from ssl_jax import augment
from ssl_jax.augment.resampling import weights

ORDER = ("brightness", "contrast", "saturation", "hue")


def unit(pixels):
    """uint8 [H, W, 3] -> planes in [0, 1], rounded to float32 as in the originals."""
    return augment.split(jnp.asarray(np.float32(pixels) / np.float32(255), float))


def clipped(image):
    return tuple(jnp.clip(plane, 0.0, 1.0) for plane in image)


def levels(image):
    """Planes in [0, 1] -> [H, W, 3] in the 256 levels of PIL."""
    return augment.join(clipped(image)) * 255


def factors_of(args):
    return [args[name] for name in ORDER]


def jittered(image, semantics, factors, order):
    operations = augment.SEMANTICS[semantics]
    return augment.jitter(image, jnp.array(order), jnp.array(factors, float), operations)


def singles(image, semantics, factors):
    """Each colour operation by itself: name -> planes."""
    operations = zip(ORDER, augment.SEMANTICS[semantics], factors, strict=True)
    return {name: operation(image, factor) for name, operation, factor in operations}


def solarized(image, arrays):
    """The solarisations of a case, whose names end in the threshold: 0p5 is 0.5 of [0, 1], 200 is one of 256 levels."""
    ours = {}
    for name in arrays:
        if found := re.search(r"solarize_?(?:pil_)?(\d+)(p\d+)?$", name):
            if found[2]:
                threshold = np.float32(found[0].rsplit("_", 1)[-1].replace("p", "."))
                ours[name] = augment.join(augment.solarize(image, float(threshold)))
            else:  # between two levels, since levels divided by 255 are rounded
                ours[name] = levels(augment.solarize(image, (int(found[1]) - 0.5) / 255))
    return ours


@adapter("tv_colorjitter")
def tv_colorjitter(args, arrays):
    image, factors, order = unit(arrays["image"]), factors_of(args), args["order"]
    pils = [*factors[:3], int(255 * factors[3]) / 255]  # hues are whole 255ths there
    one, whole = singles(image, "torchvision", factors), singles(image, "torchvision", pils)
    gray = augment.grayscale(image)
    ours = {
        "tensor_output": augment.join(jittered(image, "torchvision", factors, order)),
        "tensor_gray": augment.join(gray),
        "pil_output": Near(levels(jittered(image, "torchvision", pils, order)), rounding.colours(image, pils, order)),
        "pil_gray": Near(levels(gray), rounding.GRAY),
        "pil_hsv": Near(255 * augment.join(augment.rgb_to_hsv(image)), 1.0),  # truncated
    }
    for index, name in enumerate(ORDER):
        ours[f"tensor_only_{name}"] = augment.join(clipped(one[name]))
        ours[f"pil_only_{name}"] = Near(levels(whole[name]), rounding.colours(image, pils, [index]))
    return ours | solarized(image, arrays)


@adapter("tf_colorjitter_simclrv1", "tf_colorjitter_simclrv2")
def tf_colorjitter(args, arrays):
    image, semantics = unit(arrays["image_uint8"]), {"simclrv1": "byol", "simclrv2": "simclr"}[args["impl"]]
    factors = factors_of(args)
    one = singles(image, semantics, factors)
    return {
        "output": augment.join(jittered(image, semantics, factors, args["order"])),
        "grayscale": augment.join(augment.grayscale(image)),
        **{f"only_{name}": augment.join(clipped(x)) for name, x in one.items()},
    }


@adapter("byol_colorjitter")
def byol_colorjitter(args, arrays):
    image, factors = unit(arrays["image_uint8"]), factors_of(args)
    return {
        "output": augment.join(jittered(image, "byol", factors, args["order"])),
        "rgb_to_hsv": augment.join(augment.rgb_to_hsv(image)),
        "grayscale": augment.join(augment.grayscale(image)),
        **solarized(image, arrays),
        **{f"only_{name}_noclip": augment.join(x) for name, x in singles(image, "byol", factors).items()},
    }


def tensorflow_resize(pixels, box, size, method="bicubic", antialias=False):
    """In float32 as TensorFlow, whose rounding decides the row of its bicubic table."""
    with jax.enable_x64(False):
        return augment.join(augment.resample(unit(pixels), box, tuple(size), method, antialias))


@adapter("tf_crop_resize")
def tf_crop_resize(args, arrays):
    given = arrays["image_uint8"], args["box"], args["out"]
    return {
        "output_bicubic": tensorflow_resize(*given),
        "output_bilinear": tensorflow_resize(*given, "bilinear"),
        "output_bicubic_antialias": tensorflow_resize(*given, antialias=True),
    }


@adapter("tf_center_crop")
def tf_center_crop(args, arrays):
    pixels, share = arrays["image_uint8"], args["crop_proportion"]
    height, width = np.float32(pixels.shape[:2])
    ratio = args["out"][1] / args["out"][0]
    if np.float32(ratio) > width / height:
        shares = share / ratio * width, share * width
    else:
        shares = share * height, share * ratio * height
    sides = np.rint(np.float32(shares)).astype(int)  # whole pixels; `center` follows torchvision
    start = (np.array(pixels.shape[:2]) - sides + 1) // 2
    return {"output": tensorflow_resize(pixels, (*start, *sides), args["out"])}


def pillow_resize(image, box, size, method, flip=False, bounds=None):
    """Returns planes resized as by Pillow, which clips after each of its two passes, and the tolerance in levels.

    Pillow 13 starts with the rows where that drops more than twice as many rows as columns (pull request 9549), else
    with the columns.
    """
    box, bounds = np.asarray(box, float), np.asarray(box if bounds is None else bounds, float)
    dropped = np.rint(bounds[2:] * (1 - size / box[2:]))
    order = (0, 1) if dropped[0] > max(2 * dropped[1], 0) else (1, 0)
    for axis in order:
        sizes = list(image[0].shape)
        amplified = weights(box[axis::2], bounds[axis::2], sizes[axis], size[axis], method, True)
        spans = np.array([(0.0, n) for n in sizes])  # along the other axis, all of it
        reads = spans.copy()
        spans[axis], reads[axis], sizes[axis] = box[axis::2], bounds[axis::2], size[axis]
        given = spans.T.ravel(), tuple(sizes), method, True, flip and axis == 1, reads.T.ravel()
        image = clipped(augment.resample(image, *given))
    return image, rounding.passes(amplified)


@adapter(
    "tv_resized_crop", ignored={"tensor_float_bicubic_noantialias": "PyTorch's kernel a = -3/4, which no recipe uses"}
)
def tv_resized_crop(args, arrays):
    image, box, size = unit(arrays["image"]), args["box"], np.broadcast_to(args["size"], 2).tolist()
    ours = {
        f"tensor_float_{method}_antialias": augment.join(augment.resample(image, box, tuple(size), method))
        for method in ("bicubic", "bilinear")
    }
    ours["tensor_float_bilinear_noantialias"] = augment.join(
        augment.resample(image, box, tuple(size), "bilinear", antialias=False)
    )
    for name in ("bilinear", "flip_bicubic", "bicubic"):
        resized, within = pillow_resize(image, box, size, name.removeprefix("flip_"), flip=name.startswith("flip"))
        ours[f"pil_{name}"] = Near(levels(resized), within)
    for name, recipe in {"normalized_imagenet": "byol", "normalized_swav": "swav"}.items():
        space = augment.recipe(recipe, 32).space
        ours[name] = Near(
            augment.join(augment.normalize(resized, space.mean, space.std)), within / 255 / np.array(space.std)
        )
    return ours | evaluated(image, arrays)


def evaluated(image, arrays):
    """Returns the evaluation views of a case, whose names give the shorter side and the centre's, in pixels."""
    ours, valid = {}, (0, 0, *image[0].shape)
    for name in arrays:
        if found := re.fullmatch(r"eval_resize(\d+)_(bilinear_)?centercrop(\d+)", name):
            shorter, side = int(found[1]), int(found[3])
            assert side <= shorter, f"{name}: a centre beyond the picture, which torchvision pads, is not supported"
            box = augment.center_box(jnp.array(valid), side, side / shorter)
            method = "bilinear" if found[2] else "bicubic"
            resized, within = pillow_resize(image, box, (side, side), method, bounds=valid)
            ours[name] = Near(levels(resized), within)
    return ours


@adapter("blur")
def tv_blur(args, arrays):
    names = ("radius", "kernel_size", "sigma")
    assert not any(np.ndim(args[name]) for name in names), f"a blur is the same along both axes: one number for {names}"
    image, radius = unit(arrays["image"]), args["kernel_size"] // 2
    reach = math.ceil(5 * args["radius"])
    return {
        "tensor_output": augment.join(augment.blur(image, args["sigma"], radius, "reflect")),
        "pil_output": Near(
            levels(augment.blur(image, args["radius"], reach, "edge")), rounding.blur(arrays["image"], args["radius"])
        ),
    }


@adapter("tf_blur", "byol_blur")
def zero_blur(args, arrays):
    radius, padding = int(args["kernel_size"] / 2), args.get("padding", "SAME")
    assert padding in ("SAME", "VALID"), f"padding {padding!r} is not supported: SAME or VALID"
    blurred = augment.join(augment.blur(unit(arrays["image_uint8"]), args["sigma"], radius, "zero"))
    height, width, _ = blurred.shape
    return {"output": blurred if padding == "SAME" else blurred[radius : height - radius, radius : width - radius]}


@adapter("lab")
def lab(args, arrays):
    image = augment.rgb_to_lab(augment.split(jnp.asarray(arrays["image"] / 255.0)))
    return {
        "lab": augment.join(image),
        "lab_normalized": augment.join(augment.normalize(image, args["mean"], args["std"])),
    }


@adapter("sobel_deepcluster")
def sobel_deepcluster(args, arrays):
    return {"output": jnp.moveaxis(augment.edges(augment.join(unit(arrays["image"]))), -1, 0)}


@adapter("tf_sobel")
def tf_sobel(args, arrays):
    edges = [augment.sobel(plane, "reflect") for plane in unit(arrays["image_uint8"])]
    return {"sobel": jnp.stack([jnp.stack(pair, axis=-1) for pair in edges], axis=2)}
