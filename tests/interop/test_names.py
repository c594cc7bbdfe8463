"""Weights that go out and come back are the same, and what cannot is one sentence."""

import functools
import json
import pickle
import struct
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy
from test_methods import overrides, read

import ssl_jax
from ssl_jax import export
from ssl_jax.errors import UserError
from ssl_jax.interop import files, published, resnets
from ssl_jax.interop.rows import to_ours
from ssl_jax.interop.writers import WRITERS
from ssl_jax.networks import ResNet, ViT

RESNET = ResNet((1, 1, 2, 1), stem_width=8, widths=(8, 16, 32, 64))
BOTTLENECK = ResNet((1, 1, 1, 1), True)
VIT = ViT(patch=4, size=16, dim=12, depth=2, heads=3)
DINOV2 = VIT.clone(registers=2, layer_scale=0.1, mlp="swiglu", mlp_ratio=2.0)
CASES = [  # library and encoder
    ("torchvision", BOTTLENECK),
    ("timm", BOTTLENECK.clone(stem="deep")),
    ("timm", DINOV2),
    ("timm", VIT.clone(pool="mean", mlp="quick_gelu", bias=False, patch_bias=False, pre_norm=True)),
    ("hf", RESNET),
    ("hf", VIT.clone(eps=1e-5)),
    ("hf", DINOV2),
    ("hf", VIT.clone(layer_scale=0.1)),
]


def write(to, model, path):
    """Exports a model, and returns where."""
    out = path / {"torchvision": "a.safetensors", "detectron2": "a.pkl"}.get(to, "a")
    said = WRITERS[to](to, model, *export.encoder_of(model, to), str(out))
    return out, said


def features(model, size):
    images = jax.random.normal(jax.random.key(1), (2, size, size, 3))
    return jax.jit(functools.partial(model.network.apply, method="encode"))(model.variables, images)


@pytest.mark.parametrize(("to", "encoder"), CASES)
def test_what_is_exported_is_imported_alike(to, encoder, tmp_path):
    size = 32 if isinstance(encoder, ResNet) else 16
    model = toy.model(encoder, size)
    out, _ = write(to, model, tmp_path)
    heads = {} if to == "hf" or isinstance(encoder, ResNet) else {"heads": 3}
    found = ssl_jax.import_weights(out, **heads)
    assert "unused" not in found.origin
    np.testing.assert_allclose(features(found, size), features(model, size), rtol=1e-5, atol=1e-6)
    if to != "torchvision":
        np.testing.assert_allclose(found.recipe.space.mean, model.recipe.space.mean)


@pytest.mark.parametrize("positions", ["learned", "sincos_columns"])
def test_positions_are_those_of_the_size_of_evaluation(positions, tmp_path):
    encoder = VIT.clone(positions=positions, view_patch=8)
    model = toy.model(encoder, 32)
    out, _ = write("timm", model, tmp_path)
    found = ssl_jax.import_weights(out)
    assert found.network.encoder.size == 32 and found.network.encoder.patch == 8
    np.testing.assert_allclose(features(found, 32), features(model, 32), rtol=1e-4, atol=1e-5)


def test_a_run_is_exported_and_imported_with_its_heads(tmp_path, capsys):
    toy.random_run(tmp_path / "run", read("byol.py", overrides("byol"), None))
    options = [f"--workdir={tmp_path / 'run'}", "--to=npz", f"--out={tmp_path / 'byol.npz'}"]
    export.main(export.parser().parse(options))
    assert "model = ssl_jax.import_weights(" in capsys.readouterr().out
    model, found = ssl_jax.load(tmp_path / "run"), ssl_jax.import_weights(tmp_path / "byol.npz")
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 16, 3), np.uint8)
    for feature in ("backbone", "projection"):
        np.testing.assert_allclose(found.embed(images, feature), model.embed(images, feature), rtol=1e-5, atol=1e-6)
    for name in ("size", "canvas", "crop", "feature"):
        assert getattr(found, name) == getattr(model, name)
    with pytest.raises(
        UserError, match=r"torchvision cannot express network.encoder with stem 3x3/2; export with --to=npz"
    ):
        export.main(export.parser().parse([options[0], "--to=torchvision", f"--out={tmp_path / 'a.safetensors'}"]))


