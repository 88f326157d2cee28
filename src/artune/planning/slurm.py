"""Requests of a SLURM profile, and whether this cluster can meet them. Never imports torch."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError, brief

UNITS = {"m": 1, "h": 60, "d": 24 * 60}  # minutes


def run_tool(*command: str, seconds: float = 10.0) -> str | None:
    """Output of a program; None if it is missing, fails, or takes longer than ``seconds``."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # sinfo waits long for a controller that is down
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _setting(name: str, pattern: str) -> str | None:
    found = re.search(rf"^{name}\s*=\s*({pattern})", run_tool("scontrol", "show", "config") or "", re.M)
    return found[1] if found else None


def min_job_age() -> float | None:
    """Seconds that SLURM remembers a job after its end; infinite if for ever, None if SLURM does not say."""
    found = _setting("MinJobAge", r"\d+")
    return None if found is None else float(found) or float("inf")


def longest_pause(remembered: float | None) -> float:
    """The longest time between two looks at the queue, in seconds, for a cluster that remembers jobs so long.

    A third of it, so that a late look still finds the job; at least 10 s, to be no burden; at most 3 minutes.
    """
    return min(180.0, max(10.0, (300.0 if remembered is None else remembered) / 3))


def memory(profile: dict[str, Any]) -> tuple[bool | None, str]:
    """Whether Snakemake can see the end of every job before SLURM forgets the job, and a text; None: unknown."""
    command = profile.get("slurm-status-command", "sacct")
    if command == "sacct":
        if (_setting("AccountingStorageType", r"\S+") or "").endswith("/slurmdbd"):
            return True, "accounting remembers every job (slurm-status-command: sacct)"
        return (
            False,
            "no accounting here, so that sacct cannot be asked; set slurm-status-command: squeue in the profile",
        )
    age = min_job_age()
    if age is None:
        return None, "not checked, because `scontrol show config` does not show MinJobAge"
    pause = longest_pause(age)
    text = f"remembered for {age:.0f} s after their end (MinJobAge), and Snakemake asks every {pause:.0f} s or sooner"
    if age >= pause:
        return True, text
    return False, (
        f"{text}: of a job that it misses it sees only what the job left, not why it failed; ask for a MinJobAge of "
        "30 s or more, or use accounting (slurm-status-command: sacct)"
    )


def read_profile(folder: Path) -> dict[str, Any]:
    """A Snakemake profile. Raises ArtuneError: the file is missing or not a mapping."""
    return read_yaml(folder / "config.yaml")


def minutes(runtime: Any) -> float:
    """``90``, ``"24h"``, ``"2d"`` -> minutes. Raises ArtuneError: none of these."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mhd]?)", str(runtime))
    if match is None:
        raise ArtuneError(f"runtime: {brief(runtime)} is not a time such as 90, 24h or 2d")
    return float(match[1]) * UNITS[match[2] or "m"]


def limit_minutes(text: str) -> float:
    """sinfo's time limit, ``2-00:00:00``, ``30:00`` or ``infinite``, in minutes."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if match is None:
        return float("inf")
    days, hours, whole, _ = (int(part or 0) for part in match.groups())
    return days * 1440 + hours * 60 + whole


def gpus(text: str) -> dict[str, int]:
    """``gpu:a100:4(S:0-1),gpu:t4:1`` -> ``{"a100": 4, "t4": 1}``; GPUs without a model are under ``""``."""
    return {match[1] or "": int(match[2]) for match in re.finditer(r"gpu:(?:([\w.-]+):)?(\d+)", text)}


def asked(profile: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Requests of each rule of a profile: ``gres``, ``mem_mb``, ``runtime`` (minutes), ``threads``."""
    base, threads = profile.get("default-resources") or {}, profile.get("set-threads") or {}
    rules = profile.get("set-resources") or {}
    wanted = {}
    for rule in {*rules, *threads}:
        own = {**base, **(rules.get(rule) or {})}
        wanted[rule] = {
            "gres": gpus(str(own.get("gres", ""))),
            "mem_mb": float(own.get("mem_mb", 0)),
            "runtime": minutes(own.get("runtime", 0)),
            "threads": int(threads.get(rule, 1)),
            "partition": str(own.get("slurm_partition", "")),
        }
    return wanted


def misfits(profile: dict[str, Any], partition: str) -> list[str]:
    """Requests of rules of ``profile`` that no node of ``partition`` can meet, one phrase per rule; [] if all fit."""
    rows = (run_tool("sinfo", "-h", "-p", partition, "-o", "%G|%c|%m|%l") or "").splitlines()
    nodes = [line.split("|") for line in rows]
    if not nodes:
        return [f"partition {partition} is unknown"]
    problems = []
    for rule, wants in sorted(asked(profile).items()):
        if wants["partition"] != partition:
            continue
        lacks: list[list[str]] = []
        for gres, cpus, memory, limit in nodes:
            there = gpus(gres)
            short = [
                f"{count} GPUs of {model or 'any model'} (nodes have {gres})"
                for model, count in wants["gres"].items()
                if (there.get(model, 0) if model else sum(there.values())) < count
            ]
            short += [f"{wants['threads']} CPUs (nodes have {cpus})"] if wants["threads"] > _number(cpus) else []
            short += [f"{wants['mem_mb']:.0f} MB (nodes have {memory})"] if wants["mem_mb"] > _number(memory) else []
            over = wants["runtime"] > limit_minutes(limit)
            short += [f"{wants['runtime'] / 60:.0f} h (the limit is {limit})"] if over else []
            lacks.append(short)
        if all(lacks):
            nearest = min(lacks, key=len)
            problems.append(f"{rule} asks for {', '.join(nearest)}")
    return problems


def _number(text: str) -> float:
    return float(re.match(r"\d+", text)[0]) if re.match(r"\d+", text) else float("inf")  # type: ignore[index]


def accounts() -> list[str]:
    """The accounts that the user may charge; [] if SLURM keeps no accounts."""
    user = os.environ.get("USER") or str(os.getuid())  # the list of users may lack this one, as in a container
    listed = run_tool("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account")
    return sorted(set((listed or "").split()))
