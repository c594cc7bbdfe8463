"""Projection and prediction heads."""

import functools
from typing import Annotated, Any

import flax.linen as nn
import jax

from ssl_jax.fields import positive
from ssl_jax.networks.norm import Norm, standardized
from ssl_jax.numeric import l2_normalize


class MLP(nn.Module):
    """x [..., D] -> [..., output]: linear layers, each but the last followed by a norm and a ReLU.

    Attributes:
        output: channels that come out; None: as many as come in.
        hidden: channels of the hidden layers; None: as many as come in.
        layers: linear layers in all; 1: a linear map.
        norm: batch, group, layer or none, after each hidden layer.
        hidden_bias: whether hidden layers add a bias.
        output_bias: whether the last layer adds a bias.
        last_norm: batch, group, layer or none, after the last layer; it shifts nothing.
        last_scale: whether the last norm has a trained factor.
        normalize: whether rows are scaled to unit length at the end.
        groups: channel groups of the norm `group`.
        splits: sub-batches with their own statistics, of the norm `batch`.
        standardize: epsilon of weight standardisation, 0: weights as they are.
        dtype: of the computation; None: that of x.
    """

    output: Annotated[int, positive] | None = None
    hidden: Annotated[int, positive] | None = None
    layers: Annotated[int, positive] = 2
    norm: str = "batch"
    hidden_bias: bool = False
    output_bias: bool = False
    last_norm: str = "none"
    last_scale: bool = False
    normalize: bool = False
    groups: int = 16
    splits: int = 1
    standardize: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, stop: int | None = None) -> jax.Array:
        """Returns what comes out, or with `stop` what the hidden layer of that number, from 1, passes on."""
        product = standardized(jax.lax.dot_general, self.standardize) if self.standardize else jax.lax.dot_general
        dense = functools.partial(nn.Dense, dtype=self.dtype, dot_general=product)
        norm = functools.partial(Norm, groups=self.groups, splits=self.splits, dtype=self.dtype)
        width = x.shape[-1]
        for i in range(1, self.layers):
            x = dense(self.hidden or width, use_bias=self.hidden_bias, name=f"linear{i}")(x)
            x = nn.relu(norm(self.norm, name=f"norm{i}")(x, train))
            if i == stop:
                return x
        x = dense(self.output or width, use_bias=self.output_bias, name=f"linear{self.layers}")(x)
        x = norm(self.last_norm, scale=self.last_scale, bias=False, name=f"norm{self.layers}")(x, train)
        return l2_normalize(x) if self.normalize else x


class Prototypes(nn.Module):
    """x [..., D] -> scores [..., K]: the cosine between x and each prototype, a column of `kernel` [D, K].

    Prototypes are kept at unit length from outside (Caron et al. 2020, arXiv:2006.09882, section 3.1).

    Attributes:
        prototypes: their number K.
        dtype: of the computation; None: that of x.
    """

    prototypes: Annotated[int, positive]
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.prototypes))
        x, kernel = nn.dtypes.promote_dtype(l2_normalize(x), kernel, dtype=self.dtype)
        return x @ kernel
