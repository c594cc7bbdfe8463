"""The table of evaluation protocols, which training and `python -m ssl_jax.evaluate` share.

A protocol is a frozen dataclass: its fields are its settings, and calling it with a subject measures the subject.
"""

from collections.abc import Callable, Mapping

from ssl_jax.evaluate.dense import Dense
from ssl_jax.evaluate.detection import Detection
from ssl_jax.evaluate.distil import Distil
from ssl_jax.evaluate.finetune import Finetune
from ssl_jax.evaluate.health import Health
from ssl_jax.evaluate.knn import KNN
from ssl_jax.evaluate.logistic import Logistic
from ssl_jax.evaluate.result import Protocol
from ssl_jax.evaluate.retrieval import Retrieval
from ssl_jax.evaluate.robustness import Robustness
from ssl_jax.evaluate.sweep import Linear
from ssl_jax.evaluate.transfer import Transfer

__all__ = ["PROTOCOLS", "Protocol"]

PROTOCOLS: Mapping[str, Callable[..., Protocol]] = {
    "knn": KNN,
    "linear": Linear,
    "logreg": Logistic,
    "retrieval": Retrieval,
    "health": Health,
    "robustness": Robustness,
    "transfer": Transfer,
    "dense": Dense,
    "detection": Detection,
    "finetune": Finetune,
    "distil": Distil,
}
