"""The options of a timetable, which the command line reads without importing anything else."""

from collections.abc import Mapping
from typing import Any

# What nobody has counted or measured: fields of :class:`artune.planning.timetable.machines.Assumed`.
ASSUMPTIONS = {
    "download": "MB/s from the internet",
    "disk": "MB/s of the disk",
    "share": "share of the published bfloat16 peak and bandwidth that is reached",
    "share_float32": "share of the float32 peak",
    "startup": "seconds until a job computes",
    "wait": "seconds until SLURM starts a job and Snakemake sees its end",
    "cores": "processor cores",
}


def option(name: str) -> str:
    """The option of an assumption: ``share_float32`` -> ``--share-float32``."""
    return f"--{name.replace('_', '-')}"


_NUMBERS: dict[str, dict[str, Any]] = {
    option(name): {"type": int if name == "cores" else float, "metavar": "X", "help": f"timetable: {what}"}
    for name, what in ASSUMPTIONS.items()
}
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "--timetable": {"action": "store_true", "help": "hour by hour: every job, its GPUs, the disk in use"},
    "--machine": {"choices": ["h100", "a100"], "help": "timetable of one H100 or of four A100s (default: both)"},
    **_NUMBERS,
}