def test_detectron2_gets_what_mocos_script_makes(tmp_path):
    model = toy.model(ResNet((3, 4, 6, 3), True), 32)
    out, said = write("detectron2", model, tmp_path)
    with out.open("rb") as stream:
        found = pickle.load(stream)
    assert found["matching_heuristics"] is True
    names = set(found["model"])
    assert {"stem.conv1.weight", "stem.conv1.norm.running_var", "res2.0.shortcut.norm.bias"} <= names
    assert {"res5.2.conv3.weight", "res4.5.conv2.norm.weight"} <= names and len(names) == 53 * 5
    back, unused = to_ours(resnets.table(model.network.encoder, resnets.DETECTRON2), found["model"])
    assert not unused
    np.testing.assert_array_equal(
        back["params/stage4_block3/conv2/kernel"],
        model.variables["params"]["encoder"]["stage4_block3"]["conv2"]["kernel"],
    )
    assert f"MODEL.WEIGHTS {out}" in said and "MODEL.PIXEL_MEAN '[127.5, 102.0, 76.5]'" in said


@pytest.mark.parametrize(
    ("to", "encoder", "what"),
    [
        ("torchvision", BOTTLENECK.clone(stem="3x3"), "stem 3x3"),
        ("timm", BOTTLENECK.clone(selective=0.0625), "selective kernels"),
        ("hf", BOTTLENECK.clone(norm="group", groups=4), "norm group"),
        ("torchvision", RESNET, "widths"),
        ("hf", VIT.clone(pool="mean"), "mean over patches instead of a class token"),
        ("timm", VIT.clone(eps=1e-5), "eps 1e-05"),
        ("timm", VIT.clone(stem="conv"), "stem conv"),
        ("torchvision", VIT, "has no vision transformer"),
        ("detectron2", BOTTLENECK, "takes ResNet-50, 101 and 152"),
    ],
)
def test_what_a_library_cannot_express_is_one_sentence(to, encoder, what, tmp_path):
    with pytest.raises(UserError, match=what) as caught:
        write(to, toy.model(encoder, 32), tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def prefixed(before, arrays):
    return {before + name: array for name, array in arrays.items()}


def with_class_position(arrays):
    """Arrays of timm as DINO, MAE and MoCo v3 have them: the class token has a position."""
    token, table = arrays["cls_token"], arrays["pos_embed"]
    return arrays | {"cls_token": token - 0.25, "pos_embed": np.concatenate([0 * token + 0.25, table], axis=1)}


def moco(arrays):
    rest = {"module.queue": np.ones(3), "module.encoder_q.fc.0.weight": np.ones(2)}
    return {"state_dict": prefixed("module.encoder_q.", arrays) | rest}, "fc"


def moco_v3(arrays):
    rest = {"module.base_encoder.head.0.weight": np.ones(2)}
    return {"state_dict": prefixed("module.base_encoder.", with_class_position(arrays)) | rest}, "head"


def dino(arrays):
    teacher = prefixed("backbone.", with_class_position(arrays)) | {"head.mlp.0.weight": np.ones(2)}
    return {"student": prefixed("module.backbone.", arrays), "teacher": teacher}, None


def dinov2(arrays):
    names = {"reg_token": "register_tokens", "mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"}
    found = with_class_position(arrays) | {"mask_token": np.ones((1, 12))}
    for ours, theirs in names.items():
        found = {name.replace(ours, theirs): array for name, array in found.items()}
    return found, "mask_token"


def mae(arrays):
    rest = {"decoder_pos_embed": np.ones(2), "mask_token": np.ones(2)}
    return {"model": with_class_position(arrays) | rest}, "decoder_pos_embed, mask_token"


# How a checkpoint of each origin wraps the arrays of timm or torchvision, and what of it is not used.
WRAPPED = {"moco": moco, "moco_v3": moco_v3, "dino": dino, "dinov2": dinov2, "mae": mae}


@pytest.mark.parametrize("origin", WRAPPED)
def test_published_checkpoints_are_recognised(origin, tmp_path, monkeypatch):
    encoder = {"moco": BOTTLENECK, "dinov2": DINOV2}.get(origin, VIT)
    to, size = ("torchvision", 32) if encoder is BOTTLENECK else ("timm", 16)
    model = toy.model(encoder, size)
    out, _ = write(to, model, tmp_path)
    file = out / "model.safetensors" if to == "timm" else out
    tree, unused = WRAPPED[origin](files.read(file))
    path = tmp_path / "checkpoint.pth"
    path.touch()
    monkeypatch.setattr(
        files, "read_torch", lambda path: {key: value for key, value in tree.items() if value is not None}
    )
    found = ssl_jax.import_weights(path, **({} if to == "torchvision" else {"heads": 3}))
    np.testing.assert_allclose(features(found, size), features(model, size), rtol=1e-4, atol=1e-5)
    assert f"({origin.removesuffix('_v3')})" in found.origin
    assert found.origin.endswith(f"; unused: {unused}" if unused else "arrays")


def test_the_order_of_formats_does_not_matter_to_their_signs():
    assert published.find({"conv1.weight": jnp.ones(1), "layer1.0.conv1.weight": jnp.ones(1)}, None)[0] == "torchvision"
    assert published.find({"cls_token": jnp.ones(1), "patch_embed.proj.weight": jnp.ones(1)}, None)[0] == "timm"


def test_safetensors_are_read_as_they_were_written(tmp_path):
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3), "c": np.ones(3, np.float16)}
    files.write_safetensors(tmp_path / "a.safetensors", arrays)
    found = files.read(tmp_path / "a.safetensors")
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def broken(path):
    model = toy.model(VIT, 16)
    out, _ = write("timm", model, path)
    return out, files.read(out / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda arrays: arrays.pop("blocks.1.mlp.fc2.bias"), "the weights lack blocks.1.mlp.fc2.bias; take a file of"),
        (
            lambda arrays: [arrays.pop(name) for name in list(arrays) if "blocks.0.mlp" in name],
            "of no ResNet and of no vision",
        ),
        (lambda arrays: arrays.clear(), "of no format that is known here: ssl_jax, moco"),
    ],
)
def test_what_is_missing_is_named(change, says, tmp_path):
    out, arrays = broken(tmp_path)
    change(arrays)
    files.write_safetensors(out / "model.safetensors", arrays)
    with pytest.raises(UserError, match=says):
        ssl_jax.import_weights(out)


