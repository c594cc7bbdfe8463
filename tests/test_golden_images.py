"""What the image adapters allow for 8 bits: enough for Pillow at any arguments, too little for a wrong operation."""

import adapters
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_golden
from adapters import rounding
from adapters.augment import pillow_resize
from PIL import Image, ImageEnhance, ImageFilter

from ssl_jax import augment
from ssl_jax.augment import color, filters, resampling

RNG = np.random.default_rng(5)
PIXELS = np.uint8(0.7 * np.kron(RNG.integers(0, 256, (5, 6, 3)), np.ones((4, 4, 1))) + RNG.integers(0, 77, (20, 24, 3)))
PICTURE = Image.fromarray(PIXELS)
PLANES = augment.split(jnp.asarray(np.float32(PIXELS) / np.float32(255)))


def turn(picture, turns):
    """torchvision's hue on a picture of Pillow."""
    h, s, v = picture.convert("HSV").split()
    turned = np.asarray(h).astype(int) + int(255 * turns)
    return Image.merge("HSV", (Image.fromarray(np.uint8(turned % 256)), s, v)).convert("RGB")


PILLOW = (
    lambda picture, factor: ImageEnhance.Brightness(picture).enhance(factor),
    lambda picture, factor: ImageEnhance.Contrast(picture).enhance(factor),
    lambda picture, factor: ImageEnhance.Color(picture).enhance(factor),
    turn,
)


@pytest.mark.parametrize("seed", range(12))
def test_colours_of_pillow_lie_within_their_bound(seed):
    rng = np.random.default_rng(seed)
    factors = [*rng.uniform(0.0, 2.5, 3), int(255 * rng.uniform(-0.5, 0.5)) / 255]
    order = rng.permutation(4)[: rng.integers(1, 5)]
    picture, exact = PICTURE, PLANES
    for index in order:
        picture = PILLOW[index](picture, factors[index] + 1e-9)
        exact = tuple(plane.clip(0.0, 1.0) for plane in color.SEMANTICS["torchvision"][index](exact, factors[index]))
    distance = np.abs(np.float64(picture) - 255 * augment.join(exact))
    assert np.all(distance <= rounding.colours(PLANES, factors, order) + 1e-3)


def test_stronger_colours_are_allowed_more_and_fewer_less():
    def bound(brightness=1.0, contrast=1.0, saturation=1.0, order=(0, 1, 2)):
        return rounding.colours(PLANES, (brightness, contrast, saturation, 0.1), order).max()

    assert bound(order=(0,)) == 1.0  # one operation, one level
    assert bound() == 3.0  # neutral ones only round, one after the other
    assert bound(contrast=2.0, order=(0, 1)) == pytest.approx(2 * 1.0 + (1 + 0.53 + 0.5) + 1.0)
    for index, name in enumerate(("brightness", "contrast", "saturation")):
        first = (index + 1) % 3  # whose rounding the other amplifies
        widths = [bound(**{name: factor}, order=(first, index)) for factor in (1.0, 1.5, 2.0)]
        assert widths == sorted(set(widths))
    assert bound(order=(0, 3)) == pytest.approx(bound(order=(3,)) + 3 + 6 * (2 / 255) * 2)  # what a turn amplifies
    gray = augment.grayscale(PLANES)
    assert rounding.colours(gray, (1, 1, 1, 0.1), (3,)).max() == pytest.approx(1.5, abs=1e-3)  # gray has no hue to lose


@pytest.mark.parametrize("method", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(7, 31), (40, 9), (8, 12)])
def test_a_resize_of_pillow_lies_within_its_bound(method, size):
    box = (2, 3, 15, 20)
    expected = PICTURE.crop((3, 2, 23, 17)).resize(size[::-1], getattr(Image.Resampling, method.upper()))
    ours, within = pillow_resize(PLANES, box, size, method)
    assert np.all(np.abs(np.float64(expected) - 255 * augment.join(ours)) <= within + 1e-3)
    most = {"bilinear": 1.02, "bicubic": 1.3}[method]  # the negative weights of bicubic amplify
    assert 1.0 < within < most


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.7, 1.5, 3.0, 6.0])
def test_a_blur_of_pillow_lies_within_its_bound(sigma):
    expected = np.float64(PICTURE.filter(ImageFilter.GaussianBlur(sigma)))
    rows, columns = (rounding.gaussian(sigma, n) for n in PIXELS.shape[:2])
    exact = np.einsum("ih,hwc,jw->ijc", rows, PIXELS, columns)
    assert np.all(np.abs(expected - exact) <= rounding.blur(PIXELS, sigma))
    boxes = np.einsum("ih,hwc,jw->ijc", rounding.boxes(sigma, 20), PIXELS, rounding.boxes(sigma, 24))
    assert np.all(np.abs(expected - boxes) <= 3.01)  # the boxes are Pillow's, but for its six roundings


def negative(operation):
    return lambda image, factor: operation(image, -factor)


