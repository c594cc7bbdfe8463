"""Opens what is evaluated, and checks that a protocol can be."""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

import ssl_jax
from ssl_jax import data, parallel, workdir
from ssl_jax.build import build
from ssl_jax.config import override
from ssl_jax.errors import UserError
from ssl_jax.evaluate.protocols import Protocol
from ssl_jax.evaluate.subject import RawPixels, Samples, Subject, Weights, draw_samples, open_samples
from ssl_jax.run import Run
from ssl_jax.schema import complete
from ssl_jax.workdir import FIXED

ADVICE = "name the workdir of a trained run, as in --workdir=runs/byol"


class Judged(NamedTuple):
    """What is evaluated."""

    folder: pathlib.Path  # for the results
    subjects: tuple[Subject, ...]  # the trained network, and baselines
    about: dict[str, int | str]  # more to record


def judge_run(
    folder: str, source: str | None, mesh: jax.sharding.Mesh, overrides: Iterable[tuple[str, str]] = ()
) -> Judged:
    """Opens a run, and the images that it is evaluated on.

    Args:
        folder: its workdir.
        source: the images; None: those of its evaluation during training.
        mesh: the devices.
        overrides: keys of the group `evaluate` of its config, and their values as text.

    Raises:
        UserError: if there is no run, no such source or no such key.
    """
    opened = workdir.open_run(folder, ADVICE)
    run = build(changed(complete(opened.config), overrides), devices=1)  # nothing of training is split here
    samples = open_samples(run, mesh, source) if source else own_samples(run, mesh)
    trained = Subject(run, mesh, Weights(*parallel.replicate(mesh, opened.trained(run))), samples)
    first = trained.replace(weights=initial(run, mesh), title="random initialisation")
    return Judged(opened.checkpoints.parent, (trained, first, RawPixels(trained)), {"step": opened.step})


def changed(config: ConfigDict, overrides: Iterable[tuple[str, str]]) -> ConfigDict:
    """Returns a config with other settings of evaluation."""
    for key, text in overrides:
        if not key.startswith("evaluate.") or key in FIXED:
            raise UserError(
                f"--config.{key} is not for an evaluation; set keys such as evaluate.bank or evaluate.feature"
            )
        override(config, key, text)
    return config


def judge_weights(
    file: str, source: str | None, mesh: jax.sharding.Mesh, overrides: Iterable[tuple[str, str]] = ()
) -> Judged:
    """Opens published weights, for the images of a source.

    Raises:
        UserError: if they cannot be read, or no source is named.
    """
    if not source:
        raise UserError("--weights has no images of its own; name labelled ones with --data")
    model = ssl_jax.import_weights(file)
    config = complete({"method": {"name": "supervised"}})
    config.data.size, config.data.canvas = model.size, model.canvas
    config.evaluate.crop, config.evaluate.feature = model.crop, model.feature
    reading = data.Reading(model.canvas, model.canvas)
    bank = data.open_source(source, "train", reading=reading)
    assert bank is not None  # every source has a training split
    changed(config, overrides)
    run = Run(config, bank, None, (model.recipe,), model.method, 0, 0, model.canvas)
    weights = Weights(*parallel.replicate(mesh, tuple(model.weights)))
    trained = Subject(run, mesh, weights, open_samples(run, mesh, source))
    path = pathlib.Path(file).expanduser()
    return Judged(path.with_name(f"{path.stem}_evaluated"), (trained, RawPixels(trained)), {"weights": file})


def own_samples(run: Run, mesh: jax.sharding.Mesh) -> Samples:
    """Returns the images that the run is evaluated on while it trains; without labels, all of its images."""
    return draw_samples(run, mesh, run.bank, run.test if run.classes else None)


def initial(run: Run, mesh: jax.sharding.Mesh) -> Weights:
    """Returns the random weights that the run's seed gives."""

    def init(key):
        batch = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), run.example_batch)
        return Weights(*run.method.init(key, batch))

    return jax.jit(init, out_shardings=parallel.replicated(mesh))(jax.random.key(run.config.seed))


def check(name: str, protocol: Protocol, subject: Subject) -> None:
    """Checks that a protocol has what it needs.

    Raises:
        UserError: if it has not.
    """
    bank, test = subject.samples
    source = bank.images.name
    if "labels" in protocol.needs and not subject.classes:
        why = bank.images.survey.reason
        raise UserError(
            f"the protocol {name} needs labels, but {source} has none{why}; name labelled images with --data"
        )
    if "test" in protocol.needs and test is None:
        raise UserError(
            f"the protocol {name} needs a test split, but {source} has none; name other images with --data, or take "
            "knn, which then leaves out one image at a time"
        )
    protocol.check(subject)
