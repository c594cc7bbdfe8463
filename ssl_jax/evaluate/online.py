"""What is measured of a run's features, beside the same figures of raw pixels and of the first weights."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ssl_jax import augment, data, parallel
from ssl_jax.evaluate import probe
from ssl_jax.evaluate.knn import nearest, top1, weighted_knn
from ssl_jax.evaluate.linear import linear_probe, raw_baseline
from ssl_jax.evaluate.spectrum import rankme
from ssl_jax.report import pictures
from ssl_jax.run import Run

RANKED = 8192  # rows of the bank: enough to tell the effective rank
RAW_SIZE = 32  # pixels: the raw-pixel baseline looks at images no larger than this
SHOWN, NEIGHBOURS = 8, 7  # rows and neighbours of the picture


class Evaluator:
    """Measures a run's features: k-NN and linear top-1 where there are labels, and their effective rank.

    The bank is a fixed sample of the training images, the queries are the first test images in a fixed random order;
    both are read once if they fit `data.host_bytes`, else each time.
    """

    def __init__(self, run: Run, mesh: jax.sharding.Mesh):
        self.run, self.mesh = run, mesh
        limits = run.config.evaluate
        self.bank = Images(run, mesh, run.source, limits.bank)
        self.test = Images(run, mesh, run.test, limits.test) if run.classes else None
        size, crop = run.config.data.size, limits.crop

        def encode(train, batch):
            images = augment.center(run.recipe, batch, size, crop)
            return run.method.features(train.params, train.state, images)

        def pixels(_, batch):
            return augment.center(run.recipe, batch, min(size, RAW_SIZE), crop).reshape(batch["image"].shape[0], -1)

        self.measured: Any = None  # a state
        self.kept: list[np.ndarray] = []  # its features
        everywhere = parallel.replicated(mesh)
        self.encode = jax.jit(encode, out_shardings=everywhere)
        self.pixels = jax.jit(pixels, out_shardings=everywhere)

    def measure(self, train: Any) -> dict[str, float]:
        """Returns k-NN and online-probe top-1 in percent, where there are labels, and the effective rank."""
        features = self.features(train)
        measured = {"rank": float(rankme(jnp.asarray(features[0][:RANKED])))}
        if self.test:
            measured["knn_top1"] = self.knn(*features)
            online = jax.tree.map(jnp.asarray, parallel.gather(train.probe))
            measured["probe_top1"] = top1(probe.predict(online, jnp.asarray(features[1])), self.test.labels)
        return measured

    def baselines(self, train: Any) -> dict[str, float]:
        """Returns top-1 in percent of raw pixels and of the features of the first weights; empty without labels."""
        if not self.test:
            return {}
        raw = [images.features(self.pixels, train) for images in (self.bank, self.test)]
        init = self.features(train)
        raw_knn, raw_linear = raw_baseline(raw[0], self.bank.labels, raw[1], self.test.labels, len(self.run.classes))
        return {
            "raw_knn_top1": raw_knn,
            "raw_linear_top1": raw_linear,
            "init_knn_top1": self.knn(*init),
            "init_linear_top1": self.linear(*init),
        }

    def conclude(self, train: Any, picture: pathlib.Path) -> dict[str, float]:
        """Returns the linear top-1 in percent, fitted on the whole bank, and draws neighbours of some test images."""
        if not self.test:
            return {}
        bank, test = self.features(train)
        if jax.process_index() == 0:
            self.draw(bank, test, picture)
        return {"linear_top1": self.linear(bank, test)}

    def features(self, train) -> list[np.ndarray]:
        """Returns the features of the bank and, where there are labels, of the queries; the last are kept.

        What is measured at the last step and what is concluded from it look at the same ones.
        """
        if self.measured is not train:
            self.kept = [images.features(self.encode, train) for images in (self.bank, self.test) if images]
            self.measured = train
        return self.kept

    def knn(self, bank, test) -> float:
        settings = self.run.config.evaluate
        bank, test, labels = map(jnp.asarray, (bank, test, self.bank.labels))
        predicted = weighted_knn(bank, labels, test, len(self.run.classes), settings.neighbours, settings.temperature)
        return top1(predicted, self.test.labels)

    def linear(self, bank, test) -> float:
        return linear_probe(bank, self.bank.labels, test, self.test.labels, len(self.run.classes))

    def draw(self, bank, test, path) -> None:
        shown = np.linspace(0, len(test) - 1, min(SHOWN, len(test)), dtype=int)  # sets are often sorted by class
        found = np.asarray(nearest(jnp.asarray(bank), jnp.asarray(test[shown]), NEIGHBOURS))
        queries = [self.test.image(i) for i in shown]
        images = [[self.bank.image(i) for i in row] for row in found]
        labels = self.test.labels[shown], self.bank.labels[found]
        pictures.neighbours(queries, images, *labels, self.run.classes).save(path)


class Images:
    """A fixed sample of a source, in batches on the mesh."""

    def __init__(self, run: Run, mesh: jax.sharding.Mesh, source: data.Source, limit: int):
        self.run, self.mesh = run, mesh
        order = np.random.default_rng(0).permutation(len(source))[:limit]
        self.sample = data.Subset(source, np.sort(order))
        self.batch_size = run.batch_size
        fits = data.fits(self.sample, run.canvas, run.config.data.host_bytes)
        self.cache = list(self.read()) if fits else None
        self.labels = np.array([])  # known after the first pass

    def read(self):
        share = dict(process_index=jax.process_index(), process_count=jax.process_count())
        return data.ordered(
            self.sample, self.batch_size, self.run.canvas, workers=self.run.config.data.workers, **share
        )

    def features(self, encode, train) -> np.ndarray:
        """Returns the features [N, D] of the sample, whole, on the host."""
        rows, labels = [], []
        for batch in self.cache or self.read():
            batch = parallel.scatter(self.mesh, batch)
            encoded = encode(train, {name: batch[name] for name in ("image", "box")})
            features, index, label = parallel.gather((encoded, batch["index"], batch["label"]))
            rows.append(features[index >= 0])
            labels.append(label[index >= 0])
        self.labels = np.concatenate(labels)
        return np.concatenate(rows)

    def image(self, i: int) -> np.ndarray:
        """Returns one image, uint8 [H, W, 3], shrunk to the run's size."""
        batch = data.read(self.sample, np.array([i]), self.run.canvas)
        _, _, height, width = batch["box"][0]
        return batch["image"][0, :height, :width]
