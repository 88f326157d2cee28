"""The options of ``artune bench`` and ``artune selfcheck``, read without importing anything else."""

from collections.abc import Mapping
from typing import Any

BENCH_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--backbone": {"default": "llamagen_l", "help": "the policy; its sizes are those of --scale"},
    "--images": {"type": int, "help": "images (default: the scale's; 2 on a CPU at imagenet)"},
    "--tokens": {"type": int, "help": "tokens per image, a square (default: the scale's; 16 on a CPU)"},
    "--repeats": {"type": int, "default": 3, "help": "timed repeats"},
    "--weights": {"choices": ["random"], "default": "random", "help": "the speed does not depend on them"},
    "--parts": {"nargs": "+", "default": [], "metavar": "PART", "help": "suite: parts to run (default: all)"},
    "--limit": {"type": float, "help": "suite: seconds for all parts together (default: 840)"},
}
SELFCHECK_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--backbone": {"default": "llamagen_b", "help": "the policy, a key of config/backbones.yaml"},
    "--dtype": {"choices": ["float32", "bfloat16"], "default": "float32", "help": "type of the weights"},
}
