"""ResNets in torchvision, timm, Hugging Face and detectron2: names of arrays, and what each library can express."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from ssl_jax.errors import UserError
from ssl_jax.interop.rows import Arrays, Row, batch_norm, convolution
from ssl_jax.networks import ResNet


class Names(NamedTuple):
    """Names of modules in a library. In those of blocks, {stage} is from 1, {below} one less, {above} one more."""

    stem: tuple[tuple[str, str], ...]  # convolution and norm
    deep: tuple[tuple[str, str], ...]  # of a stem of three convolutions; empty: there is none
    block: str
    conv: str  # in a block, {i} from 1, {below} one less
    norm: str
    shortcut: tuple[str, str]
    counter: bool = True  # whether norms count batches


TORCHVISION = Names((("conv1", "bn1"),), (), "layer{stage}.{i}", "conv{i}", "bn{i}", ("downsample.0", "downsample.1"))
TIMM = TORCHVISION._replace(deep=(("conv1.0", "conv1.1"), ("conv1.3", "conv1.4"), ("conv1.6", "bn1")))
HUGGING_FACE = Names(
    (("embedder.embedder.convolution", "embedder.embedder.normalization"),),
    (),
    "encoder.stages.{below}.layers.{i}",
    "layer.{below}.convolution",
    "layer.{below}.normalization",
    ("shortcut.convolution", "shortcut.normalization"),
)
# As MoCo's convert-pretrain-to-detectron2.py names them.
DETECTRON2 = Names(
    (("stem.conv1", "stem.conv1.norm"),),
    (),
    "res{above}.{i}",
    "conv{i}",
    "conv{i}.norm",
    ("shortcut", "shortcut.norm"),
    counter=False,
)


def block(names: Names, stage: int, i: int) -> str:
    return names.block.format(stage=stage, below=stage - 1, above=stage + 1, i=i)


def table(encoder: ResNet, names: Names) -> list[Row]:
    """Returns the rows for all arrays of an encoder."""
    rows: list[Row] = []
    for ours_conv, ours_norm, conv, norm in modules(encoder, names):
        rows += convolution(ours_conv, conv) + batch_norm(ours_norm, norm, names.counter)
    return rows


def modules(encoder: ResNet, names: Names) -> Iterator[tuple[str, str, str, str]]:
    """Yields each convolution and its norm, ours and theirs."""
    for i, (conv, norm) in enumerate(names.stem if encoder.stem == "7x7" else names.deep, start=1):
        yield f"stem_conv{i}", f"stem_norm{i}", conv, norm
    before = round(encoder.stem_width * encoder.width)
    for stage, (depth, _, output) in enumerate(encoder.stages, start=1):
        for i in range(depth):
            ours, theirs = f"stage{stage}_block{i + 1}", block(names, stage, i)
            for j in range(1, 4 if encoder.bottleneck else 3):
                conv, norm = (name.format(i=j, below=j - 1) for name in (names.conv, names.norm))
                yield f"{ours}/conv{j}", f"{ours}/norm{j}", f"{theirs}.{conv}", f"{theirs}.{norm}"
            if i == 0 and (stage > 1 or before != output or encoder.project):
                conv, norm = names.shortcut
                yield f"{ours}/shortcut_conv", f"{ours}/shortcut_norm", f"{theirs}.{conv}", f"{theirs}.{norm}"
        before = output


def from_arrays(arrays: Arrays, names: Names) -> ResNet:
    """Returns the encoder that arrays under their names belong to."""

    def shape(module):
        return arrays[f"{module}.weight"].shape

    def conv(stage, i, j):
        return f"{block(names, stage, i)}.{names.conv.format(i=j, below=j - 1)}"

    def there(module):
        return f"{module}.weight" in arrays

    stages = list(itertools.takewhile(lambda stage: there(conv(stage, 0, 1)), itertools.count(1)))
    depths = tuple(sum(1 for _ in takewhile_there(lambda i, s=s: there(conv(s, i, 1)))) for s in stages)
    bottleneck = there(conv(1, 0, 3))
    deep = bool(names.deep) and there(names.deep[0][0])
    stem = (names.deep if deep else names.stem)[-1][0]
    if not deep and (not there(stem) or shape(stem)[2] != 7):
        raise UserError("the weights are of a ResNet with another stem than a convolution of 7x7; choose another file")
    if any(arrays[f"{conv(s, 0, 2)}.weight"].shape[1] != shape(conv(s, 0, 1))[0] for s in stages):
        raise UserError("the weights are of a ResNet with grouped convolutions; choose another file")
    return ResNet(
        depths,
        bottleneck,
        stem="deep" if deep else "7x7",
        stem_width=shape(stem)[0],
        widths=tuple(shape(conv(s, 0, 3 if bottleneck else 2))[0] for s in stages),
        inner=tuple(shape(conv(s, 0, 1))[0] for s in stages),
    )


def takewhile_there(there) -> Iterator[int]:
    return itertools.takewhile(there, itertools.count())


def obstacle(encoder: ResNet, names: Names) -> str | None:
    """Returns what of an encoder a library cannot express, None if it is nothing."""
    stem = round(encoder.stem_width * encoder.width)
    expansion = 4 if encoder.bottleneck else 1
    depths, inner, outputs = zip(*encoder.stages, strict=True)
    plain = tuple(stem * expansion * 2**i for i in range(len(depths)))
    free = names is HUGGING_FACE  # its widths are
    found = {
        f"stem {encoder.stem}": encoder.stem not in ("7x7", *["deep"] * bool(names.deep)),
        f"norm {encoder.norm}": encoder.norm != "batch",
        "weight standardisation": bool(encoder.standardize),
        "selective kernels": bool(encoder.selective),
        "squeeze-and-excitation": bool(encoder.excitation),
        "norms before convolutions": encoder.preactivation,
        f"pool {encoder.pool}": encoder.pool != "ignored",
        "projected shortcuts of equal shapes": encoder.project and not encoder.bottleneck,
        f"{len(depths)} stages": len(depths) != 4 and not free,
        f"widths {outputs}": not free and (outputs != plain or stem != 64),
        f"inner widths {inner}": any(4 * a != b for a, b in zip(inner, outputs, strict=True))
        if encoder.bottleneck
        else inner != outputs,
    }
    return next((what for what, there in found.items() if there), None)
