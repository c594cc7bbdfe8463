"""Images/s of the BYOL recipe on the device and with Pillow on the host: `python tests/benchmarks/augment.py`.

An image is two views. The host side uses Pillow as torchvision's transforms do, with one process per core; the cost of
collecting the results is left out.
"""

import argparse
import multiprocessing
import os
import random
import time

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

MEAN, STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])


def random_resized_crop(image: Image.Image, size: int) -> Image.Image:
    width, height = image.size
    pixels, ratio = width * height * random.uniform(0.08, 1), np.exp(random.uniform(np.log(3 / 4), np.log(4 / 3)))
    w, h = min(width, round((pixels * ratio) ** 0.5)), min(height, round((pixels / ratio) ** 0.5))
    left, top = random.randint(0, width - w), random.randint(0, height - h)
    return image.resize((size, size), Image.Resampling.BICUBIC, (left, top, left + w, top + h))


def hue(image: Image.Image, turns: float) -> Image.Image:
    h, s, v = image.convert("HSV").split()
    h = Image.fromarray(np.asarray(h) + np.uint8(int(turns * 255) % 256))
    return Image.merge("HSV", (h, s, v)).convert("RGB")


def color_jitter(image: Image.Image) -> Image.Image:
    operations = [
        lambda x: ImageEnhance.Brightness(x).enhance(random.uniform(0.6, 1.4)),
        lambda x: ImageEnhance.Contrast(x).enhance(random.uniform(0.6, 1.4)),
        lambda x: ImageEnhance.Color(x).enhance(random.uniform(0.8, 1.2)),
        lambda x: hue(x, random.uniform(-0.1, 0.1)),
    ]
    for operation in random.sample(operations, 4):
        image = operation(image)
    return image


def host_view(image: Image.Image, size: int, blur: float, solarize: float, color: float = 0.8) -> np.ndarray:
    image = random_resized_crop(image, size)
    if random.random() < 0.5:
        image = ImageOps.mirror(image)
    if random.random() < color:
        image = color_jitter(image)
    if random.random() < color / 4:
        image = image.convert("L").convert("RGB")
    if random.random() < blur:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
    if random.random() < solarize:
        image = ImageOps.solarize(image, 128)
    return (np.asarray(image, np.float32) / 255 - MEAN) / STD


def host_share(images: np.ndarray, size: int) -> None:
    for image in map(Image.fromarray, images):
        host_view(image, size, 1.0, 0.0)
        host_view(image, size, 0.1, 0.2)


def host(pool, images: np.ndarray, size: int):
    """Returns a function that augments the images once on all cores."""
    shares = [(share, size) for share in np.array_split(images, os.cpu_count())]
    return lambda: pool.starmap(host_share, shares)


def device(images: np.ndarray, size: int):
    """Returns a function that augments the images once on the accelerator or, without one, on the same cores."""
    import jax  # imported here, so that the processes of the host do not need it

    from ssl_jax import augment, parallel

    parallel.keep_freed_memory()  # as the command does
    recipe = augment.recipe("byol", size)
    box = np.tile(np.int32([0, 0, *images.shape[1:3]]), (len(images), 1))
    batch = jax.device_put({"image": images, "box": box, "index": np.arange(len(images), dtype=np.int32)})
    program = jax.jit(lambda key: augment.views(recipe, key, batch, 0))
    return lambda: jax.block_until_ready(program(jax.random.key(0)))


def best_seconds(functions, rounds: int) -> list[float]:
    """Returns the fastest run of each function; they alternate, so that both see the same machine."""
    times = []
    for _ in range(1 + rounds):  # the first one compiles and is dropped
        times.append([])
        for function in functions:
            start = time.perf_counter()
            function()
            times[-1].append(time.perf_counter() - start)
    return np.min(times[1:], axis=0).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 96, 224], help="pixels of a view's side")
    parser.add_argument("--rounds", type=int, default=5, help="runs of which the best counts")
    flags = parser.parse_args()
    print(f"{'pixels':>6} {'device images/s':>16} {'host images/s':>14} {'ratio':>6}")
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for size in flags.sizes:
            canvas, count = {224: 256}.get(size, size), max(16, 2**18 // size**2)
            images = np.random.default_rng(0).integers(0, 256, (count, canvas, canvas, 3), dtype=np.uint8)
            ours, theirs = best_seconds([device(images, size), host(pool, images, size)], flags.rounds)
            print(f"{size:6} {count / ours:16.0f} {count / theirs:14.0f} {theirs / ours:6.2f}", flush=True)


if __name__ == "__main__":
    main()
