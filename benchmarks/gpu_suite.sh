#!/usr/bin/env bash
# Every benchmark at the paper's sizes on one GPU, in a few minutes, on random weights; the tables stand last.
# Needs torch, numpy, safetensors, timm, scipy, pydantic, PyYAML, open_clip_torch and torch-fidelity; no Snakemake, no MLflow.
#   benchmarks/gpu_suite.sh [FOLDER] [BACKBONE]
set -uo pipefail
cd "$(dirname "$0")/.."
folder=${1:-results/imagenet/bench} backbone=${2:-llamagen_l}
mkdir -p "$folder"
export PYTHONPATH=src
device=${DEVICE:-cuda} scale=${SCALE:-imagenet}

part() { # a failure of one part leaves the others
  local name=$1; shift
  echo "== $name" >&2
  timeout 240 python -m artune bench "$@" --scale "$scale" --device "$device" >"$folder/$name.txt" || echo "$name: failed" >>"$folder/$name.txt"
}

part rollout rollout --backbone "$backbone" --repeats 3 --output "$folder/rollout.json"
part loo-fid loo-fid --output "$folder/loo-fid.json"
mkdir -p "$folder/iteration"
part iteration iteration --backbone "$backbone" --repeats 3 --output "$folder/iteration/timings.jsonl"
[ -f "$folder/iteration/timings.jsonl" ] &&
  python -m artune costs --timings "$folder/iteration/timings.jsonl" --scale "$scale" --output "$folder/costs.csv"

if command -v nvidia-smi >/dev/null; then nvidia-smi --query-gpu=name,driver_version --format=csv,noheader; fi
for name in rollout loo-fid iteration; do echo; cat "$folder/$name.txt"; done
if [ -f "$folder/costs.csv" ]; then echo; cut -d, -f1-5 "$folder/costs.csv"; fi
