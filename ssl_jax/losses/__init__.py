"""Losses: pure functions on global, batch-major arrays; each names its paper and equation."""

from ssl_jax.losses.bank import (
    instance_softmax,
    nce,
    nce_normalizer,
    nce_with_first_normalizer,
    positive_is_first,
    sampled_scores,
    spread_out,
)
from ssl_jax.losses.classification import cross_entropy
from ssl_jax.losses.clustering import (
    cluster_weights,
    entropy,
    kmeans,
    prototype_cross_entropy,
    random_rows,
    sinkhorn,
    spherical_kmeans,
    swapped_prediction,
    whiten,
)
from ssl_jax.losses.contrastive import (
    contrastive_cross_entropy,
    info_nce,
    info_nce_pairs,
    nt_xent,
    supervised_contrastive,
)
from ssl_jax.losses.dense import nearest_position, patch_info_nce
from ssl_jax.losses.distillation import centered_softmax, hidden_weights, koleo, soft_cross_entropy
from ssl_jax.losses.image_text import image_text_sigmoid, image_text_softmax
from ssl_jax.losses.metric import circle, margin_contrastive, multi_similarity, supervised_info_nce, triplet
from ssl_jax.losses.proxy import proxy_anchor, proxy_nca
from ssl_jax.losses.redundancy import barlow_twins, covariance, invariance, variance
from ssl_jax.losses.regression import negative_cosine_similarity, squared_cosine_distance
from ssl_jax.losses.relational import relational
from ssl_jax.losses.views import cross_views, mean_over_pairs

__all__ = [
    "barlow_twins",
    "centered_softmax",
    "circle",
    "cluster_weights",
    "contrastive_cross_entropy",
    "covariance",
    "cross_entropy",
    "cross_views",
    "entropy",
    "hidden_weights",
    "image_text_sigmoid",
    "image_text_softmax",
    "info_nce",
    "info_nce_pairs",
    "instance_softmax",
    "invariance",
    "kmeans",
    "koleo",
    "margin_contrastive",
    "mean_over_pairs",
    "multi_similarity",
    "nce",
    "nce_normalizer",
    "nce_with_first_normalizer",
    "nearest_position",
    "negative_cosine_similarity",
    "nt_xent",
    "patch_info_nce",
    "positive_is_first",
    "prototype_cross_entropy",
    "proxy_anchor",
    "proxy_nca",
    "random_rows",
    "relational",
    "sampled_scores",
    "sinkhorn",
    "soft_cross_entropy",
    "spherical_kmeans",
    "spread_out",
    "squared_cosine_distance",
    "supervised_contrastive",
    "supervised_info_nce",
    "swapped_prediction",
    "triplet",
    "variance",
    "whiten",
]
