"""How processes are found in the environment of each scheduler, and what is said when it names them in part."""

import importlib
import importlib.util

import jax
import pytest

from ssl_jax import parallel
from ssl_jax.errors import UserError

starting = importlib.import_module("ssl_jax.parallel.start")
NAMED = {"JAX_COORDINATOR_ADDRESS": "host:1234", "JAX_NUM_PROCESSES": "4", "JAX_PROCESS_ID": "3"}
EXPLICIT = {"coordinator_address": "host:1234", "num_processes": 4, "process_id": 3}
ALONE = {"cluster_detection_method": "deactivate"}
SLURM = {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "a[1-2]"}
MPI = {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
JOB = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}
ADDRESS_AND_COUNT = {name: NAMED[name] for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES")}


@pytest.mark.parametrize(
    ("environment", "packages", "expected"),
    [
        ({}, (), None),
        ({"JAX_NUM_PROCESSES": "1"}, (), None),
        (NAMED, (), EXPLICIT | ALONE),
        (ADDRESS_AND_COUNT | JOB, (), EXPLICIT | ALONE),  # each pod knows its index
        ({"JAX_COORDINATOR_ADDRESS": "host:1234"} | MPI, (), EXPLICIT | {"local_device_ids": [1]}),
        ({"JAX_COORDINATOR_ADDRESS": "host:1234"} | SLURM, (), EXPLICIT | {"local_device_ids": [1]}),
        (SLURM, (), {}),
        (SLURM | {"SLURM_NTASKS": "1"}, (), None),
        (MPI | {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1:34911"}, (), {}),
        (MPI, ("mpi4py",), {"cluster_detection_method": "mpi4py", "local_device_ids": [1]}),
        (JOB, ("kubernetes",), {}),
        (JOB | {"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, (), {}),
        (JOB | {"TPU_WORKER_HOSTNAMES": "localhost", "JOB_COMPLETION_INDEX": "0"}, (), None),  # a slice of one host
        (JOB | {"TPU_WORKER_HOSTNAMES": "localhost", "MEGASCALE_NUM_SLICES": "2"}, (), {}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, (), None),  # a pod alone
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, (), None),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, (), {}),
        ({"TPU_ML_PLATFORM": "JAX"}, (), {}),
        ({"TPU_ML_PLATFORM": "JAX", "TPU_SKIP_MDS_QUERY": "1"}, (), None),
    ],
)
def test_processes_are_found(environment, packages, expected, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name in packages or None)
    assert starting.find(environment) == expected


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"JAX_PROCESS_ID": "0", "JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS is not: set it to host:port"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_PROCESS_ID": "0"}, "but JAX_NUM_PROCESSES is not: set it to the"),
        (ADDRESS_AND_COUNT, "but JAX_PROCESS_ID is not: set it to the index of this process, from 0"),
        (NAMED | {"JAX_PROCESS_ID": "4"}, r"index of this process is 4 .* there are 4 .*, from 0 on"),
        (NAMED | {"JAX_NUM_PROCESSES": "two"}, "JAX_NUM_PROCESSES is 'two': set it to a whole number"),
        (NAMED | {"JAX_COORDINATOR_ADDRESS": "host"}, "JAX_COORDINATOR_ADDRESS is 'host': set it to host:port"),
        ({"SLURM_NTASKS": "8"}, "Slurm has 8 tasks.* start it with srun"),
        (MPI, "pip install mpi4py, or set JAX_COORDINATOR_ADDRESS"),
        (JOB, "indexed job: set JAX_COORDINATOR_ADDRESS and JAX_NUM_PROCESSES"),
    ],
)
def test_a_mistake_in_the_environment_is_one_sentence(environment, sentence, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=sentence):
        starting.find(environment)


def test_start_passes_on_what_was_found_and_its_time_limits(monkeypatch):
    given: dict[str, object] = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda **settings: given.update(settings))
    monkeypatch.setattr(starting, "watch", lambda: None)
    for name, value in NAMED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(jax.config, "update", lambda name, value: None)
    parallel.start(alive=7)
    assert given.items() >= EXPLICIT.items()
    assert given["heartbeat_timeout_seconds"] == 7
