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
    interconnect: float  # bytes/s that it sends to other chips of its slice or node; as much arrives at the same time
    dcn: float  # bytes/s that it sends to other slices or nodes, its share of what its host does; 0: it cannot
    pod: tuple[int, ...] = ()  # of a TPU: chips along each axis, of which a slice is a part

    @property
    def is_tpu(self) -> bool:
        """Whether it is a TPU; otherwise it is a GPU."""
        return bool(self.pod)


# Google: cloud.google.com/tpu/docs/{v2,v3,v4,v5e,v5p,v6e,tpu7x}. It gives the interconnect in both directions together,
# twice what is here. For v2 and v3: Jouppi et al. 2020 (doi:10.1145/3360307), 4 links of 496 and 656 Gbit/s; for v4:
# Jouppi et al. 2023 (arXiv:2304.01433), 6 links of 50 GB/s.
# Between slices, the same pages: 50, 100 and 100 Gbit/s a chip of v5p, v6e and tpu7x; of v5e 2 adapters of 100 Gbit/s
# for the 8 chips of a host. For v4: 25 GB/s a host of 4 chips, by jax-ml.github.io/scaling-book/tpus, which agrees on
# v5e, v5p and v6e. v2 and v3 work in single slices only (cloud.google.com/tpu/docs/multislice-introduction).
# Pods: the same; the 9,216 chips of tpu7x are taken to be 16x16x36.
# NVIDIA: data sheets of A100 80GB SXM, H100 SXM and H200 SXM, without sparsity; NVLink, half of "900 GB/s"; between
# nodes, as in its DGX A100, H100 and H200, an adapter for each GPU, of 200 and 400 Gbit/s.
CHIPS = {
    "v2": Chip(46e12, 16 * GIB, 700e9, 248e9, 0, (16, 16)),
    "v3": Chip(123e12, 32 * GIB, 900e9, 328e9, 0, (32, 32)),
    "v4": Chip(275e12, 32 * GIB, 1200e9, 300e9, 6.25e9, (16, 16, 16)),
    "v5e": Chip(197e12, 16 * GIB, 819e9, 200e9, 3.125e9, (16, 16)),
    "v5p": Chip(459e12, 95 * GIB, 2765e9, 600e9, 6.25e9, (16, 20, 28)),
    "v6e": Chip(918e12, 32 * GIB, 1638e9, 400e9, 12.5e9, (16, 16)),
    "tpu7x": Chip(2307e12, 192 * GIB, 7380e9, 600e9, 12.5e9, (16, 16, 36)),
    "a100": Chip(312e12, 80e9, 2039e9, 300e9, 25e9),
    "h100": Chip(989e12, 80e9, 3350e9, 450e9, 50e9),
    "h200": Chip(989e12, 141e9, 4800e9, 450e9, 50e9),
}
