#!/usr/bin/env bash
# The first minutes on a GPU: the eight parts of `artune bench suite` at the paper's sizes with random weights, in less than
# 15 minutes. Each part has its own limit and prints its result at once; FOLDER/suite.json and suite.md are written after each.
#   benchmarks/gpu_suite.sh [FOLDER] [further options of `artune bench suite`, such as --parts decoder or --limit 540]
# The machine needs torch, numpy, safetensors, timm, scipy and transformers. What else is missing there is unpacked from the
# folder wheels/, which `make gpu-wheels PYTHON=3.12` fills elsewhere. Neither Snakemake nor MLflow is needed.
# Environment variables: PYTHON (default python3), WHEELS (default wheels).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
python=${PYTHON:-python3} wheels=${WHEELS:-wheels}
case ${1:-} in '' | --*) folder=results/imagenet/bench ;; *) folder=$1; shift ;; esac
scale=imagenet device=cuda before=
for word in "$@"; do
  case $before in --scale) scale=$word ;; --device) device=$word ;; esac
  before=$word
done
if [ "$device" = cpu ] && [[ " $* " != *" --scale "* ]]; then scale=smoke; fi
temporary=$(mktemp -d) unpacked=
trap 'rm -rf "$temporary"' EXIT
if [ -d "$wheels" ]; then
  unpacked=$temporary/wheels
  "$python" benchmarks/carried_wheels.py unpack "$wheels" "$unpacked" || exit 2
fi
export PYTHONPATH=src${unpacked:+:$unpacked}${PYTHONPATH:+:$PYTHONPATH}
export PYTORCH_CUDA_ALLOC_CONF=${PYTORCH_CUDA_ALLOC_CONF:-expandable_segments:True}

mkdir -p "$folder"
"$python" -m artune bench suite --device "$device" --scale "$scale" --output "$folder/suite.json" "$@"
status=$?
timings=$folder/iteration/timings.jsonl
if [ "$timings" -nt "$temporary" ]; then # written by this call
  "$python" -m artune costs --timings "$timings" --scale "$scale" --output "$folder/costs.csv" &&
    cut -d, -f1-5 "$folder/costs.csv"
  if [ "$device" = cuda ]; then "$python" -m artune plan paper --costs "$folder/costs.csv" 2>&1 | tail -n 1; fi
fi
exit $status
