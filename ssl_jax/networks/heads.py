"""Projection and prediction heads."""

import functools
from collections.abc import Callable
from typing import Annotated, Any

import flax.linen as nn
import jax

from ssl_jax.fields import one_of, positive
from ssl_jax.networks.norm import Norm, standardized
from ssl_jax.numeric import l2_normalize

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "gelu": functools.partial(nn.gelu, approximate=False),
}


class MLP(nn.Module):
    """x [..., D] -> [..., output]: linear layers, each but the last followed by a norm and an activation function.

    Attributes:
        output: channels that come out; None: as many as come in.
        hidden: channels of the hidden layers; None: as many as come in.
        layers: linear layers in all; 1: a linear map.
        norm: batch, group, layer or none, after each hidden layer.
        activation: relu or gelu, after each hidden layer.
        hidden_bias: whether hidden layers add a bias.
        output_bias: whether the last layer adds a bias.
        last_norm: batch, group, layer or none, after the last layer; it shifts nothing.
        last_scale: whether the last norm has a trained factor.
        normalize: whether rows are scaled to unit length at the end.
        groups: channel groups of the norm `group`.
        splits: sub-batches with their own statistics, of the norm `batch`.
        standardize: epsilon of weight standardisation, 0: weights as they are.
        std: standard deviation of the truncated normal that weights start from; None: that of LeCun, by the channels
            that come in.
        dtype: of the computation; None: that of x.
    """

    output: Annotated[int, positive] | None = None
    hidden: Annotated[int, positive] | None = None
    layers: Annotated[int, positive] = 2
    norm: str = "batch"
    activation: Annotated[str, one_of(ACTIVATIONS)] = "relu"
    hidden_bias: bool = False
    output_bias: bool = False
    last_norm: str = "none"
    last_scale: bool = False
    normalize: bool = False
    groups: int = 16
    splits: int = 1
    standardize: float = 0.0
    std: Annotated[float, positive] | None = None
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, stop: int | None = None) -> jax.Array:
        """Returns what comes out, or with `stop` what the hidden layer of that number, from 1, passes on."""
        product = standardized(jax.lax.dot_general, self.standardize) if self.standardize else jax.lax.dot_general
        init = nn.initializers.truncated_normal(self.std) if self.std else nn.initializers.lecun_normal()
        dense = functools.partial(nn.Dense, dtype=self.dtype, dot_general=product, kernel_init=init)
        norm = functools.partial(Norm, groups=self.groups, splits=self.splits, dtype=self.dtype)
        width = x.shape[-1]
        for i in range(1, self.layers):
            x = dense(self.hidden or width, use_bias=self.hidden_bias, name=f"linear{i}")(x)
            x = ACTIVATIONS[self.activation](norm(self.norm, name=f"norm{i}")(x, train))
            if i == stop:
                return x
        x = dense(self.output or width, use_bias=self.output_bias, name=f"linear{self.layers}")(x)
        x = norm(self.last_norm, scale=self.last_scale, bias=False, name=f"norm{self.layers}")(x, train)
        return l2_normalize(x) if self.normalize else x


class Prototypes(nn.Module):
    """x [..., D] -> scores [..., K]: the product of x, at unit length, and each prototype, a column of `kernel` [D, K].

    Attributes:
        prototypes: their number K.
        weight_norm: "none": prototypes are used as they are; a method may keep them at unit length from outside (SwAV,
            Caron et al. 2020, arXiv:2006.09882, section 3.1). "unit": only their direction is used, so that scores are
            cosines. "trained": their direction times a trained length, from 1 on (Salimans and Kingma 2016,
            arXiv:1602.07868). DINO (Caron et al. 2021, arXiv:2104.14294) has the last two.
        dtype: of the computation; None: that of x.
    """

    prototypes: Annotated[int, positive]
    weight_norm: Annotated[str, one_of(("none", "unit", "trained"))] = "none"
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.prototypes))
        if self.weight_norm != "none":
            kernel = l2_normalize(kernel, axis=0)
        if self.weight_norm == "trained":
            kernel = kernel * self.param("length", nn.initializers.ones, (self.prototypes,))[None]
        x, kernel = nn.dtypes.promote_dtype(l2_normalize(x), kernel, dtype=self.dtype)
        return x @ kernel