def with_semantics(index, operation):
    """Patches torchvision's, SimCLR's and BYOL's colour operation at a position."""
    return [
        (color.SEMANTICS, name, (*ours[:index], operation, *ours[index + 1 :]))
        for name, ours in color.SEMANTICS.items()
    ]


def with_border(function, border):
    """An operation with another border than asked for, the last argument."""
    return lambda *args: function(*args[:-1], border)


def transposed(image):
    down_and_right = filters.edges(image)
    return down_and_right[..., ::-1]


MUTATIONS = {  # (kind, array) -> what is put where: (owner, name, value)
    ("tv_colorjitter", "pil_only_hue"): with_semantics(3, negative(color.hue)),
    ("tv_colorjitter", "pil_output"): with_semantics(3, negative(color.hue)),
    ("tv_colorjitter", "pil_only_brightness"): with_semantics(0, color.add_brightness),
    ("tv_colorjitter", "pil_only_contrast"): with_semantics(1, color.contrast_per_channel),
    ("tv_colorjitter", "pil_only_saturation"): with_semantics(2, color.saturation_in_hsv),
    ("tv_colorjitter", "pil_gray"): [(augment, "grayscale", lambda image: (sum(image) / 3,) * 3)],
    ("tv_colorjitter", "pil_hsv"): [(augment, "rgb_to_hsv", lambda image: color.rgb_to_hsv(image[::-1]))],
    ("tv_colorjitter", "pil_solarize128"): [(augment, "solarize", lambda image, threshold=0.5: image)],
    ("tf_colorjitter_simclrv1", "only_hue"): with_semantics(3, negative(color.hue)),
    ("tf_colorjitter_simclrv2", "only_saturation"): with_semantics(2, color.saturation_from_gray),
    ("byol_colorjitter", "only_contrast_noclip"): with_semantics(1, color.contrast_around_gray),
    ("tv_resized_crop", "pil_bicubic"): [(resampling.KERNELS, "bicubic", resampling.triangle)],
    ("tv_resized_crop", "pil_bilinear"): [(resampling.KERNELS, "bilinear", resampling.keys)],
    ("tv_resized_crop", "eval_resize36_centercrop32"): [(resampling.KERNELS, "bicubic", resampling.triangle)],
    ("tv_resized_crop", "normalized_swav"): [(resampling.KERNELS, "bicubic", resampling.triangle)],
    ("tf_crop_resize", "output_bicubic"): [(resampling.KERNELS, "bicubic", resampling.triangle)],
    ("tf_center_crop", "output"): [(resampling.KERNELS, "bicubic", resampling.triangle)],
    ("blur", "pil_output"): [(augment, "blur", with_border(filters.blur, "zero"))],
    ("blur", "tensor_output"): [(augment, "blur", with_border(filters.blur, "edge"))],
    ("tf_blur", "output"): [(augment, "blur", with_border(filters.blur, "edge"))],
    ("byol_blur", "output"): [(augment, "blur", with_border(filters.blur, "reflect"))],
    ("lab", "lab"): [(augment, "rgb_to_lab", augment.rgb_to_ycbcr)],
    ("sobel_deepcluster", "output"): [(augment, "edges", transposed)],
    ("tf_sobel", "sobel"): [(augment, "sobel", with_border(filters.sobel, "zero"))],
}


@pytest.fixture
def directory(request):
    return request.config.getoption("--golden")


def first(directory, kind):
    return next(case for case in test_golden.cases(directory) if case["kind"] == kind)


@pytest.mark.parametrize(("kind", "name"), MUTATIONS)
def test_a_wrong_operation_is_not_allowed(kind, name, directory, monkeypatch):
    case = first(directory, kind)
    arrays = test_golden.load(case, directory)
    for owner, target, value in MUTATIONS[kind, name]:
        (monkeypatch.setitem if isinstance(owner, dict) else monkeypatch.setattr)(owner, target, value)
    adapter = adapters.load()[kind]
    with jax.enable_x64(True):
        ours = adapter.compute(case["args"], arrays)
    with pytest.raises(AssertionError, match=name):
        test_golden.compare(case, adapter, name, ours[name], arrays[name])


def test_every_kind_of_image_operation_has_a_mutation(directory):
    kinds = {case["kind"] for case in test_golden.cases(directory) if case["family"] == "13_augment"}
    assert kinds == {kind for kind, _ in MUTATIONS}


@pytest.mark.parametrize(
    ("kind", "args", "message"),
    [
        ("tf_sobel", {"ksize": 5}, "ksize"),
        ("nmi", {"average": "max"}, "average"),
        ("tf_blur", {"padding": "REFLECT"}, "SAME or VALID"),
        ("blur", {"sigma": [0.8, 1.2]}, "one number"),
    ],
)
def test_an_argument_that_an_adapter_does_not_support_fails(kind, args, message, directory):
    case = first(directory, kind)
    with pytest.raises(AssertionError, match=message):
        test_golden.check(case | {"args": case["args"] | args}, test_golden.load(case, directory))
