"""What the methods that learn from labels promise beyond the contract; their losses have tests of their own."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy

from ssl_jax.augment import Views
from ssl_jax.methods import METHODS

CLASSES = 3
LABEL = jnp.arange(toy.BATCH) % CLASSES
NAMES = ("supcon", "supervised_info_nce", "triplet", "multi_similarity", "circle", "proxy_nca", "proxy_anchor")
EACH = pytest.mark.parametrize("name", NAMES)


STATS = METHODS["supcon"].State({})  # the state of all: the toy network has no BatchNorm


def start(name):
    needs = {"classes": CLASSES} if "classes" in METHODS[name].__dataclass_fields__ else {}
    method, batch = METHODS[name](toy.network(), **needs), toy.batch(1) | {"label": LABEL}
    params, state = method.init(jax.random.key(0), batch)
    assert state == STATS
    return method, params, batch


def loss(method, params, batch):
    return toy.loss(method, params, STATS, batch).loss


@EACH
def test_a_view_counts_as_an_image_of_its_class(name):
    method, params, batch = start(name)
    (views,) = batch["views"]
    alone = {"views": Views([views.reshape(-1, 1, *views.shape[2:])]), "label": jnp.repeat(LABEL, toy.VIEWS)}
    np.testing.assert_allclose(loss(method, params, batch), loss(method, params, alone), rtol=1e-5)


@EACH
def test_names_of_classes_do_not_matter_but_who_is_in_them_does(name):
    method, params, batch = start(name)
    new = jnp.array([2, 0, 1])
    renamed = dict(params)
    if "proxies" in params:
        renamed["proxies"] = params["proxies"][jnp.argsort(new)]
    before = loss(method, params, batch)
    np.testing.assert_allclose(loss(method, renamed, batch | {"label": new[LABEL]}), before, rtol=1e-5)
    assert abs(loss(method, params, batch | {"label": jnp.roll(LABEL, 1).at[0].set(1)}) - before) > 1e-4


@EACH
def test_only_the_direction_of_a_projection_counts(name):
    method, params, batch = start(name)
    network = params["network"]
    longer = params | {"network": network | {"projector": jax.tree.map(lambda x: 3 * x, network["projector"])}}
    np.testing.assert_allclose(loss(method, longer, batch), loss(method, params, batch), rtol=1e-4)


@EACH
def test_every_number_of_a_config_reaches_the_loss(name):
    method, params, batch = start(name)
    before = loss(method, params, batch)
    numbers = [field for field, kind in typing.get_type_hints(type(method)).items() if kind is float]
    assert numbers
    for field in numbers:
        changed = dataclasses.replace(method, **{field: 1.3 * getattr(method, field)})
        assert abs(loss(changed, params, batch) - before) > 1e-4, field
