"""Devices: starting several processes, the mesh over all devices, and where each array lives on it."""

from ssl_jax.parallel.mesh import gather, make_mesh, replicate, replicated, rows, scatter, start

__all__ = ["gather", "make_mesh", "replicate", "replicated", "rows", "scatter", "start"]
