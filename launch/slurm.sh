#!/usr/bin/env bash
#SBATCH --job-name=ssl_jax
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
# Trains on the GPUs of several nodes; the job queues itself again at its time limit, and Slurm does after preemption.
#
#   sbatch --nodes=4 --gpus-per-node=8 --cpus-per-task=64 launch/slurm.sh --config=byol:imagenet --workdir=/shared/byol
#   sbatch --nodes=4 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh ...    one process a GPU, not one a node
#   bash launch/slurm.sh --dry-run --config=byol:imagenet --workdir=...           prints what would run
#
# --cpus-per-task is best all cores of a node divided by its processes: they read and decode the images. Arguments are those
# of python -m ssl_jax.main; the workdir must be on a file system that all nodes share. PYTHON names the interpreter, such
# as PYTHON=$HOME/venv/bin/python; without it, python. The same command resumes a run.
set -euo pipefail

dry_run=false arguments=()
for argument; do
  case $argument in
    --dry-run) dry_run=true ;;
    -h | --help) sed -n '/^# /s/^# //p; /^#$/s/#//p; /^set /q' "${BASH_SOURCE[0]}" && exit ;;
    *) arguments+=("$argument") ;;
  esac
done
if [ ${#arguments[@]} -eq 0 ]; then
  echo 'error: no arguments; give those of python -m ssl_jax.main, such as --config=byol' >&2
  exit 2
fi

run=(srun --kill-on-bad-exit=1 "${PYTHON:-python}" -m ssl_jax.main "${arguments[@]}")
if [ "${SLURM_NTASKS_PER_NODE:-1}" = 1 ] && [ "${SLURM_GPUS_ON_NODE:-0}" -gt 1 ]; then
  JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((SLURM_GPUS_ON_NODE - 1))) # under Slurm, a process of JAX uses one GPU otherwise
  export JAX_LOCAL_DEVICE_IDS
fi
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
  export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # since Slurm 22.05, srun gives a process one CPU otherwise
fi
if $dry_run; then
  printf -v line ' %q' "${run[@]}"
  echo "${JAX_LOCAL_DEVICE_IDS:+JAX_LOCAL_DEVICE_IDS=$JAX_LOCAL_DEVICE_IDS }${line# }"
  echo "five minutes before the time limit: scancel --signal=TERM ${SLURM_JOB_ID:-JOB}; scontrol requeue ${SLURM_JOB_ID:-JOB}"
  exit
fi

at_limit=false
# The signal reaches the processes of the run but not this script, which outlives them to queue the job again.
trap 'at_limit=true; scancel --signal=TERM "$SLURM_JOB_ID"' USR1
# At preemption Slurm signals the processes itself, and a second signal would end them before they have saved.
trap : TERM

"${run[@]}" &
code=0
wait $! || code=$?
while kill -0 $! 2> /dev/null; do # a signal ends `wait`, not the run
  code=0
  wait $! || code=$?
done
if $at_limit && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
