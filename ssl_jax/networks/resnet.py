"""Residual networks with the stems, norms and shortcuts that self-supervised papers use."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, suggest
from ssl_jax.fields import positive
from ssl_jax.networks.encoding import Encoding
from ssl_jax.networks.norm import Norm, standardized
from ssl_jax.networks.selective_kernel import SelectiveKernel
from ssl_jax.networks.squeeze_excitation import SqueezeExcitation
from ssl_jax.numeric import widen

STEM_STRIDES = {"7x7": 4, "deep": 4, "tiered": 4, "3x3/2": 2, "3x3": 1}


class Block(nn.Module):
    """A residual block on x [B, H, W, C]: two 3x3 convolutions, or 1x1, 3x3 and 1x1 (bottleneck).

    Sources: He et al. 2015 (arXiv:1512.03385), with the stride on the 3x3 convolution. `selective` also averages before
    it projects a shortcut: He et al. 2018 (arXiv:1812.01187), figure 2c.
    """

    inner: int
    output: int
    stride: int
    bottleneck: bool
    project: bool
    zero_gamma: bool
    selective: float
    excitation: float
    conv: Callable
    norm: Callable

    @property
    def plan(self) -> tuple[tuple[int, int, int], ...]:
        """(kernel, channels, stride) of each convolution."""
        if self.bottleneck:
            return (1, self.inner, 1), (3, self.inner, self.stride), (1, self.output, 1)
        return (3, self.inner, self.stride), (3, self.output, 1)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = x
        for i, (kernel, width, stride) in enumerate(self.plan, start=1):
            last = i == len(self.plan)
            if self.selective and self.bottleneck and kernel == 3:
                y = SelectiveKernel(width, stride, self.selective, self.conv, self.norm, name=f"conv{i}")(y, train)
                continue
            y = self.convolution(width, kernel, stride, f"conv{i}")(y)
            y = self.norm(zero=last and self.zero_gamma, name=f"norm{i}")(y, train)
            y = y if last else nn.relu(y)
        if self.project:
            x = self.norm(name="shortcut_norm")(self.shortcut(x), train)
        return nn.relu(x + self.excited(y))

    def convolution(self, width, kernel, stride, name):
        return self.conv(width, (kernel, kernel), (stride, stride), padding=kernel // 2, name=name)

    def excited(self, y):
        if not self.excitation:
            return y
        width = max(1, int(self.inner * self.excitation))
        return SqueezeExcitation(width, self.conv, name="excitation")(y)

    def shortcut(self, x):
        if not self.selective:
            return self.convolution(self.output, 1, self.stride, "shortcut_conv")(x)
        # Beyond an odd last row or column: zeros when striding, else the pixel itself, so that it does not darken.
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), mode="constant" if self.stride > 1 else "edge")
        x = nn.pool(x, 0.0, jax.lax.add, (2, 2), (self.stride, self.stride), "VALID") / 4
        return self.convolution(self.output, 1, 1, "shortcut_conv")(x)


class PreactivationBlock(Block):
    """A residual block that normalises before each convolution, He et al. 2016 (arXiv:1603.05027), figure 1b."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        y = first = nn.relu(self.norm(name="norm1")(x, train))
        for i, (kernel, width, stride) in enumerate(self.plan, start=1):
            if i > 1:
                y = nn.relu(self.norm(name=f"norm{i}")(y, train))
            y = self.convolution(width, kernel, stride, f"conv{i}")(y)
        return self.excited(y) + (self.shortcut(first) if self.project else x)


