"""What a number was made with."""

import os
import platform
import subprocess
from typing import Any

import torch

import artune


def provenance(device: torch.device) -> dict[str, Any]:
    """What a number was made with: versions, commit, device, threads."""
    git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "artune": artune.__version__,
        "results_version": artune.RESULTS_VERSION,
        "commit": git.stdout.strip() or "unknown",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }
