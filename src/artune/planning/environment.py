"""The two pinned environments: which one is installed, and which one the driver of the GPU serves."""

import importlib.metadata
import importlib.util
import re
from pathlib import Path

from artune.planning.slurm import run_tool

# major version of torch's CUDA -> least major version of the driver (NVIDIA's release notes)
DRIVERS = {11: 450, 12: 525, 13: 580}
# major version of torch's CUDA -> the pins of the environment that has it; `make CUDA=12 test` chooses the second
ENVIRONMENTS = {13: "envs/requirements.txt", 12: "envs/requirements-cuda12.txt"}


def torch_cuda() -> tuple[int, int] | None:
    """Version of the CUDA that the installed torch was built with, read without importing it; None without CUDA."""
    found = importlib.util.find_spec("torch")
    version = Path(found.origin).with_name("version.py").read_text(encoding="utf-8") if found and found.origin else ""
    built = re.search(r"^cuda\b.*= '(\d+)\.(\d+)'", version, re.M)
    return (int(built[1]), int(built[2])) if built else None


def packages(requirements: Path | None = None) -> tuple[bool, str]:
    """Whether the installed packages are the pinned ones, and which differ.

    Args:
        requirements: file of pins; None: that of the environment whose torch has the installed torch's CUDA.
    """
    if requirements is None:
        built = torch_cuda()
        requirements = Path(ENVIRONMENTS.get(built[0] if built else 13, ENVIRONMENTS[13]))
    pins = dict(re.findall(r"^([\w.-]+)==([^\s;]+)", requirements.read_text(encoding="utf-8"), re.M))
    if not pins:
        return False, f"{requirements} pins nothing; restore it with `git checkout {requirements}`"
    there = {re.sub(r"[-_.]+", "-", item.name).lower(): item.version for item in importlib.metadata.distributions()}
    others = [f"{name} {there.get(name, 'missing')}" for name, pin in pins.items() if there.get(name) != pin]
    if others:
        shown = ", ".join(others[:5])
        return False, f"{len(others)} differ from {requirements}: {shown}; its first line says how to install it"
    return True, f"{len(pins)} as pinned in {requirements}"


def driver() -> tuple[bool | None, str]:
    """Whether the driver serves torch's CUDA (None: no GPU here), and which environment fits the driver."""
    listed = run_tool("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader")
    if not listed:
        return None, "none on this machine: jobs compute on the CPU (on a login node, run doctor in a job)"
    number = min(int(line.split(".")[0]) for line in listed.splitlines())
    names = sorted({line.split(", ")[1] for line in listed.splitlines()})
    built, fits = torch_cuda(), fitting_environment(number)
    if built is None:
        return False, f"driver {number}, but torch was built without CUDA; {fits}"
    cuda, needed = f"CUDA {built[0]}.{built[1]}", DRIVERS.get(built[0], 0)
    if number < needed:
        return False, f"driver {number} is too old for torch's {cuda}, which needs {needed}; {fits}"
    import torch

    if not torch.cuda.is_available():
        return False, f"driver {number} serves {cuda}, but torch sees no GPU; see CUDA_VISIBLE_DEVICES"
    what = f"{len(listed.splitlines())} x {', '.join(names)}"
    return True, f"{what}, driver {number} serves {cuda} of torch {torch.__version__}; {fits}"


def fitting_environment(number: int) -> str:
    """The newest pinned environment that a driver of major version ``number`` serves, and the word that chooses it."""
    for cuda, pins in ENVIRONMENTS.items():
        if number >= DRIVERS[cuda]:
            return f"{pins} fits it (`make CUDA={cuda} test`, docs/cluster.md)"
    return f"neither environment fits it: update it to {DRIVERS[13]}, or to {DRIVERS[12]} for {ENVIRONMENTS[12]}"
