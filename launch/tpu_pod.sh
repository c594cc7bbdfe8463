#!/usr/bin/env bash
# Trains on a TPU slice of Google Cloud: asks for it, installs, trains on all hosts, and goes on after preemption.
set -euo pipefail

usage() {
  cat <<'END'
usage: launch/tpu_pod.sh COMMAND --name=NAME --zone=ZONE [OPTION ...] [--config.key=value ...]

commands:
  train    all of create, wait, install and run, again after each preemption, until the run is finished
  create   asks for the slice, as a queued resource
  wait     waits until the slice is there
  install  copies this checkout to all hosts and installs it there
  run      trains on all hosts; the same command resumes
  doctor   checks all hosts, as python -m ssl_jax.doctor does
  status   prints the state of the request: ACTIVE, WAITING_FOR_RESOURCES, SUSPENDED (preempted), ...
  delete   gives the slice back; until then it costs money

options:
  --name=NAME          of the request and of the slice
  --zone=ZONE          such as us-central1-a
  --type=TYPE          accelerator type, such as v5litepod-16 (v5e), v5p-32 or v6e-64
  --spot               cheaper, and may be preempted
  --config=CONFIG      recipe and preset, such as byol:imagenet, or a file of your own, which is copied to the hosts alone
  --workdir=gs://...   where the run lives: a folder of a bucket, best one with a hierarchical namespace
  --dry-run            prints every cloud command and runs none
  --config.key=value   any setting of the run, such as --config.data.source=tfds:imagenet2012

The project and the account are those of gcloud (gcloud config set project PROJECT). Start `train` where it can stay, such
as in tmux on a small machine: it is what notices a preemption. TPU7x and later, and runs of several slices, need
gke_jobset.yaml. The config is checked here first, if python3 or the Python that PYTHON names has ssl_jax.
END
}

fail() {
  echo "error: $1; see launch/tpu_pod.sh --help" >&2
  exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name='' zone='' type='' config='' workdir='' spot='' dry_run=false settings=()
case ${1:-} in
  '' | -h | --help) usage && exit ;;
  train | create | wait | install | run | doctor | status | delete) command=$1 && shift ;;
  *) fail "there is no command $1" ;;
esac
for argument; do
  value=${argument#*=}
  case $argument in
    --name=*) name=$value ;;
    --zone=*) zone=$value ;;
    --type=*) type=$value ;;
    --config=*) config=$value ;;
    --workdir=*) workdir=$value ;;
    --spot) spot=--spot ;;
    --dry-run) dry_run=true ;;
    -h | --help) usage && exit ;;
    --config.*=*) settings+=("$argument") ;;
    *) fail "there is no option $argument" ;;
  esac
done

scratch=$(mktemp -d) asked=false
at_exit() {
  rm -rf "$scratch"
  if $asked && ! $dry_run; then
    echo "the slice costs money until it is given back: launch/tpu_pod.sh delete --name=$name --zone=$zone"
  fi
}
trap at_exit EXIT

need() { # checks that options were given
  for option; do
    [ -n "${!option}" ] || fail "$command needs --$option"
  done
}

quoted() { # prints words as one line of shell
  local line='' word
  for word; do
    case $word in
      *[!A-Za-z0-9_./:=,@%+-]* | '') word="'${word//\'/\'\\\'\'}'" ;;
    esac
    line+="$word "
  done
  printf '%s' "${line% }"
}

exec 3>&1
cloud() { # runs a command, or prints it
  if $dry_run; then
    printf '%s\n' "$(quoted "$@")" >&3
  else
    "$@"
  fi
}

on_all_hosts() { # runs a script on every host; the exit code is that of a host where it failed
  cloud gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="$1"
}

own() { # whether the config is a file of this machine; others are recipes of the package
  [[ ${config%%:*} == *.py && -f ${config%%:*} ]]
}

check() { # finds mistakes before anything costs money
  case $workdir in gs://*/?*) ;; *) fail "--workdir=$workdir is no folder of a bucket, gs://BUCKET/FOLDER" ;; esac
  if [ -z "$config" ]; then return; fi
  local python code found=$config
  if own; then # as the hosts will see it, without the files beside it
    cp "${config%%:*}" "$scratch" && found=$scratch/${config##*/}
  fi
  for python in ${PYTHON:+"$PYTHON"} "$root/.venv/bin/python" python3; do
    command -v "$python" > /dev/null || continue
    code=0
    PYTHONPATH=$root "$python" -c '
import sys
from importlib.util import find_spec

if sys.version_info < (3, 11) or not find_spec("grain"):
    sys.exit(3)  # a Python without what ssl_jax needs

from ssl_jax import command, main, schema
from ssl_jax.config import load

command.run(lambda options: schema.check(load(options.config, options.overrides)), main.parser())
' "--config=$found" ${settings[@]+"${settings[@]}"} || code=$?
    case $code in
      0) return ;;
      2) exit 2 ;;
      3) ;;
      *) fail "--config=$config cannot be read, and is copied to the hosts without the files beside it" ;;
    esac
  done
  echo "the config is not checked here: no Python was found with ssl_jax; PYTHON=... names one" >&2
}

status() {
  cloud gcloud compute tpus queued-resources describe "$name" --zone="$zone" --format='value(state.state)'
}

