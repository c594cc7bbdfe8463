"""Joins the processes of a run, and ends each of them when another one has died."""

import atexit
import importlib.util
import os
import sys
import threading
from collections.abc import Mapping
from typing import Any

import jax
from orbax.checkpoint import multihost

from ssl_jax import command
from ssl_jax.errors import UserError
from ssl_jax.parallel.mesh import any_process, make_mesh

ADDRESS, COUNT, INDEX = "JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID"
MPI_COUNT, MPI_INDEX, MPI_LOCAL = (f"OMPI_COMM_WORLD_{name}" for name in ("SIZE", "RANK", "LOCAL_RANK"))
JOINED = 300  # seconds in which all processes must have started
ALIVE = 30  # seconds after which a process that has sent no sign of life counts as dead
FOREVER = 10**9  # milliseconds, 11 days; then the watch ends, and JAX alone notices a death


def start(joined: int = JOINED, alive: int = ALIVE) -> None:
    """Connects the processes of a run; does nothing if there is only one. Call it before devices are used.

    JAX finds the processes on a TPU pod, also in Kubernetes, under Slurm, under Open MPI and, with the package
    `kubernetes`, in any other indexed job of Kubernetes. Elsewhere, or in place of that, set the environment variables
    JAX_COORDINATOR_ADDRESS (host:port of the first process), JAX_NUM_PROCESSES and JAX_PROCESS_ID. From then on only
    the first process prints, and each process ends with one line on standard error when another one has died.

    Args:
        joined: seconds in which all processes must have started.
        alive: seconds after which a process without a sign of life counts as dead.

    Raises:
        UserError: if the environment names the processes in part, or wrongly.
    """
    settings = find(os.environ)
    if settings is None or jax.distributed.is_initialized():
        return
    jax.config.update("jax_enable_preemption_service", False)  # it would keep SIGTERM from ending a run that starts
    late = threading.Timer(joined, command.fail, [missing(settings, joined)])  # JAX itself would abort with a trace
    late.daemon = True
    late.start()
    settings |= {"initialization_timeout": 2 * joined, "heartbeat_timeout_seconds": alive}
    settings |= {"shutdown_timeout_seconds": 3600}  # in which the others wait for the files that the first one writes
    try:
        jax.distributed.initialize(**settings)
    except ValueError as error:
        if "coordinator_address should be defined" not in str(error):
            raise
        return  # a machine with TPUs of its own, which is no part of a pod
    finally:
        late.cancel()
    watch()
    if jax.process_index():
        sys.stdout.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the communication library prints too
    # Gloo gives up where a process comes 30 seconds after another one to what they compute together for the first time,
    # and not any more when it has connected them.
    any_process(make_mesh(), False)


def find(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments of `jax.distributed.initialize` that an environment asks for; None: there is one process.

    Raises:
        UserError: if it names the processes in part, or wrongly.
    """
    if any(name in environment for name in (ADDRESS, COUNT, INDEX)):
        return named(environment)
    if number(environment, MPI_COUNT, 1) > 1:
        return by_mpi(environment)
    if number(environment, "SLURM_NTASKS", 1) > 1:
        if "SLURM_STEP_NODELIST" not in environment:
            raise UserError(
                f"Slurm has {environment['SLURM_NTASKS']} tasks, and this process was not started as one: start "
                "it with srun, or with srun --ntasks=1 if it is to be the only one"
            )
        return {}
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or number(environment, "MEGASCALE_NUM_SLICES", 1) > 1:
        return {}
    if "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment:
        if hosts:  # all hosts of a slice of TPUs, here one
            return None
        if not importlib.util.find_spec("kubernetes"):
            raise UserError(
                f"this pod is one of an indexed job: set {ADDRESS} and {COUNT} ({COUNT}=1 if it is the only one), "
                "or pip install kubernetes, with which JAX finds the others"
            )
        return {}
    on_tpu_vm = environment.get("TPU_ML_PLATFORM") == "JAX" and "TPU_SKIP_MDS_QUERY" not in environment
    return {} if on_tpu_vm else None


def named(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments by the variables of JAX; the scheduler's stand in for the number and the index."""
    count = number(environment, COUNT, number(environment, MPI_COUNT, number(environment, "SLURM_NTASKS")))
    job_index = number(environment, "JOB_COMPLETION_INDEX")
    index = number(environment, INDEX, number(environment, MPI_INDEX, number(environment, "SLURM_PROCID", job_index)))
    if count == 1:
        return None
    address = environment.get(ADDRESS)
    meanings = {
        ADDRESS: (address, "host:port of the first process"),
        COUNT: (count, "the number of processes"),
        INDEX: (index, "the index of this process, from 0"),
    }
    for name, (value, meaning) in meanings.items():
        if value is None:
            others = " and ".join(other for other in meanings if other in environment)
            raise UserError(f"{others} is set, but {name} is not: set it to {meaning}")
    host, _, port = str(address).rpartition(":")
    if not host or not port.isdecimal():
        raise UserError(f"{ADDRESS} is {address!r}: set it to host:port of the first process")
    if not 0 <= index < count:
        raise UserError(f"the index of this process is {index} ({INDEX}), but there are {count} ({COUNT}), from 0 on")
    local = environment.get(MPI_LOCAL, environment.get("SLURM_LOCALID"))
    own = {"local_device_ids": [int(local)]} if local else {"cluster_detection_method": "deactivate"}
    return {"coordinator_address": address, "num_processes": count, "process_id": index, **own}


def by_mpi(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the arguments for a process that mpirun started."""
    if "OMPI_MCA_orte_hnp_uri" in environment:  # before version 5, which JAX can read
        return {}
    if not importlib.util.find_spec("mpi4py"):
        raise UserError(
            f"mpirun started {environment[MPI_COUNT]} processes, and since its version 5 they need mpi4py to find each "
            f"other: pip install mpi4py, or set {ADDRESS} to host:port of the first process, with mpirun -x {ADDRESS}"
        )
    # As JAX does before version 5: each process has one device of its machine.
    return {"cluster_detection_method": "mpi4py", "local_device_ids": [number(environment, MPI_LOCAL, 0)]}


def number(environment: Mapping[str, str], name: str, default: Any = None) -> Any:
    """Returns a variable as an int, `default` if it is not set.

    Raises:
        UserError: if it is set to something else.
    """
    text = environment.get(name)
    if text is None:
        return default
    if not text.isdecimal():
        raise UserError(f"{name} is {text!r}: set it to a whole number")
    return int(text)


def missing(settings: Mapping[str, Any], seconds: int) -> str:
    """Returns what to say if the processes have not found each other."""
    place = settings.get("coordinator_address", "the address that the scheduler gives")
    this = "process {process_id} of {num_processes}".format_map(settings) if "num_processes" in settings else "this one"
    return (
        f"the processes have not all met at {place} within {seconds} seconds, as seen by {this}: check that all were "
        "started, with the same address, and that the first one can be reached there from the others"
    )


def watch() -> None:
    """Ends this process as soon as another one has died; JAX alone would abort it with a trace.

    The others never come to the barrier of this process, so it breaks when one of them dies, or at the end.
    """
    ending = threading.Event()
    barrier = multihost.get_barrier_sync_fn()

    def wait() -> None:
        try:
            barrier(key=f"ssl_jax:{jax.process_index()}", timeout_ms=FOREVER)
        except jax.errors.JaxRuntimeError:
            if not ending.is_set():
                command.fail(command.LOST, command.AGAIN)

    def end() -> None:
        ending.set()
        jax.distributed.shutdown()  # once all have come here
        thread.join()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    atexit.register(end)
