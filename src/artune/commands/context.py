"""What every command reads first: settings, registry, device."""

import os
import re
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from artune.config.registry import Registry
from artune.config.settings import Settings
from artune.config.yaml_layers import parse, read_yaml
from artune.errors import ArtuneError
from artune.runtime.processes import launch

if TYPE_CHECKING:
    import torch

GIVEN = re.compile(r"\d|GPU-|MIG-")  # not -1, NoDevFiles or nothing


def settings_of(arguments: Namespace) -> Settings:
    """``config/config.yaml`` with the options of the command line over it."""
    values = read_yaml(Path("config/config.yaml"))
    for name in ("scale", "preset", "seeds", "threads", "device"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    return parse(Settings, values, "config/config.yaml")


def registry_of(arguments: Namespace) -> Registry:
    """The registry of the command's scale and preset."""
    settings = settings_of(arguments)
    return Registry(settings.scale, settings.preset)


def device_of(arguments: Namespace) -> "torch.device":
    """The device to run on, one GPU a process; threads are set and TF32 is switched off on the way."""
    import torch

    settings, here = settings_of(arguments), launch()
    torch.set_num_threads(here.threads(settings.threads))
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ArtuneError("device: cuda was asked for, but torch sees no GPU; use --device cpu")
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if settings.device == "auto" and GIVEN.match(given) and not torch.cuda.is_available():
        # A job that was given GPUs and quietly takes the CPU would hold them for weeks.
        raise ArtuneError(
            f"device: this job was given GPUs (CUDA_VISIBLE_DEVICES={given}), but torch sees none; `python -m artune "
            "doctor` in such a job says why, --device cpu computes without"
        )
    name = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # features are float32
    if name == "cuda" and here.size > 1:
        if torch.cuda.device_count() < here.local_size:
            gpus = torch.cuda.device_count()
            raise ArtuneError(f"{here.local_size} processes, but {gpus} GPUs; lower --nproc_per_node")
        torch.cuda.set_device(here.local_rank)
        return torch.device("cuda", here.local_rank)
    return torch.device(name)


def entry(section: dict, name: str, what: str) -> object:
    """``section[name]``, or one line that lists the known names."""
    if name not in section:
        raise ArtuneError(f"{what}: unknown {name!r}; known are {', '.join(section)}")
    return section[name]


def load_networks(registry: Registry, names: set[str], folder: Path, device: "torch.device") -> dict:
    """The frozen networks called ``names``."""
    from artune.models.encoders.build import load_network

    return {
        name: load_network(
            folder / f"{name}.safetensors", entry(registry.networks, name, "network"), registry.data, device
        )
        for name in sorted(names)
    }
