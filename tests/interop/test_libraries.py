"""Weights are what the real libraries compute with. It needs the extra `interop`, see CONTRIBUTING.md."""

import argparse
import dataclasses
import warnings

import jax
import numpy as np
import pytest
import toy

import ssl_jax
from ssl_jax import augment, export
from ssl_jax.interop.writers import WRITERS
from ssl_jax.networks import ResNet, ViT

torch = pytest.importorskip("torch", reason="needs the extra interop")
pytestmark = pytest.mark.filterwarnings("ignore")  # theirs

RESNETS = {False: ResNet((1, 1, 1, 1)), True: ResNet((1, 1, 2, 1), True)}
SLIM = ResNet((1, 1, 2, 1), stem_width=8, widths=(8, 16, 32, 64))
VIT = ViT(patch=4, size=16, dim=12, depth=2, heads=3)
DINOV2 = VIT.clone(registers=2, layer_scale=0.1)
SWIGLU = {"mlp": "swiglu", "mlp_ratio": 2.0}


def library(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason="needs the extra interop")


def images(size):
    return np.asarray(jax.random.normal(jax.random.key(1), (2, size, size, 3)), np.float32)


def ours(model, size):
    return np.asarray(model.network.apply(model.variables, images(size), method="encode"))


def theirs(network, size, read=lambda output: output):
    """The features that a network of theirs gives in evaluation mode."""
    with torch.no_grad():
        return read(network.eval()(torch.tensor(images(size).transpose(0, 3, 1, 2).copy()))).numpy()


def written(to, encoder, size, path):
    """Exports a random encoder; returns its model and runs the lines that say how to read it."""
    model = toy.model(encoder, size)
    out = str(path / "a.safetensors" if to == "torchvision" else path)
    said = WRITERS[to](to, model, *export.encoder_of(model, to), out)
    names: dict = {}
    exec("\n".join(line.strip() for line in said.splitlines() if "pixel_values" not in line), names)
    return model, names["model"]


def close(found, expected):
    """Equal to 1e-4 of the features' size."""
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def randomized(network):
    """Gives a network of theirs random weights and statistics, in which nothing is zero or one."""
    generator = torch.Generator().manual_seed(0)
    state = network.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point():
            low = -0.1 if tensor.ndim > 1 else 0.1
            state[name] = low + 0.2 * torch.rand(tensor.shape, generator=generator)
    network.load_state_dict(state)
    return network


@pytest.mark.parametrize("bottleneck", RESNETS)
def test_torchvision(bottleneck, tmp_path):
    library("torchvision")
    pytest.importorskip("safetensors", reason="needs the extra interop")
    model, network = written("torchvision", RESNETS[bottleneck], 64, tmp_path)
    close(theirs(network, 64), ours(model, 64))


@pytest.mark.parametrize(
    "encoder",
    [
        RESNETS[False],
        RESNETS[True].clone(stem="deep"),
        VIT,
        DINOV2,
        VIT.clone(**SWIGLU),
        DINOV2.clone(**SWIGLU),
        VIT.clone(pool="mean", positions="sincos_columns", patch_bias=False),
        VIT.clone(mlp="quick_gelu", bias=False, patch_bias=False, pre_norm=True),
    ],
)
def test_timm(encoder, tmp_path):
    library("timm")
    size = 64 if isinstance(encoder, ResNet) else 16
    model, network = written("timm", encoder, size, tmp_path)
    close(theirs(network, size), ours(model, size))


@pytest.mark.parametrize(
    "encoder",
    [
        SLIM,
        RESNETS[True],
        VIT.clone(eps=1e-5),
        VIT.clone(bias=False, mlp="quick_gelu"),
        VIT.clone(layer_scale=0.1),
        DINOV2,
        DINOV2.clone(**SWIGLU),
        VIT.clone(**SWIGLU),
    ],
)
def test_hugging_face(encoder, tmp_path):
    library("transformers")
    size = 64 if isinstance(encoder, ResNet) else 16
    model, network = written("hf", encoder, size, tmp_path)

    def read(output):
        return output.pooler_output[:, :, 0, 0] if size == 64 else output.last_hidden_state[:, 0]

    close(theirs(network, size, read), ours(model, size))
    found = ssl_jax.import_weights(tmp_path)
    network.save_pretrained(tmp_path / "saved")
    saved = ssl_jax.import_weights(tmp_path / "saved")
    for one in (found, saved):
        close(ours(one, size), ours(model, size))


def test_hugging_face_prepares_images_as_evaluation_does(tmp_path):
    transformers = library("transformers")
    model = dataclasses.replace(toy.model(VIT, 16), crop=0.8)
    WRITERS["hf"]("hf", model, *export.encoder_of(model, "hf"), str(tmp_path))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)  # 20 is 16 / 0.8
    found = processor(images=image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
    batch = {"image": image[None], "box": np.array([[0, 0, 20, 30]])}
    expected = augment.center(model.recipe, jax.device_put(batch), model.size, model.crop)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def imported(state, path, **options):
    torch.save(state, path / "weights.pth")
    return ssl_jax.import_weights(path / "weights.pth", **options)


def test_weights_of_torchvision_are_imported(tmp_path):
    network = randomized(library("torchvision").models.resnet50())
    checkpoint = {"state_dict": network.state_dict(), "args": argparse.Namespace(lr=0.1), "epoch": 3}
    model = imported(checkpoint, tmp_path, format="torchvision")
    assert model.origin.endswith("; unused: fc (2)")
    network.fc = torch.nn.Identity()
    close(ours(model, 64), theirs(network, 64))


@pytest.mark.parametrize(
    "name",
    ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_giant_patch14_dinov2", "vit_tiny_patch16_224"],
)
def test_weights_of_timm_are_imported(name, tmp_path):
    patch = 16 if "16" in name else 14
    ratio = {"mlp_ratio": 4.0} if "giant" in name else {}
    tiny = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 3 * patch, "num_classes": 0}
    network = randomized(library("timm").create_model(name, **tiny, **ratio))
    model = imported(network.state_dict(), tmp_path, heads=2)
    assert "unused" not in model.origin and model.network.encoder.depth == 2
    close(ours(model, 3 * patch), theirs(network, 3 * patch))


def test_the_folder_that_timm_makes_of_clip_is_imported(tmp_path):
    timm = library("timm")
    tiny = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 32, "patch_size": 16, "num_classes": 0}
    network = randomized(timm.create_model("vit_base_patch16_clip_quickgelu_224", **tiny))
    timm.models.save_for_hf(network, tmp_path, model_args=tiny, safe_serialization=True)
    model = ssl_jax.import_weights(tmp_path)
    close(ours(model, 32), theirs(network, 32))
    assert model.recipe.space.mean == network.pretrained_cfg["mean"]
