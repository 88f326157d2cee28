"""GPUs, processors and speeds of a machine, and what each rule takes of it by the profile."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

from artune.errors import ArtuneError
from artune.planning.gpu_hours import Gpu, assumed_machine
from artune.planning.slurm import asked, read_profile
from artune.planning.timetable.options import option

# Rules that run beside Snakemake and not as jobs of a cluster: `localrules` in the Snakefile.
LOCAL = (
    "asset",
    "run_config",
    "mlflow_store",
    "mlflow_log",
    "table",
    "seed_differences",
    "study_tally",
    "study_table",
    "publish_table",
    "publish_figure",
)
PROFILES = Path("workflow/profiles")


@dataclass(frozen=True)
class Assumed:
    """What nobody has counted or measured: speeds in MB/s, shares of the GPU's published peaks, seconds per job."""

    download: float = 50.0  # MB/s from the internet, for all downloads together
    disk: float = 500.0  # MB/s of reading or writing
    # The estimates of docs/performance.md for LlamaGen-L, 2.3 to 3.4 s on an H100, are 19 to 28% of its floor's speed.
    share: float = 0.22
    share_float32: float = 0.65
    startup: float = 60.0  # seconds until a job computes: imports, weights, recording of graphs
    wait: float = 60.0  # seconds until SLURM starts a job and Snakemake sees its end
    cores: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = "0 or more" if field.name in ("startup", "wait") else "more than 0"
            most = 1.0 if "share" in field.name else float("inf")
            if not 0 <= value <= most or (value == 0 and least != "0 or more"):
                limit = " and at most 1" if most == 1 else ""
                raise ArtuneError(f"{option(field.name)}: {value:g} is out of range; give {least}{limit}")


class Request(NamedTuple):
    """What a job of a rule takes: GPUs that nobody else may use meanwhile, processes, processors."""

    gpus: int = 0
    processes: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Machine:
    """A machine of the paper's experiment, by the profile of ``workflow/profiles`` that runs it."""

    name: str
    profile: str
    gpus: int
    gpu: Gpu
    assumed: Assumed
    measured: bool  # whether the GPU's seconds over floor were measured
    requests: dict[str, Request]
    jobs: int | None  # most jobs that may wait or run at a time, without the local ones

    @property
    def cluster(self) -> bool:
        """Whether SLURM starts the jobs."""
        return self.jobs is not None


# name -> what it is called, card, its number, profile
MACHINES = {
    "h100": ("one H100", "H100", 1, "workstation"),
    "a100": ("four A100s", "A100", 4, "slurm_a100"),
}


def machine(name: str, assumed: Assumed, measured: Gpu | None = None, root: Path = PROFILES) -> Machine:
    """A machine of :data:`MACHINES` by name.

    Args:
        name: key of :data:`MACHINES`.
        assumed: its speeds and shares.
        measured: a GPU with measured seconds over floor; used if it is of the machine's card.
        root: folder of the profiles.

    Raises:
        ArtuneError: the profile is missing or wrong.
    """
    called, card, count, profile_name = MACHINES[name]
    profile = read_profile(root / profile_name)
    fits = measured is not None and measured.peaks == card
    gpu = measured if measured is not None and fits else assumed_machine(card, assumed.share, assumed.share_float32)
    limit = profile.get("jobs") if profile.get("executor") == "slurm" else None
    requests = {rule: _request(profile, rule, count) for rule in asked(profile)}
    return Machine(called, profile_name, count, gpu, assumed, fits, requests, limit)


def _request(profile: dict[str, Any], rule: str, gpus: int) -> Request:
    wanted = asked(profile)[rule]
    own = (profile.get("set-resources") or {}).get(rule) or {}
    held = sum(wanted["gres"].values()) or (gpus if own.get("gpu") else 0)  # the token `gpu` stands for all of them
    together = "torchrun" in str(own.get("launcher", ""))
    return Request(held, max(held, 1) if together else 1, wanted["threads"])
