"""The table of methods: a name in a config -> its class."""

from ssl_jax.methods.byol import BYOL
from ssl_jax.methods.moco import MoCo
from ssl_jax.methods.simclr import SimCLR
from ssl_jax.methods.swav import SwAV

METHODS = {
    "byol": BYOL,
    "moco": MoCo,
    "simclr": SimCLR,
    "swav": SwAV,
}
