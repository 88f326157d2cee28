"""Provenance of a number: commit, versions of the libraries, device and threads."""

import hashlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

import artune
from artune.tracking.source_code import git

LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "open_clip_torch", "torch-fidelity", "timm", "snakemake")


def code_digest() -> str:
    """SHA-256 of all source files of the package, with their names: the version of the code, with or without git."""
    root, found = Path(artune.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()


def device_name(device: torch.device, cpu: Path = Path("/proc/cpuinfo")) -> str:
    """The GPU's name, or the processor's with the number of its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    name = platform.processor() or platform.machine()
    if cpu.exists():  # on Linux platform returns only the architecture, such as x86_64
        models = [
            line.split(":", 1)[1].strip()
            for line in cpu.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("model name")
        ]
        name = models[0] if models else name
    return f"{name}, {os.cpu_count()} cores"


def provenance(device: torch.device) -> dict[str, Any]:
    """Versions, digest of the code, commit, device, threads and SLURM job of this process, by name."""
    return {
        "artune": artune.__version__,
        "results_version": artune.RESULTS_VERSION,
        "code": code_digest(),
        "commit": git("rev-parse", "HEAD") or "unknown",
        "uncommitted_changes": bool(git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        **{library: _version(library) for library in LIBRARIES},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def _version(library: str) -> str | None:
    """Installed version of a library; None if it is missing, as Snakemake is on a machine that only computes."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
