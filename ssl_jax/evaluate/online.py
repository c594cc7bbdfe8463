"""Evaluates features during training, beside the baselines of raw pixels and of the initial weights."""

import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import parallel
from ssl_jax.evaluate import language
from ssl_jax.evaluate.features import Features, Sample, adapted_encoder, encoder, extract, layers, leading, pixels
from ssl_jax.evaluate.knn import KNN, Votes, top1
from ssl_jax.evaluate.linear import raw_baseline
from ssl_jax.evaluate.logistic import Logistic
from ssl_jax.evaluate.probe import predict
from ssl_jax.evaluate.result import Protocol
from ssl_jax.evaluate.sizes import AtSize, across_sizes
from ssl_jax.evaluate.spectrum import rankme
from ssl_jax.method import Method
from ssl_jax.report import pictures
from ssl_jax.run import Run

RAW_SIZE = 32  # pixels, largest side of the images of the raw-pixel baseline
SHOWN, NEIGHBOURS = 8, 7  # rows and neighbours of the picture

RANKED = 8192  # rows of the bank, enough to estimate the effective rank

Pairs = dict[str, tuple[Features, Features | None]]  # name -> features of the bank and, with labels, of the test sample


class Extracted(NamedTuple):
    """Features of a training state, as the subject of a protocol."""

    pair: tuple[Features, Features]
    classes: tuple[str, ...]
    mesh: jax.sharding.Mesh
    chosen: str = "backbone"

    def features(self, layer: str | None = None) -> tuple[Features, Features]:
        return self.pair

    def compact(self, x: jax.Array) -> jax.Array:
        return x


class Evaluator:
    """Evaluates the features of a run.

    The bank is a fixed sample of the training images, the test sample one of the test images. k-NN and the linear
    classifier see the features that `evaluate.feature` chooses, the online probe and the rank those of the backbone.
    """

    def __init__(self, run: Run, mesh: jax.sharding.Mesh):
        self.run, self.mesh = run, mesh
        settings = run.config.evaluate
        self.chosen, self.layers = layers(run.method, settings.get("feature"))
        if not run.classes:
            self.layers = {"backbone": 0}
        self.bank = Sample(run, mesh, run.bank, settings.bank)
        self.test = Sample(run, mesh, run.test, settings.test) if run.classes else None
        self.votes = Votes(len(run.classes), settings.neighbours, settings.temperature)
        self.knn = KNN(k=(self.votes.k,), temperature=(self.votes.temperature,))
        self.linear = Logistic(shots=())
        self.encode = encoder(run, mesh, self.layers)

    def extract(self, state: Any) -> Pairs:
        """Returns all features to evaluate of a training state, in one pass over each sample."""
        return self.encode_samples(self.encode, state)

    def encode_samples(self, encode, state) -> Pairs:
        bank = extract(encode, state, self.bank)
        test = extract(encode, state, self.test) if self.test else dict.fromkeys(bank)
        return {name: (bank[name], test[name]) for name in bank}

    def top1(self, protocol: Protocol, pair: tuple[Features, Features]) -> float:
        return protocol(Extracted(pair, self.run.classes, self.mesh)).numbers["top1"]

    def effective_rank(self, bank: Features) -> float:
        """Returns RankMe of the first rows of the bank."""
        return float(rankme(leading(self.mesh, bank.x, min(RANKED, len(self.bank)))))

    def measure(self, features: Pairs, probe: Any) -> dict[str, float]:
        """Returns the metrics that are logged during training.

        Args:
            features: the features of a state, from `extract`.
            probe: the online probe of the same state.

        Returns:
            The effective rank; with labels, also top-1 in percent of the online probe and of k-NN: `knn_top1` for the
            chosen features, `backbone_knn_top1` or `projection_knn_top1` for those that are not chosen.
        """
        bank, test = features["backbone"]
        measured = {"rank": self.effective_rank(bank)}
        if not self.test:
            return measured
        for name, pair in features.items():
            prefix = "" if name == self.chosen else f"{name}_"
            measured[f"{prefix}knn_top1"] = self.top1(self.knn, pair)
        if probe is not None:
            guesses = jax.jit(predict)(probe, test.x)
            measured["probe_top1"] = top1(*parallel.gather((guesses, test.label)))
        return measured

    def baselines(self, state: Any) -> dict[str, float]:
        """Returns top-1 in percent of raw pixels and of the features of step 0; empty without labels."""
        if not self.test:
            return {}
        raw = self.encode_samples(pixels(self.run, self.mesh, RAW_SIZE), state)["pixels"]
        raw_knn, raw_linear = raw_baseline(*raw, self.votes.classes, self.mesh)
        measured = {"raw_knn_top1": raw_knn, "raw_linear_top1": raw_linear}
        init = self.extract(state)[self.chosen]
        return measured | {
            "init_knn_top1": self.top1(self.knn, init),
            "init_linear_top1": self.top1(self.linear, init),
        }

    def conclude(self, features: Pairs, picture: pathlib.Path) -> dict[str, float]:
        """Returns the top-1 in percent of the linear classifier, and draws the neighbours of some test images."""
        if not self.test:
            return {}
        self.draw(*features[self.chosen], picture)
        return {"linear_top1": self.top1(self.linear, features[self.chosen])}

    def across_sizes(self, features: Pairs, state: Any) -> list[dict[str, float]]:
        """Returns how the chosen features compare at each of `evaluate.sizes`, see `sizes.across_sizes`."""
        if not self.test:
            return []
        layer = {self.chosen: self.layers[self.chosen]}
        method = self.run.method
        # Some methods encode something else than images, and some networks have no running statistics.
        adapts = type(method).represent is Method.represent and bool(
            jax.tree.leaves(method.variables(state.params, state.state).stats)
        )

        def at(size):
            own = self.encode_samples(encoder(self.run, self.mesh, layer, size), state)
            adapted = own
            if adapts:
                adapted = self.encode_samples(adapted_encoder(self.run, self.bank, state, layer, size), state)
            return AtSize(size, own[self.chosen], adapted[self.chosen])

        others = map(at, self.run.config.evaluate.sizes)
        return across_sizes(features[self.chosen], others, self.votes, self.mesh)

    def matching(self, state: Any) -> dict[str, dict[str, Any]]:
        """Returns by protocol how well images and texts are matched, see `language.evaluate`; empty without texts."""
        if not self.run.method.needs_text or self.run.test is None:
            return {}
        sample = self.test or Sample(self.run, self.mesh, self.run.test, self.run.config.evaluate.test)
        return language.evaluate(self.run, self.mesh, state, sample)

    def draw(self, bank: Features, test: Features, path: pathlib.Path) -> None:
        """Draws some test images and their neighbours; all devices search, the first process draws."""
        shown = np.linspace(
            0, len(self.test) - 1, min(SHOWN, len(self.test)), dtype=int
        )  # spread out, since images are often sorted by class
        queries = jax.jit(lambda x: x[jnp.asarray(shown)], out_shardings=parallel.replicated(self.mesh))(test.x)
        count = min(NEIGHBOURS, len(self.bank))
        _, found = parallel.neighbors(bank.x, queries, count, bank.position >= 0, self.mesh)
        found, bank_labels, labels = parallel.gather((found, bank.label, test.label))
        if jax.process_index() > 0:
            return
        images = [[self.bank.image(i) for i in row] for row in found]
        drawn = [self.test.image(i) for i in shown]
        pictures.neighbours(drawn, images, labels[shown], bank_labels[found], self.run.classes).save(path)
