"""Golden family 13: image operations of torchvision, PIL, TensorFlow (SimCLR) and BYOL."""

import jax.numpy as jnp
import numpy as np

from adapters import adapter
from ssl_jax import augment

ORDER = ("brightness", "contrast", "saturation", "hue")
ROUNDED = "PIL rounds to uint8 after every operation, ours works on floats"
PASSES = "PIL rounds and clips to uint8 between the two passes too, which shows where bicubic overshoots"


def unit(pixels):
    """uint8 [H, W, 3] -> planes in [0, 1], rounded to float32 as in the originals."""
    return augment.split(jnp.asarray(np.float32(pixels) / np.float32(255), float))


def levels(image):
    """Planes in [0, 1] -> [H, W, 3] in the 256 levels of PIL."""
    return jnp.clip(augment.join(image), 0.0, 1.0) * 255


def jittered(image, semantics, arrays):
    factors = jnp.array([arrays[name] for name in ORDER])
    return augment.join(augment.jitter(image, jnp.array(arrays["order"]), factors, augment.SEMANTICS[semantics]))


def singles(image, semantics, arrays, prefix, suffix=""):
    operations = zip(ORDER, augment.SEMANTICS[semantics], strict=True)
    return {f"{prefix}{name}{suffix}": augment.join(f(image, arrays[name])) for name, f in operations}


@adapter(
    "tv_colorjitter",
    ignored={"pil_hsv": "hue in 256 steps, an intermediate of PIL's"},
    deviates={
        "pil_only_hue": (0.03, "PIL turns hues in 256 steps"),
        "pil_output": (0.03, "the hues and the rounding of four operations add up"),
        "pil_only_*": (0.01, ROUNDED),
        "pil_gray": (0.005, ROUNDED),
    },
)
def tv_colorjitter(args, arrays):
    image = unit(arrays["image"])
    one = singles(image, "torchvision", arrays, "tensor_only_")
    jitter, gray = jittered(image, "torchvision", arrays), augment.grayscale(image)
    return {
        "tensor_output": jitter,
        "pil_output": 255 * jitter,
        **{name: jnp.clip(x, 0.0, 1.0) for name, x in one.items()},
        **{name.replace("tensor", "pil"): 255 * jnp.clip(x, 0.0, 1.0) for name, x in one.items()},
        "tensor_gray": augment.join(gray),
        "pil_gray": levels(gray),
        "tensor_solarize_0p5": augment.join(augment.solarize(image)),
        "pil_solarize128": levels(augment.solarize(image, 128 / 255)),
        "tv_solarize_pil_200": levels(augment.solarize(image, 200 / 255)),
    }


@adapter("tf_colorjitter_simclrv1", "tf_colorjitter_simclrv2")
def tf_colorjitter(args, arrays):
    image, semantics = unit(arrays["image_uint8"]), {"simclrv1": "byol", "simclrv2": "simclr"}[args["impl"]]
    one = singles(image, semantics, arrays, "only_")
    return {
        "output": jittered(image, semantics, arrays),
        "grayscale": augment.join(augment.grayscale(image)),
        **{name: jnp.clip(x, 0.0, 1.0) for name, x in one.items()},
    }


@adapter("byol_colorjitter")
def byol_colorjitter(args, arrays):
    image = unit(arrays["image_uint8"])
    return {
        "output": jittered(image, "byol", arrays),
        "rgb_to_hsv": augment.join(augment.rgb_to_hsv(image)),
        "grayscale": augment.join(augment.grayscale(image)),
        "solarize_0p5": augment.join(augment.solarize(image)),
        **singles(image, "byol", arrays, "only_", "_noclip"),
    }


@adapter("tf_crop_resize")
def tf_crop_resize(args, arrays):
    image, box, size = unit(arrays["image_uint8"]), arrays["box_top_left_height_width"], args["out"][0]
    return {
        "output_bicubic": augment.join(augment.resample(image, box, size, "bicubic", antialias=False)),
        "output_bilinear": augment.join(augment.resample(image, box, size, "bilinear", antialias=False)),
        "output_bicubic_antialias": augment.join(augment.resample(image, box, size, "bicubic")),
    }


@adapter("tf_center_crop")
def tf_center_crop(args, arrays):
    image = unit(arrays["image_uint8"])
    height, width = image[0].shape
    side = round(args["crop_proportion"] * min(height, width))  # whole pixels; `center` follows torchvision
    box = ((height - side + 1) // 2, (width - side + 1) // 2, side, side)
    return {"output": augment.join(augment.resample(image, box, args["out"][0], "bicubic", antialias=False))}


@adapter(
    "tv_resized_crop",
    ignored={"tensor_float_bicubic_noantialias": "a = -3/4, which no recipe uses"},
    deviates={
        "pil_bilinear": (0.008, ROUNDED),
        "eval_*": (0.01, ROUNDED),
        "pil_*": (0.04, PASSES),
        "normalized_*": (0.06, PASSES),
    },
)
def tv_resized_crop(args, arrays):
    image, box, size = unit(arrays["image"]), arrays["box_top_left_height_width"], int(arrays["size"])
    bicubic, bilinear = (augment.resample(image, box, size, method) for method in ("bicubic", "bilinear"))
    valid = jnp.array([0, 0, *image[0].shape])
    middle = augment.center_box(valid, 32, 32 / 36)
    evaluated = [augment.resample(image, middle, 32, method, bounds=valid) for method in ("bicubic", "bilinear")]
    clipped = tuple(jnp.clip(x, 0.0, 1.0) for x in bicubic)
    swav, byol = augment.recipe("swav", size), augment.recipe("byol", size)
    return {
        "tensor_float_bicubic_antialias": augment.join(bicubic),
        "tensor_float_bilinear_antialias": augment.join(bilinear),
        "tensor_float_bilinear_noantialias": augment.join(augment.resample(image, box, size, antialias=False)),
        "pil_bicubic": levels(bicubic),
        "pil_bilinear": levels(bilinear),
        "pil_flip_bicubic": levels(augment.resample(image, box, size, "bicubic", flip=True)),
        "eval_resize36_centercrop32": levels(evaluated[0]),
        "eval_resize36_bilinear_centercrop32": levels(evaluated[1]),
        "normalized_imagenet": augment.join(augment.normalize(clipped, byol.space.mean, byol.space.std)),
        "normalized_swav": augment.join(augment.normalize(clipped, swav.space.mean, swav.space.std)),
    }


@adapter("blur", deviates={"pil_output": (0.06, "PIL approximates the Gaussian by three box filters")})
def tv_blur(args, arrays):
    image, radius = unit(arrays["image"]), int(arrays["kernel_size"]) // 2
    return {
        "tensor_output": augment.join(augment.blur(image, arrays["sigma"], radius, "reflect")),
        "pil_output": levels(augment.blur(image, arrays["pil_radius"], round(4 * arrays["pil_radius"]), "edge")),
    }


@adapter("tf_blur", "byol_blur")
def zero_blur(args, arrays):
    image = unit(arrays["image_uint8"])
    return {"output": augment.join(augment.blur(image, arrays["sigma"], int(arrays["kernel_size"] / 2), "zero"))}


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
