#!/usr/bin/env bash
# Whole training steps on one GPU beside plain PyTorch (bfloat16, channels_last, eager and compiled): one table.
# Needs jax with CUDA, torch, torchvision and timm. `gpu.sh SECONDS CASE...` runs some cases and starts none after SECONDS.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here/../..:$here${PYTHONPATH:+:$PYTHONPATH}" TF_CPP_MIN_LOG_LEVEL=3
limit=${1:-420}
shift || true
log=$(mktemp)
python3 "$here/gpu.py" header
for name in "${@:-simclr_resnet18 simclr_resnet50 byol_resnet50 barlow_twins_vit_small dino_vit_small mae_vit_small clip_vit_base}"; do
  for one in $name; do
    for side in ours eager compiled; do
      if [ "$SECONDS" -lt "$limit" ]; then # a process of its own: each side has the whole memory
        python3 "$here/gpu.py" "$side" "$one" 2>"$log" || echo "$one $side failed: $(tail -n 1 "$log")"
      else
        echo "$one $side: not run, $limit s were over"
      fi
    done
  done
done
