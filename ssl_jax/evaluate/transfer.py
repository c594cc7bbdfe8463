"""Transfer: the same features on several sets of images."""

import dataclasses
from typing import Annotated

from ssl_jax.errors import UserError
from ssl_jax.evaluate.knn import KNN
from ssl_jax.evaluate.logistic import Logistic
from ssl_jax.evaluate.result import Protocol, Result
from ssl_jax.evaluate.subject import Subject
from ssl_jax.fields import Rule

GIVEN = Rule(bool, "the sources of labelled images, such as folder:/birds,tfds:cars196")


@dataclasses.dataclass(frozen=True)
class Transfer(Protocol):
    """k-NN and logistic regression on each of several labelled sets; `top1` is the mean of the latter over the sets."""

    sources: Annotated[tuple[str, ...], GIVEN] = ()  # of labelled images

    needs = ()

    def check(self, subject):
        for name in self.sources:
            other = subject.on(name)
            if not other.classes or other.samples.test is None:
                raise UserError(
                    f"--transfer.sources has {name}, which has no labelled training and test images; name sets with "
                    "both, such as folders with train/CLASS/ and test/CLASS/"
                )

    def __call__(self, subject: Subject) -> Result:
        rows = []
        for name in self.sources:
            other = subject.on(name)
            knn, logistic = (protocol(other).numbers for protocol in (KNN(), Logistic(shots=())))
            rows.append(
                {"source": name, "knn_top1": knn["top1"]}
                | {key: logistic[key] for key in ("top1", "interval", "images")}
                | {"classes": len(other.classes)}
            )
        return Result({"top1": sum(row["top1"] for row in rows) / len(rows), "rows": rows})
