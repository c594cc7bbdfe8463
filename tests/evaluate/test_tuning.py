"""Fine-tuning and distillation train the network that they say, on the images that they say."""

import jax
import numpy as np
import pytest
import toy
from test_methods import BARE, ROOT, overrides

from ssl_jax import parallel
from ssl_jax.config import load
from ssl_jax.errors import UserError
from ssl_jax.evaluate import opening, tuning
from ssl_jax.evaluate.distil import Distil, Distilled
from ssl_jax.evaluate.finetune import Classifier, Finetune, part
from ssl_jax.method import encode


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """The network of a small run on one device."""
    workdir = tmp_path_factory.mktemp("simclr")
    toy.save_run(workdir, load(str(ROOT / "configs" / "simclr.py"), overrides("simclr", **BARE)))
    mesh = parallel.make_mesh(jax.devices()[:1])
    return opening.judge_run(str(workdir), None, mesh).subjects[0]


class Labels:
    """A source of which only the labels matter."""

    name, classes, fields = "labels", tuple("abc"), {}

    def __init__(self, labels):
        self.labels = np.array(labels)

    def __len__(self):
        return len(self.labels)


def test_a_part_has_as_many_of_each_class_and_grows_with_its_share():
    source = Labels([0, 1, 2] * 20 + [-1] * 5)
    for fraction, count in ((0.01, 1), (0.1, 2), (0.5, 10)):
        assert np.bincount(part(source, fraction, seed=0).labels).tolist() == [count] * 3
    assert len(part(source, 1.0, seed=0)) == 60
    assert part(source, 0.1, 1).index.tolist() != part(source, 0.1, 2).index.tolist()


def test_training_starts_from_the_network_below_a_new_classifier(subject):
    """A rate of 0 leaves it as it is."""
    recipe = tuning.Recipe({"name": "sgd", "learning_rate": 0.0}, 1, 8, layers=1)
    network = tuning.classifier(subject.run.method.network, 10, layers=1)
    source = part(subject.samples.bank.images, 0.3, 0)
    tuned = tuning.train(subject, source, Classifier(network, 10), recipe, seed=0)
    ours, theirs = (one.weights.params["network"] for one in (tuned, subject))
    jax.tree.map(np.testing.assert_array_equal, ours["encoder"], theirs["encoder"])
    for name in ("linear1", "norm1"):
        jax.tree.map(np.testing.assert_array_equal, ours["projector"][name], theirs["projector"][name])
    assert ours["projector"]["linear2"]["kernel"].shape[1] == 10


def test_a_student_learns_what_its_teacher_was_taught(subject):
    """They know the test images, since they were given them."""
    same = subject.replace(samples=subject.samples._replace(bank=subject.samples.test))
    settings = {"epochs": 12, "batch_size": 8, "rate": 0.3, "layer_decay": 1.0}
    tuned = Finetune(shares=(1.0,), **settings)(same).numbers
    assert [(row["part"], row["labels"]) for row in tuned["rows"]] == [("100 %", 64)]
    assert tuned["top1"] == tuned["rows"][-1]["top1"] > 30
    found = Distil(share=1.0, **settings)(same).numbers
    assert found["teacher_top1"] == tuned["top1"]
    assert found["top1"] > 30


@pytest.mark.parametrize("pseudo", [False, True])
def test_the_loss_of_a_student_is_that_of_the_paper(pseudo):
    """Equation 2 of SimCLR v2 in numpy, with the teacher in evaluation mode."""
    network, batch = tuning.classifier(toy.network(), 5, layers=0), toy.batch()
    method = Distilled(network, temperature=2.0, pseudo=pseudo)
    params, state = method.init(jax.random.key(0), batch)
    teacher = jax.tree.map(lambda x: x + 0.1, method.variables(*method.init(jax.random.key(2), batch)))
    result = toy.loss(method, params, state._replace(teacher=teacher), batch)

    answers = np.asarray(encode(network, teacher, batch["views"][0][:, 0], -1), np.float64) / 2
    target = np.exp(answers) / np.exp(answers).sum(1, keepdims=True)
    target = np.eye(5)[answers.argmax(1)] if pseudo else target
    scores = np.asarray(toy.outputs(method, params, state, batch).projection[:, 0], np.float64) / 2
    expected = 4 * np.mean(np.log(np.exp(scores).sum(1)) - (target * scores).sum(1))
    np.testing.assert_allclose(result.loss, expected, rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, result.state.teacher, teacher)


def test_rates_fall_from_the_classifier_to_the_first_layer():
    blocks = {f"block{i}": {"kernel": 0} for i in (1, 2, 10)}
    params = {"network": {"encoder": {"patch": {"kernel": 0}, "norm": {"scale": 0}} | blocks, "projector": {"b": 0}}}
    rules = dict(tuning.layer_rules(params, 0.5))
    rates = [rule["learning_rate"] for rule in rules.values()]
    assert list(rules) == ["encoder/", "encoder/block1/", "encoder/block2/", "encoder/block10/", "encoder/norm/"]
    assert rates == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1 / 2]


def test_more_layers_than_a_projector_has_are_refused(subject):
    with pytest.raises(UserError, match="3 layers of the projector are to be kept, but it has 1 hidden ones"):
        Finetune(layers=3).check(subject)