class ResNet(nn.Module):
    """Images [B, H, W, 3] -> `Encoding`, pooled by the mean over positions of the last stage of residual blocks.

    Source: He et al. 2015 (arXiv:1512.03385); options from the papers named at each.

    Attributes:
        layers: blocks in each stage.
        bottleneck: whether blocks are bottlenecks (ResNet-50 and deeper).
        width: factor on all channel numbers.
        stem: "7x7" (stride 2, then max-pooling; 4 in all), "3x3" (stride 1, for images of CIFAR's size), "3x3/2"
            (stride 2), "deep" (three 3x3 in place of the 7x7, arXiv:1812.01187), "tiered" (the same with 3/8 and 1/2 of
            the channels in its first two convolutions, as in timm).
        norm: batch, group, layer or none.
        groups: channel groups of the norm `group`.
        splits: sub-batches with their own statistics, of the norm `batch`.
        zero_gamma: whether each block starts as the identity (the factor of its last norm at 0, arXiv:1706.02677).
        standardize: epsilon of weight standardisation (1e-8 where papers use it), 0: weights as they are.
        selective: share of channels that choose between kernels in bottlenecks (1/16 in SimCLR v2), 0: plain kernels.
        excitation: width of the squeeze-and-excitation at the end of each block, as a share of the channels inside the
            block (SimCLR v2's se_ratio; arXiv:1709.01507), 0: none.
        preactivation: whether blocks normalise before they convolve (arXiv:1603.05027).
        pool: padding of the stem's max-pooling: "ignored" (torchvision), "same" (TensorFlow) or "zeros" (BiT).
        project: whether the first block of a stage projects its shortcut even if the shapes agree (TensorFlow, BiT).
        stem_width: channels of the stem.
        widths: output channels of the stages; None: 64 to 512, four times that for bottlenecks.
        inner: channels inside the bottlenecks; None: a quarter of the output channels.
        dtype: of the computation; None: that of the images.

    Raises:
        UserError: if the stem or the pool is unknown.
    """

    layers: tuple[int, ...]
    bottleneck: bool = False
    width: Annotated[float, positive] = 1.0
    stem: str = "7x7"
    norm: str = "batch"
    groups: int = 32
    splits: int = 1
    zero_gamma: bool = False
    standardize: float = 0.0
    selective: float = 0.0
    excitation: float = 0.0
    preactivation: bool = False
    pool: str = "ignored"
    project: bool = False
    stem_width: int = 64
    widths: tuple[int, ...] | None = None
    inner: tuple[int, ...] | None = None
    dtype: Any = None

    @property
    def stride(self) -> int:
        """Side in pixels of the square that one position of the last stage stands for."""
        if self.stem not in STEM_STRIDES:
            raise UserError(f"there is no stem {self.stem!r}; {suggest(self.stem, STEM_STRIDES)}")
        return STEM_STRIDES[self.stem] * 2 ** (len(self.layers) - 1)

    def __call__(self, x: jax.Array, train: bool = False, mask=None, keep=None) -> Encoding:
        if mask is not None or keep is not None:
            raise UserError(
                "a ResNet has no patch tokens to mask or to leave out; choose a ViT as network.encoder.name"
            )
        maps = self.maps(x, train)
        pooled = widen(maps[-1]).mean((1, 2))
        layers = tuple(x.reshape(x.shape[0], -1, x.shape[-1]) for x in maps)
        _, rows, columns, _ = maps[-1].shape
        return Encoding(pooled, layers[-1], (rows, columns), layers)

    @nn.compact
    def maps(self, x: jax.Array, train: bool = False) -> list[jax.Array]:
        """Returns the output [B, H / stride, W / stride, C] of the stem and of each stage."""
        operation = jax.lax.conv_general_dilated
        operation = standardized(operation, self.standardize) if self.standardize else operation
        conv = functools.partial(
            nn.Conv,
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=self.dtype,
            conv_general_dilated=operation,
        )
        norm = functools.partial(Norm, self.norm, groups=self.groups, splits=self.splits, dtype=self.dtype)
        block = functools.partial(
            PreactivationBlock if self.preactivation else Block,
            bottleneck=self.bottleneck,
            zero_gamma=self.zero_gamma,
            selective=self.selective,
            excitation=self.excitation,
            conv=conv,
            norm=norm,
        )
        maps = [self.stem_map(x, train, conv, norm)]
        for stage, (depth, inner, output) in enumerate(self.stages, start=1):
            x = maps[-1]
            for i in range(depth):
                stride = 2 if stage > 1 and i == 0 else 1
                project = stride > 1 or x.shape[-1] != output or (self.project and i == 0)
                name = f"stage{stage}_block{i + 1}"
                x = block(inner=inner, output=output, stride=stride, project=project, name=name)(x, train)
            maps.append(x)
        if self.preactivation:
            maps[-1] = nn.relu(norm(name="norm")(maps[-1], train))
        return maps

    @property
    def stages(self):
        """(blocks, inner channels, output channels) of each stage."""
        expansion = 4 if self.bottleneck else 1
        outputs = self.widths or tuple(64 * expansion * 2**i for i in range(len(self.layers)))
        inner = self.inner or tuple(output // expansion for output in outputs)
        return [
            (depth, round(inside * self.width), round(output * self.width))
            for depth, inside, output in zip(self.layers, inner, outputs, strict=True)
        ]

    def stem_map(self, x, train, conv, norm):
        width = round(self.stem_width * self.width)
        half = width // 2
        plans = {
            "7x7": [(7, width, 2)],
            "3x3": [(3, width, 1)],
            "3x3/2": [(3, width, 2)],
            "deep": [(3, half, 2), (3, half, 1), (3, width, 1)],
            "tiered": [(3, 3 * width // 8, 2), (3, half, 1), (3, width, 1)],
        }
        pooled = self.stride == 4 * 2 ** (len(self.layers) - 1)
        for i, (kernel, channels, stride) in enumerate(plans[self.stem], start=1):
            if not channels:
                raise UserError(f"network.encoder.width is {self.width}, too small for a single channel; set it higher")
            x = conv(channels, (kernel, kernel), (stride, stride), padding=kernel // 2, name=f"stem_conv{i}")(x)
            if not (self.preactivation and i == len(plans[self.stem])):  # the first block normalises
                x = nn.relu(norm(name=f"stem_norm{i}")(x, train))
        return max_pool(x, self.pool) if pooled else x


def max_pool(x, padding):
    one = ((1, 1), (1, 1))
    match padding:
        case "ignored":
            return nn.max_pool(x, (3, 3), (2, 2), one)
        case "same":
            return nn.max_pool(x, (3, 3), (2, 2), "SAME")
        case "zeros":
            return nn.max_pool(jnp.pad(x, ((0, 0), *one, (0, 0))), (3, 3), (2, 2))
    raise UserError(f"there is no pool {padding!r}; {suggest(padding, ('ignored', 'same', 'zeros'))}")
