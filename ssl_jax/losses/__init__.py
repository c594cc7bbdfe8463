"""Losses: pure functions on global arrays, batch-major, without state; each names its paper and equation."""

from ssl_jax.losses.clustering import entropy, prototype_cross_entropy, sinkhorn, spherical_kmeans, swapped_prediction
from ssl_jax.losses.contrastive import contrastive_cross_entropy, info_nce, info_nce_pairs, nt_xent
from ssl_jax.losses.regression import negative_cosine_similarity, squared_cosine_distance

__all__ = [
    "contrastive_cross_entropy",
    "entropy",
    "info_nce",
    "info_nce_pairs",
    "negative_cosine_similarity",
    "nt_xent",
    "prototype_cross_entropy",
    "sinkhorn",
    "spherical_kmeans",
    "squared_cosine_distance",
    "swapped_prediction",
]
