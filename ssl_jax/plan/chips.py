"""What chips can do at most, by their makers."""

from typing import NamedTuple

GIB = 2**30


def gib(size: float) -> str:
    """Returns a number of bytes in GiB."""
    return f"{size / GIB:.2f}"


class Chip(NamedTuple):
    """The peaks of one chip."""

    flops: float  # of bfloat16 products with float32 sums, 1/s
    memory: float  # bytes
    bandwidth: float  # of its memory, bytes/s
    interconnect: float  # bytes/s that it sends to other chips over all links; as much arrives at the same time
    is_tpu: bool = True


# Google: cloud.google.com/tpu/docs/{v2,v3,v4,v5e,v5p,v6e,tpu7x}. It gives the interconnect in both directions together,
# twice what is here. For v2 and v3: Jouppi et al. 2020 (doi:10.1145/3360307), 4 links of 496 and 656 Gbit/s; for v4:
# Jouppi et al. 2023 (arXiv:2304.01433), 6 links of 50 GB/s.
# NVIDIA: data sheets of A100 80GB SXM, H100 SXM and H200 SXM, without sparsity; NVLink, half of "900 GB/s".
CHIPS = {
    "v2": Chip(46e12, 16 * GIB, 700e9, 248e9),
    "v3": Chip(123e12, 32 * GIB, 900e9, 328e9),
    "v4": Chip(275e12, 32 * GIB, 1200e9, 300e9),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, 400e9),
    "tpu7x": Chip(2307e12, 192 * GIB, 7380e9, 600e9),
    "a100": Chip(312e12, 80e9, 2039e9, 300e9, is_tpu=False),
    "h100": Chip(989e12, 80e9, 3350e9, 450e9, is_tpu=False),
    "h200": Chip(989e12, 141e9, 4800e9, 450e9, is_tpu=False),
}
