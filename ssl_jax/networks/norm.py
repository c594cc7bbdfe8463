"""Normalisation of activations (batch, group, layer) and of weights (weight standardisation)."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ssl_jax.errors import UserError, suggest
from ssl_jax.numeric import widen

KINDS = ("batch", "group", "layer", "none")


class Norm(nn.Module):
    """Normalises x [B, ..., C] and then scales and shifts each channel.

    `batch` takes its statistics over all axes but the channel; under `jit` on a sharded batch that is the global batch.
    With `splits` the rows are cut into that many consecutive sub-batches with statistics of their own, as devices have
    them in papers that rely on it. `group` takes them over the positions and a group of channels of one image, `layer`
    over the channels of one position, and `none` returns x. Statistics are computed in float32 or wider.

    Sources: Ioffe and Szegedy 2015 (arXiv:1502.03167), Ba et al. 2016 (arXiv:1607.06450), Wu and He 2018
    (arXiv:1803.08494).

    Attributes:
        kind: batch, group, layer or none.
        scale: whether channels have a trained factor (gamma).
        bias: whether channels have a trained offset (beta).
        zero: whether the factor starts at 0 instead of 1.
        eps: added to the variance.
        momentum: share of the old running statistics (of the biased variance) that a training step keeps.
        groups: number of channel groups, a divisor of C.
        splits: number of sub-batches, a divisor of B.
        dtype: of the result; None: that of x.

    Raises:
        UserError: if the kind is unknown, or groups or splits do not divide what they cut.
    """

    kind: str = "batch"
    scale: bool = True
    bias: bool = True
    zero: bool = False
    eps: float = 1e-5
    momentum: float = 0.9
    groups: int = 32
    splits: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        if self.kind == "none":
            return x
        dtype = self.dtype or x.dtype
        channels = x.shape[-1]
        x = widen(x)
        mean, variance, parts = self.moments(x, train)
        y = ((x.reshape(parts) - mean) * jax.lax.rsqrt(variance + self.eps)).reshape(x.shape)
        wide = (1,) * (x.ndim - 1) + (channels,)
        if self.scale:
            first = nn.initializers.zeros if self.zero else nn.initializers.ones
            y = y * self.param("scale", first, (channels,)).reshape(wide).astype(x.dtype)
        if self.bias:
            y = y + self.param("bias", nn.initializers.zeros, (channels,)).reshape(wide).astype(x.dtype)
        return y.astype(dtype)

    def moments(self, x, train):
        """Returns mean and variance, and the shape of x in which they broadcast."""
        match self.kind:
            case "batch":
                return self.batch_moments(x, train)
            case "group":
                parts = (*x.shape[:-1], *divide(x.shape[-1], self.groups, "channels", "groups"))
                axes = (*range(1, x.ndim - 1), x.ndim)
            case "layer":
                parts, axes = x.shape, (x.ndim - 1,)
            case _:
                raise UserError(f"there is no norm {self.kind!r}; {suggest(self.kind, KINDS)}")
        x = x.reshape(parts)
        return x.mean(axes, keepdims=True), x.var(axes, keepdims=True), parts

    def batch_moments(self, x, train):
        channels = x.shape[-1]
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        running_variance = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        wide = (1,) * x.ndim + (channels,)
        if not train:
            moments = running_mean.value, running_variance.value
            return *(value.reshape(wide).astype(x.dtype) for value in moments), (1, *x.shape)
        # One pass over the data: taken from near the mean, the two moments do not cancel.
        near = running_mean.value.reshape(wide).astype(x.dtype)
        parts = (*divide(x.shape[0], self.splits, "rows", "splits"), *x.shape[1:])
        distance = x.reshape(parts) - near
        axes = tuple(range(1, x.ndim))
        offset = distance.mean(axes, keepdims=True)
        variance = jnp.maximum(jnp.square(distance).mean(axes, keepdims=True) - jnp.square(offset), 0)
        mean = near + offset
        if not self.is_initializing():
            for running, moment in ((running_mean, mean), (running_variance, variance)):
                moment = moment.mean(0).reshape(channels).astype(running.value.dtype)
                running.value = self.momentum * running.value + (1 - self.momentum) * moment
        return mean, variance, parts


def divide(size: int, parts: int, what: str, field: str) -> tuple[int, int]:
    if size % parts:
        raise UserError(f"{size} {what} cannot be cut into {parts} equal parts: set the norm's {field} to a divisor")
    return parts, size // parts


def standardized(operation: Callable, eps: float) -> Callable:
    """Returns the convolution or matrix product `operation(x, kernel, ...)` with its kernel standardised first.

    Each output channel's weights get mean 0 and variance 1 (eps is added to the variance), so that no batch statistics
    are needed to keep activations in range. Source: Qiao et al. 2019 (arXiv:1903.10520), equations 7 to 9.
    """

    def standardize(kernel):
        wide = widen(kernel)
        axes = tuple(range(kernel.ndim - 1))
        mean, variance = wide.mean(axes, keepdims=True), wide.var(axes, keepdims=True)
        return ((wide - mean) * jax.lax.rsqrt(variance + eps)).astype(kernel.dtype)

    return lambda x, kernel, *args, **options: operation(x, standardize(kernel), *args, **options)
