"""The table of methods, from the name in a config to the class."""

from ssl_jax.methods.barlow_twins import BarlowTwins
from ssl_jax.methods.byol import BYOL
from ssl_jax.methods.cast import CAST
from ssl_jax.methods.circle import Circle
from ssl_jax.methods.clip import CLIP
from ssl_jax.methods.cmc import CMC
from ssl_jax.methods.cpc import CPC
from ssl_jax.methods.crd import CRD
from ssl_jax.methods.deepcluster import DeepCluster
from ssl_jax.methods.deepcluster_v2 import DeepClusterV2
from ssl_jax.methods.densecl import DenseCL
from ssl_jax.methods.detailclip import DetailCLIP
from ssl_jax.methods.dino import DINO
from ssl_jax.methods.dinov2 import DINOv2
from ssl_jax.methods.ibot import IBOT
from ssl_jax.methods.ijepa import IJEPA
from ssl_jax.methods.infomin import InfoMin
from ssl_jax.methods.instdisc import InstDisc
from ssl_jax.methods.invaspread import InvaSpread
from ssl_jax.methods.mae import MAE
from ssl_jax.methods.moco import MoCo
from ssl_jax.methods.moco_v3 import MoCoV3
from ssl_jax.methods.multi_similarity import MultiSimilarity
from ssl_jax.methods.nnclr import NNCLR
from ssl_jax.methods.proxy_anchor import ProxyAnchor
from ssl_jax.methods.proxy_nca import ProxyNCA
from ssl_jax.methods.ressl import ReSSL
from ssl_jax.methods.simclr import SimCLR
from ssl_jax.methods.simmim import SimMIM
from ssl_jax.methods.simsiam import SimSiam
from ssl_jax.methods.slip import SLIP
from ssl_jax.methods.supcon import SupCon
from ssl_jax.methods.supervised import Supervised
from ssl_jax.methods.supervised_info_nce import SupervisedInfoNCE
from ssl_jax.methods.swav import SwAV
from ssl_jax.methods.triplet import Triplet
from ssl_jax.methods.vicreg import VICReg

METHODS = {
    "barlow_twins": BarlowTwins,
    "byol": BYOL,
    "cast": CAST,
    "circle": Circle,
    "clip": CLIP,
    "cmc": CMC,
    "cpc": CPC,
    "crd": CRD,
    "deepcluster": DeepCluster,
    "deepcluster_v2": DeepClusterV2,
    "densecl": DenseCL,
    "detailclip": DetailCLIP,
    "dino": DINO,
    "dinov2": DINOv2,
    "ibot": IBOT,
    "ijepa": IJEPA,
    "infomin": InfoMin,
    "instdisc": InstDisc,
    "invaspread": InvaSpread,
    "mae": MAE,
    "moco": MoCo,
    "moco_v3": MoCoV3,
    "multi_similarity": MultiSimilarity,
    "nnclr": NNCLR,
    "proxy_anchor": ProxyAnchor,
    "proxy_nca": ProxyNCA,
    "ressl": ReSSL,
    "simclr": SimCLR,
    "simmim": SimMIM,
    "simsiam": SimSiam,
    "slip": SLIP,
    "supcon": SupCon,
    "supervised": Supervised,
    "supervised_info_nce": SupervisedInfoNCE,
    "swav": SwAV,
    "triplet": Triplet,
    "vicreg": VICReg,
}
