"""Joins the processes of a run."""

import os

import jax


def start() -> None:
    """Connects the processes of a run; does nothing if there is only one. Call it before any use of a device.

    JAX finds the processes on a TPU pod and under SLURM. Elsewhere set the environment variables
    JAX_COORDINATOR_ADDRESS (host:port), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    environment = os.environ
    if "JAX_COORDINATOR_ADDRESS" in environment:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        count, index = int(environment["JAX_NUM_PROCESSES"]), int(environment["JAX_PROCESS_ID"])
        jax.distributed.initialize(environment["JAX_COORDINATOR_ADDRESS"], count, index)
    elif "," in environment.get("TPU_WORKER_HOSTNAMES", "") or int(environment.get("SLURM_NTASKS", "1")) > 1:
        jax.distributed.initialize()
