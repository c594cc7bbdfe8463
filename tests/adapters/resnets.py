"""Golden cases of ResNets with the weights of torchvision, Hugging Face, timm and SimCLR."""

import re

import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from adapters.batch_norm import norm_fields, run, sample_sizes, torch_statistics
from adapters.weights import COUNTER, TENSORFLOW, TORCH, get, nchw, nhwc, to_torch, variables
from ssl_jax.networks import ResNet

NORM_AND_CONV = {"norm": "normalization", "conv": "convolution"}


def eval_outputs(model, given, x):
    """The features of a ResNet in evaluation mode and the list of its maps."""
    compiled = jax.jit(lambda given, x: model.apply(given, x, capture_intermediates=lambda _, name: name == "maps"))
    encoding, state = compiled(given, x)
    return encoding.pooled, state["intermediates"]["maps"][0]


def resnet_table(layers, stem, block, parts):
    """Rows for a ResNet; block: pattern of their block's name, parts: our part of a block -> theirs."""
    table = list(stem)
    for stage, depth in enumerate(layers):
        for i in range(depth):
            name = block.format(stage=stage, layer=stage + 1, i=i)
            table += [(f"stage{stage + 1}_block{i + 1}/{ours}", f"{name}.{theirs}") for ours, theirs in parts.items()]
    return table


def channels(arrays, name, stages, last):
    """The widths of the stages and inside their blocks, as the first and the last convolution of a block have them."""
    inner, widths = (
        tuple(len(arrays[name.format(stage=stage, layer=stage + 1, conv=conv)]) for stage in range(stages))
        for conv in (1, last)
    )
    return {"widths": widths, "inner": inner}


@adapter("tv_resnet18_slim", "tv_resnet50_slim", ignored=COUNTER)
def torchvision_resnet(args, arrays):
    bottleneck = args["block"] == "Bottleneck"
    stem = [("stem_conv1", "param/conv1"), ("stem_norm1", "param/bn1")]
    parts = {f"conv{i}": f"conv{i}" for i in (1, 2, 3)} | {f"norm{i}": f"bn{i}" for i in (1, 2, 3)}
    parts |= {"shortcut_conv": "downsample.0", "shortcut_norm": "downsample.1"}
    table = resnet_table(args["layers"], stem, "param/layer{layer}.{i}", parts)
    model = ResNet(
        tuple(args["layers"]),
        bottleneck,
        stem_width=len(arrays["param/conv1.weight"]),
        **channels(arrays, "param/layer{layer}.0.conv{conv}.weight", 4, last=3 if bottleneck else 2),
    )
    given = variables(table, arrays, TORCH)
    x, cotangent = nhwc(arrays["x"]), arrays["cotangent"]
    features, maps = eval_outputs(model, given, x)

    def loss(params, x):
        encoding, new = model.apply(given | {"params": params}, x, train=True, mutable=["batch_stats"])
        return jnp.sum(encoding.pooled * cotangent), (encoding.pooled, new["batch_stats"])

    with sample_sizes() as sizes:
        (grad, grad_x), (train, new) = jax.jit(jax.grad(loss, (0, 1), has_aux=True))(given["params"], x)
    stats = torch_statistics(given["batch_stats"], new, sizes)
    after = {
        f"after_train/{theirs.removeprefix('param/')}.{leaf}": value
        for ours, theirs in table
        for leaf, value in stats.get(ours, {}).items()
    }
    return {
        "features_eval": features,
        "layer1_eval": nchw(maps[1]),
        "layer4_eval": nchw(maps[4]),
        "features_train": train,
        "grad_x_train_first": nchw(grad_x[:1]),
        "grad_conv1_train": to_torch(np.asarray(grad["stem_conv1"]["kernel"])),
    } | {name: value for name, value in after.items() if name in arrays}


@adapter("hf_resnet_basic", "hf_resnet_bottleneck", ignored=COUNTER)
def huggingface_resnet(args, arrays):
    stem = "param/embedder.embedder."
    parts = {f"{ours}{i}": f"layer.{i - 1}.{theirs}" for ours, theirs in NORM_AND_CONV.items() for i in (1, 2, 3)}
    parts |= {f"shortcut_{ours}": f"shortcut.{theirs}" for ours, theirs in NORM_AND_CONV.items()}
    table = resnet_table(
        args["depths"],
        [(f"stem_{ours}1", stem + theirs) for ours, theirs in NORM_AND_CONV.items()],
        "param/encoder.stages.{stage}.layers.{i}",
        parts,
    )
    model = ResNet(
        tuple(args["depths"]),
        args["layer_type"] == "bottleneck",
        widths=tuple(args["hidden_sizes"]),
        stem_width=args["embedding_size"],
    )
    features, maps = eval_outputs(model, variables(table, arrays, TORCH), nhwc(arrays["x"]))
    return {"last_hidden_state": nchw(maps[-1]), "pooler_output": features[:, :, None, None]}