def test_heads_that_cannot_be_told_are_asked_for(tmp_path):
    out, _ = broken(tmp_path)
    (out / "config.json").write_text(json.dumps({}))
    with pytest.raises(UserError, match=r"how many attention heads share 12 channels, .*give it as heads=N"):
        ssl_jax.import_weights(out)


@pytest.mark.parametrize(
    "header", [b"[1]", b'{"a": 1}', b'{"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 4]}}']
)
def test_a_damaged_header_is_named(header, tmp_path):
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(UserError, match=r"a\.safetensors cannot be read as weights"):
        ssl_jax.import_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("about", ["{}", "no JSON"])
def test_a_damaged_description_is_named(about, tmp_path):
    np.savez(tmp_path / "a.npz", **{"params/encoder/x": np.ones(3), "about": np.array(about)})
    with pytest.raises(UserError, match=r"what .*a\.npz says of its network is damaged; export it once more"):
        ssl_jax.import_weights(tmp_path / "a.npz")


@pytest.mark.parametrize("tree", [None, np.ones(3)])
def test_a_checkpoint_without_names_is_named(tree):
    with pytest.raises(UserError, match="the file holds no arrays by name"):
        published.find(tree, None)


def test_a_file_that_is_not_there_or_no_weights_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"there is no file .*name a .pth, .safetensors or .npz file"):
        ssl_jax.import_weights(tmp_path / "a.pth")
    (tmp_path / "b.pth").touch()
    monkeypatch.setitem(sys.modules, "torch", None)  # not installed
    with pytest.raises(UserError, match=r"needs PyTorch to be read: pip install torch, or save it as .safetensors"):
        ssl_jax.import_weights(tmp_path / "b.pth")
    (tmp_path / "b.pth").unlink()
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match=r"a.safetensors cannot be read as weights"):
        ssl_jax.import_weights(tmp_path)
    with pytest.raises(UserError, match="there is no format 'tim'; did you mean 'timm'"):
        ssl_jax.import_weights(tmp_path, format="tim")
