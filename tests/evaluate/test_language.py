"""Zero-shot classification and retrieval against brute force in numpy, and on however many devices."""

import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_methods import ROOT, overrides

from ssl_jax import data, parallel
from ssl_jax.build import build
from ssl_jax.config import load
from ssl_jax.evaluate import language
from ssl_jax.evaluate.features import Features
from ssl_jax.evaluate.online import Evaluator
from ssl_jax.trainer import Trainer

TABLE = np.random.default_rng(0).normal(size=(49408, 6))


def embed(tokens):
    """The sum of a direction for each token."""
    return TABLE[tokens].sum(1).astype(np.float32)


def images(count=40, padding=3, seed=1, classes=4):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count + padding, 6)).astype(np.float32)
    label = rng.integers(-1, classes, count + padding).astype(np.int32)
    position = np.r_[np.arange(count), -np.ones(padding, int)].astype(np.int32)
    return Features(*map(jnp.asarray, (x, label, position)))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_zero_shot_takes_the_class_whose_prompts_are_nearest():
    names, prompts = ("cat", "dog", "ship", "tree"), ("a {}", "many {} here")
    classes = language.class_embeddings(embed, names, prompts, 8)
    expected = []
    for name in names:
        texts = [unit(embed(data.tokenize([prompt.format(name)], 8))[0]) for prompt in prompts]
        expected.append(unit(np.mean(texts, axis=0)))
    np.testing.assert_allclose(classes, expected, rtol=1e-5)

    given = images()
    found = language.zero_shot(given, classes)
    right = known = 0
    for x, label, position in zip(*map(np.asarray, given), strict=True):
        if label >= 0 and position >= 0:
            known += 1
            right += int(np.argmax([unit(x) @ one for one in expected]) == label)
    assert found == {"top1": pytest.approx(100 * right / known), "chance": 25.0, "images": known, "classes": 4}


def test_retrieval_is_brute_force_s_and_a_caption_belongs_to_all_that_have_it():
    given, rng = images(), np.random.default_rng(3)
    captions = rng.integers(1, 9, (len(given.x), 2, 1)).repeat(3, axis=2)  # many images share one
    captions[::5, 1] = 0  # some have one only
    captions[1] = captions[1, 0]  # one has the same twice
    found = language.retrieval(given, captions, embed, None)

    real = [i for i in range(len(given.x)) if given.position[i] >= 0]
    own = {i: {tuple(c) for c in captions[i].tolist() if c[0]} for i in real}
    texts = sorted(set().union(*own.values()))
    scores = unit(np.asarray(given.x)[real]) @ unit(embed(np.array(texts))).T
    for k in language.RANKS:
        nearest = np.argsort(-scores, axis=1)[:, :k]
        hits = [any(texts[t] in own[i] for t in row) for i, row in zip(real, nearest, strict=True)]
        assert found[f"image_to_text_recall{k}"] == pytest.approx(100 * np.mean(hits))
        nearest = np.argsort(-scores.T, axis=1)[:, :k]
        hits = [any(text in own[real[i]] for i in row) for text, row in zip(texts, nearest, strict=True)]
        assert found[f"text_to_image_recall{k}"] == pytest.approx(100 * np.mean(hits))
    assert (found["images"], found["captions"]) == (40, len(texts))
    expected = np.mean([len(own[i]) / len(texts) for i in real])
    assert found["image_to_text_chance1"] == pytest.approx(100 * expected)


def test_chance_counts_every_draw():
    for relevant, k in itertools.product(range(5), (1, 2, 3)):
        draws = list(itertools.combinations(range(4), k))
        expected = np.mean([any(i < relevant for i in draw) for draw in draws])
        assert language.chance(np.array([relevant]), 4, k) == pytest.approx(expected)
    assert language.chance(np.array([1]), 3, 10) == 1.0


@functools.cache
def run():
    return build(load(str(ROOT / "configs" / "clip.py"), overrides("clip")))


def evaluated(devices):
    trainer = Trainer(run(), parallel.make_mesh(jax.devices()[:devices]))
    return Evaluator(run(), trainer.mesh).matching(trainer.init())


def test_a_run_is_evaluated_alike_on_one_device_and_on_eight():
    found, expected = evaluated(8), evaluated(1)
    json.dumps(found)
    assert found["zero_shot"]["chance"] == 10.0 and found["zero_shot"]["images"] == 64
    assert set(found["image_text_retrieval"]) == {"other_sentence", "other_words", "other_names"}
    logged = language.scalars(found)
    assert {"zero_shot_top1", "zero_shot_chance", "other_words_text_to_image_recall5"} <= set(logged)
    assert logged == pytest.approx(language.scalars(expected), abs=4.0)  # rounding may move an image or two of 64