@adapter("timm_resnetv2_gnws")
def timm_resnetv2(args, arrays):
    deep = "deep" in args["stem_type"] or args["stem_type"] == "tiered"
    convs = [f"stem.conv{i}" for i in (1, 2, 3)] if deep else ["stem.conv"]
    parts = {f"{kind}{i}": f"{kind}{i}" for kind in ("conv", "norm") for i in (1, 2, 3)}
    parts |= {"shortcut_conv": "downsample.conv", "shortcut_norm": "downsample.norm"}
    stem = [(f"stem_conv{i}", f"param/{name}") for i, name in enumerate(convs, 1)]
    stem += [(ours.replace("conv", "norm"), theirs.replace("conv", "norm")) for ours, theirs in stem]
    stem += [("norm", "param/norm")]
    table = resnet_table(args["layers"], stem, "param/stages.{stage}.blocks.{i}", parts)
    stages = len(args["layers"])
    model = ResNet(
        tuple(args["layers"]),
        bottleneck=True,
        norm="group",
        groups=args["num_groups"],
        standardize=args["wstd_eps"] or 1e-300,  # 0 is off with us
        preactivation=args["preact"],
        stem="tiered" if args["stem_type"] == "tiered" else "deep" if deep else "7x7",
        pool="zeros" if "fixed" in args["stem_type"] else "same" if "same" in args["stem_type"] else "ignored",
        project=True,
        stem_width=len(arrays[f"param/{convs[-1]}.weight"]),
        **channels(arrays, "param/stages.{stage}.blocks.0.conv{conv}.weight", stages, last=3),
    )
    features, maps = eval_outputs(model, variables(table, arrays, TORCH), nhwc(arrays["x"]))
    return {"feature_map": nchw(maps[-1]), "pooled": features}


@adapter(
    "tf_resnet",
    ignored={"global_bn": "the original runs on one device, where a BatchNorm over all devices is the same"},
    deviates={
        # With two images, a BatchNorm over 1x1 maps sees two values and amplifies the float32 rounding of the
        # original: the difference between our own float32 and float64 is five times as large.
        "features_train": (3e-2, "BatchNorm over two values in float32"),
        "after_train/*": (3e-4, "BatchNorm over two values in float32"),
    },
)
def tensorflow_resnet(args, arrays):
    bottleneck, selective = args["block"] == "BottleneckBlock", args["sk_ratio"]
    width = 64 * args["width_multiplier"]
    inner = tuple(int(width * 2**i) for i in range(4))  # Keras rounds down
    model = ResNet(
        tuple(args["layers"]),
        bottleneck,
        stem="3x3" if args["cifar_stem"] else "deep" if selective else "7x7",
        selective=selective,
        excitation=args["se_ratio"],
        pool="same",
        project=True,
        stem_width=int(width),
        inner=inner,
        widths=tuple(int(4 * width * 2**i) for i in range(4)) if bottleneck else inner,
    )
    table = tensorflow_table(args["layers"], bottleneck, selective, args["se_ratio"], model.stem, arrays)
    given, x = variables(table, arrays, TENSORFLOW), jnp.asarray(arrays["x"], jnp.float64)
    features, maps = eval_outputs(model, given, x)
    with norm_fields(momentum=args["bn_decay"]):
        encoding, new = run(model, given, x)
    after = {
        theirs.replace("param/", "after_train/") + leaf: get(new["batch_stats"], ours)[name("")]
        for ours, theirs in table
        for leaf, (collection, name, _) in TENSORFLOW.items()
        if theirs + leaf in arrays and collection == "batch_stats"
    }
    return after | {"features_eval": features, "features_train": encoding.pooled, "stem_eval": maps[0]}


def tensorflow_table(layers, bottleneck, selective, excitation, stem, arrays):
    """Keras numbers its layers in the order of their creation, which is the order of ours here."""
    stems = range(1, 4 if stem == "deep" else 2)
    convs, norms = [f"stem_conv{i}" for i in stems], [f"stem_norm{i}" for i in stems]
    for stage, depth in enumerate(layers, start=1):
        for i in range(1, depth + 1):
            block = f"stage{stage}_block{i}/"
            shortcut = ["shortcut_"] if i == 1 else []
            middle = ["conv2/conv", "conv2/squeeze", "conv2/mix"] if bottleneck and selective else ["conv2"]
            middle_norm = ["conv2/norm", "conv2/squeeze_norm"] if bottleneck and selective else ["norm2"]
            last = [3] if bottleneck else []
            excite = ["excitation/squeeze", "excitation/excite"] if excitation else []
            convs += [
                block + name
                for name in [f"{s}conv" for s in shortcut] + ["conv1", *middle] + [f"conv{n}" for n in last] + excite
            ]
            norms += [
                block + name
                for name in [f"{s}norm" for s in shortcut] + ["norm1", *middle_norm] + [f"norm{n}" for n in last]
            ]

    def made(layer, leaf):
        names = [name.removesuffix(leaf) for name in arrays if name.startswith("param/") and name.endswith(leaf)]
        return sorted(names, key=lambda name: int(re.search(rf"/{layer}_?(\d*)/$", name)[1] or 0))

    ours, theirs = convs + norms, made("conv2d", "kernel:0") + made("batch_normalization", "gamma:0")
    return list(zip(ours, theirs, strict=True))
