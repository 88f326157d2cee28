#!/usr/bin/env bash
# Runs every benchmark at the paper's sizes on one GPU with random weights, in less than 8 minutes, and prints all tables at the
# end. It needs torch, numpy, safetensors, timm, scipy, pydantic, PyYAML, open_clip_torch and torch-fidelity, but neither
# Snakemake nor MLflow.
#   benchmarks/gpu_suite.sh [FOLDER] [BACKBONE]
# Environment variables change it: DEVICE, SCALE, PARTS (which of the parts below to run), SIZES (options for every part, such as
# "--images 4") and LIMIT (seconds for all parts together).
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-results/imagenet/bench} backbone=${2:-llamagen_l}
parts=${PARTS:-rollout rewards loo-fid update iteration sample iteration-xl}
limit=${LIMIT:-470} device=${DEVICE:-cuda} scale=${SCALE:-imagenet}
mkdir -p "$folder/iteration"
export PYTHONPATH=src${PYTHONPATH:+:$PYTHONPATH}
here=(--scale "$scale" --device "$device")

part() { # if one part fails, the next still runs; no part runs beyond the limit
  local name=$1 left=$((limit - SECONDS)); shift
  case " $parts " in *" $name "*) ;; *) return ;; esac
  echo "== $name, $left s left" >&2
  if ((left < 10)); then echo "$name: left out, $limit s are over" >"$folder/$name.txt"; return; fi
  # shellcheck disable=SC2086
  timeout "$left" python -m artune bench "$@" --weights random ${SIZES:-} "${here[@]}" >"$folder/$name.txt" ||
    echo "$name: failed or stopped after $limit s" >>"$folder/$name.txt"
}

part rollout rollout --backbone "$backbone" --repeats 2 --output "$folder/rollout.json"
part rewards rewards --backbone "$backbone" --repeats 5 --output "$folder/rewards.json"
part loo-fid loo-fid --output "$folder/loo-fid.json"
part update update --backbone "$backbone" --repeats 3 --output "$folder/update.json"
part iteration iteration --backbone "$backbone" --repeats 3 --output "$folder/iteration/timings.jsonl"
part sample sample --backbone "$backbone" --repeats 4 --output "$folder/sample.json"
part iteration-xl iteration --backbone llamagen_xl --repeats 1 --output "$folder/iteration-xl.json" # images of 384 pixels, 576 tokens each
[ -f "$folder/iteration/timings.jsonl" ] &&
  python -m artune costs --timings "$folder/iteration/timings.jsonl" --scale "$scale" --output "$folder/costs.csv"

if command -v nvidia-smi >/dev/null; then nvidia-smi --query-gpu=name,driver_version --format=csv,noheader; fi
for name in $parts; do echo; echo "$name"; cat "$folder/$name.txt"; done
if [ -f "$folder/costs.csv" ]; then echo; cut -d, -f1-5 "$folder/costs.csv"; fi
if [ "$device" = cuda ] && [ -f "$folder/costs.csv" ]; then python -m artune plan paper --costs "$folder/costs.csv" 2>&1 | tail -n 1; fi
