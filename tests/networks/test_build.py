"""Networks from configs, and errors for wrong ones."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from ssl_jax.errors import UserError
from ssl_jax.networks import build

CONFIG = {
    "encoder": {"name": "resnet10", "stem": "3x3", "width": 0.125, "zero_gamma": True},
    "projector": {"output": 8, "hidden": 16, "normalize": True},
    "predictor": {"name": "prototypes", "prototypes": 12},
    "passes": "resolution",
    "dtype": "bfloat16",
}


@pytest.mark.parametrize("kind", [dict, ConfigDict])
def test_a_config_becomes_a_network(kind):
    network = build(kind(CONFIG))
    views = (jnp.zeros((2, 2, 8, 8, 3)),)
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), views, train=True))
    assert set(variables["params"]) == {"encoder", "projector", "predictor"}
    assert variables["params"]["predictor"]["kernel"].shape == (8, 12)
    assert network.encoder.zero_gamma
    assert network.encoder.dtype == network.projector.dtype == network.predictor.dtype == "bfloat16"


def test_heads_may_be_missing():
    network = build({"encoder": {"name": "vit_tiny", "patch": 4, "size": 32, "depth": 1}, "projector": None})
    assert network.projector is None
    assert network.predictor is None
    assert network.encoder.dim == 192


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encodr": {}}, "network has no field 'encodr'; did you mean 'encoder'"),
        ({"encoder": {"name": "resnet17"}}, "no encoder 'resnet17'; did you mean 'resnet1"),
        ({"encoder": {}}, "no encoder ''; valid: resnet10"),
        ({"encoder": {"name": "resnet18", "stm": "3x3"}}, "network.encoder has no field 'stm'; did you mean 'stem'"),
        ({"encoder": {"name": "vit_tiny", "width": 2.0}}, "vit_tiny has no width, which others have"),
        ({"predictor": {"name": "prototypes"}}, "network.predictor needs a value for prototypes"),
        ({"predictor": {"name": "prototype"}}, "there is no head 'prototype'; did you mean 'prototypes'"),
        (
            {"predictor": {"name": "prototypes", "prototypes": 3, "hidden": 4}},
            "prototypes has no hidden, which",
        ),
        (
            {"projector": {"prototypes": 3}},
            "unset: --config.network.projector.prototypes=",
        ),
        ({"projector": {"hiden": 16}}, "network.projector has no field 'hiden'; did you mean 'hidden'"),
        ({"dtype": "float16"}, "did you mean 'bfloat16'"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(UserError, match=message):
        build(CONFIG | change)
