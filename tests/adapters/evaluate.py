"""Golden family 14: evaluation metrics."""

import jax
import jax.numpy as jnp
import numpy as np

from adapters import adapter
from ssl_jax.evaluate import clusters, spectrum
from ssl_jax.evaluate.knn import class_scores, top1, weighted_knn

UNUSED = {"T": "the temperature once more, given in args"}


@adapter("knn", ignored=UNUSED)
def knn(args, arrays):
    bank, labels, queries, truth = (
        jnp.asarray(arrays[name]) for name in ("train_features", "train_labels", "test_features", "test_labels")
    )
    ours = {}
    for k in (int(name.split("_k")[1].split("_")[0]) for name in arrays if name.startswith("lightly_k")):
        given = (bank, labels, queries, args["classes"], k, args["T"])
        scores, predictions = class_scores(*given), weighted_knn(*given)
        five = jnp.argsort(-scores, -1)[:, : min(5, k)]
        ours |= {
            f"dino_k{k}_class_scores": scores,
            f"dino_k{k}_pred": predictions,
            f"lightly_k{k}_pred": predictions,
            f"dino_k{k}_top1": top1(predictions, truth),
            f"dino_k{k}_top5": 100 * jnp.mean(jnp.any(five == truth[:, None], -1)),
            f"instdisc_k{k}_top1_fraction": top1(predictions, truth) / 100,
        }
    return ours


@adapter(
    "rankme_alignuniform",
    ignored={"rankme_stable_pretraining_eps1e5": "that code's 1e-5 is not the paper's epsilon"},
)
def rankme_alignuniform(args, arrays):
    x, y = jnp.asarray(arrays["x"]), jnp.asarray(arrays["y"])

    def both(x):
        return spectrum.alignment(x, y) + spectrum.uniformity(x)

    return {
        "rankme_paper_eps1e7": spectrum.rankme(jnp.asarray(arrays["z"])),
        "align_a2": spectrum.alignment(x, y),
        "align_a1": spectrum.alignment(x, y, power=1),
        "uniform_t2": spectrum.uniformity(x),
        "uniform_t3": spectrum.uniformity(x, t=3),
        "grad_x_align2_plus_uniform2": jax.grad(both)(x),
        "grad_y_align2": jax.grad(spectrum.alignment, 1)(x, y),
    }


@adapter("nmi")
def nmi(args, arrays):
    agreement = clusters.agreement(arrays["labels_true"], arrays["labels_pred"])
    three = ("homogeneity", "completeness", "v_measure")
    return {
        "mi": agreement["mutual_information"],
        "nmi_arithmetic": agreement["v_measure"],
        "nmi_geometric": agreement["nmi_geometric"],
        "ami": agreement["ami"],
        "ari": agreement["ari"],
        "homogeneity_completeness_v": np.array([agreement[name] for name in three]),
    }