create() {
  need type
  local runtime
  case $type in # https://cloud.google.com/tpu/docs/runtimes
    v2-* | v3-* | v4-*) runtime=tpu-ubuntu2204-base ;;
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    *) fail "--type=$type is none of v2-N, v3-N, v4-N, v5litepod-N, v5p-N, v6e-N" ;;
  esac
  cloud gcloud compute tpus queued-resources create "$name" --node-id="$name" --zone="$zone" \
    --accelerator-type="$type" --runtime-version="$runtime" ${spot:+"$spot"}
}

state() { # prints the state of the request, nothing if there is none
  local said
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    if said=$(status 2>&1); then
      printf '%s' "$said" && return
    fi
    case $said in *NOT_FOUND*) return 0 ;; esac
    echo "$said" >&2
    sleep 30
  done
  return 1
}

wait_until_active() { # fails if the slice was taken away meanwhile
  local now
  while true; do
    now=$(state) || exit 1
    if $dry_run; then return 0; fi
    case $now in
      *ACTIVE) return 0 ;;
      *FAILED) echo "error: the request failed; gcloud compute tpus queued-resources describe $name says why" >&2 && exit 1 ;;
      *SUSPENDED | '') return 1 ;;
    esac
    echo "$(date +%H:%M:%S) $now"
    sleep 30
  done
}

install() {
  local archive=$scratch/ssl_jax.tar.gz
  cloud tar -czf "$archive" -C "$root" --exclude=__pycache__ pyproject.toml README.md LICENSE ssl_jax configs &&
    cloud gcloud compute tpus tpu-vm scp "$archive" "$name:ssl_jax.tar.gz" --zone="$zone" --worker=all || return
  # The Python of the hosts is older than 3.11.
  # shellcheck disable=SC2016  # the hosts expand it
  on_all_hosts 'set -e
rm -rf ssl_jax && mkdir ssl_jax && tar -xzf ssl_jax.tar.gz -C ssl_jax
python3 -m pip install --quiet --user uv
.local/bin/uv venv --quiet --allow-existing --python 3.12 venv
.local/bin/uv pip install --quiet --python venv/bin/python --reinstall-package ssl_jax ./ssl_jax "jax[tpu]"
if ! command -v gcsfuse > /dev/null; then
  key=/usr/share/keyrings/cloud.google.asc packages=https://packages.cloud.google.com/apt
  curl -fsS $packages/doc/apt-key.gpg | sudo tee $key > /dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release -cs) main" | sudo tee /etc/apt/sources.list.d/gcsfuse.list
  sudo apt-get -q -o DPkg::Lock::Timeout=600 update && sudo apt-get -qy -o DPkg::Lock::Timeout=600 install gcsfuse
fi'
}

running='^[^ ]*python -m ssl_jax' # a command on a host

on_bucket() { # runs a command of ssl_jax on all hosts, after lines of shell, with the folder of the bucket as its workdir
  local path=${workdir#gs://} found=$config bucket line
  bucket=$(quoted "buckets/${path%%/*}")
  if own; then
    found=ssl_jax/${config##*/}
    cloud gcloud compute tpus tpu-vm scp "${config%%:*}" "$name:${found%%:*}" --zone="$zone" --worker=all || return
  fi
  line=$(quoted venv/bin/python -m "ssl_jax.$1" ${config:+"--config=$found"} "--workdir=buckets/$path" \
    ${settings[@]+"${settings[@]}"})
  # All hosts must see at once what one of them writes, and a checkpoint is finished by renaming its folder.
  on_all_hosts "set -e
${2:-}
mkdir -p $bucket
mountpoint -q $bucket || gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 \\
  --rename-dir-limit=1000000 $(quoted "${path%%/*}") $bucket
exec $line"
}

run() { # a host whose connection broke may still train: it is told to save and stop
  on_bucket main "running='$running'
pkill -f \"\$running\" && timeout 600 bash -c 'while pgrep -f \"\$0\" > /dev/null; do sleep 2; done' \"\$running\""
}

doctor() {
  local found
  found=$(on_all_hosts "pgrep -af '$running' || true")
  case $found in
    *'python -m ssl_jax'*)
      echo 'error: a training holds the TPUs, and goes on; start doctor when it has ended' >&2
      exit 1
      ;;
  esac
  on_bucket doctor
}

delete() {
  cloud gcloud compute tpus queued-resources delete "$name" --zone="$zone" --force --quiet
}

preempted() { # waits for up to five minutes until the state says so
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    case $(state) in *ACTIVE) sleep 30 ;; *) return 0 ;; esac
  done
  return 1
}

train() {
  local code now
  while true; do
    now=$(state) || exit 1
    case $now in
      *SUSPENDED) delete && create ;;
      '') create ;;
    esac
    asked=true
    wait_until_active || continue
    code=0
    { install && run; } || code=$?
    [ "$code" -eq 0 ] && break
    echo "a host ended with exit code $code" >&2
    # 75 asks for another start; 1 and 2 are mistakes, but may also come from hosts that lost others to preemption.
    preempted || [ "$code" -gt 2 ] || exit "$code"
  done
  echo finished
}

need name zone
case $command in
  wait) wait_until_active ;;
  doctor) need workdir; check; doctor ;;
  run) need config workdir; check; run ;;
  train) need type config workdir; check; train ;;
  *) "$command" ;;
esac
