"""Settings, registry and device of a command, each created once, on first use."""

import functools
import os
import re
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from artune.config.fields import PACKAGES
from artune.config.registry import Registry
from artune.config.run import Evaluation
from artune.config.seeds import cut_seeds
from artune.config.settings import Settings
from artune.config.yaml_layers import config_folder, parse, read_yaml
from artune.errors import ArtuneError, unknown
from artune.runtime.processes import launch

if TYPE_CHECKING:
    import torch
    from torch import nn

# How PyTorch's allocator is set, by either name. Segments that grow leave no gaps between updates and rollouts of other
# sizes, which a card with little to spare cannot afford; the private pools of CUDA graphs may grow too (PyTorch, pull
# requests 128068 and 185818). PyTorch reads the first name, then the second, when CUDA is first used.
ALLOCATOR = ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")
GROWING = "expandable_segments:True"
GIVEN = re.compile(r"\d|GPU-|MIG-")  # CUDA_VISIBLE_DEVICES with a GPU: not -1, NoDevFiles or empty
Value = TypeVar("Value")


class Context:
    """Settings, registry and device of one command.

    Args:
        arguments: arguments of the command line; its scale, preset, seeds, threads and device override
            ``config/config.yaml``.
    """

    def __init__(self, arguments: Namespace):
        self._given = {name: getattr(arguments, name) for name in ("scale", "preset", "seeds", "threads", "device")}

    @functools.cached_property
    def settings(self) -> Settings:
        """``config.yaml`` of :func:`config_folder`, overridden by the options of the command line."""
        values = read_yaml(config_folder() / "config.yaml")
        values |= {name: value for name, value in self._given.items() if value is not None}
        return parse(Settings, values, "config/config.yaml")

    @functools.cached_property
    def registry(self) -> Registry:
        """The registry of the settings' scale and preset."""
        return Registry(self.settings.scale, self.settings.preset)

    @functools.cached_property
    def device(self) -> "torch.device":
        """The device to run on, one GPU per process; the first use sets threads and allocator and turns TF32 off."""
        import torch

        here, wanted = launch(), self.settings.device
        self.prepare()
        if wanted == "cuda" and not torch.cuda.is_available():
            raise ArtuneError("device: cuda was asked for, but torch sees no GPU; use --device cpu")
        given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if wanted == "auto" and GIVEN.match(given) and not torch.cuda.is_available():
            # A job that was given GPUs and silently computes on the CPU would hold the GPUs for weeks.
            raise ArtuneError(
                f"device: this job was given GPUs (CUDA_VISIBLE_DEVICES={given}), but torch sees none; `python -m "
                "artune doctor` in such a job says why, --device cpu computes without them"
            )
        name = "cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # features are float32
        if name == "cuda" and not any(variable in os.environ for variable in ALLOCATOR):
            os.environ[ALLOCATOR[0]] = GROWING  # here, not in the profiles: every command on CUDA passes this place
        if name == "cuda" and here.size > 1:
            if torch.cuda.device_count() < here.local_size:
                gpus = torch.cuda.device_count()
                raise ArtuneError(f"{here.local_size} processes, but {gpus} GPUs; lower --nproc_per_node")
            torch.cuda.set_device(here.local_rank)
            return torch.device("cuda", here.local_rank)
        return torch.device(name)

    def prepare(self) -> "torch.device":
        """Set the threads; returns the CPU, for a command that computes nowhere else and leaves every GPU alone."""
        import torch

        torch.set_num_threads(launch().threads(self.settings.threads))
        return torch.device("cpu")

    @property
    def assets(self) -> Path:
        """The folder of the external files (assets)."""
        return Path(self.settings.assets)

    @property
    def tracking_uri(self) -> str:
        """Address of the MLflow store."""
        from artune.tracking.run_logger import tracking_uri

        return tracking_uri(self.settings.tracking_uri)

    def networks(self, names: Iterable[str], given: Sequence[Path]) -> dict[str, "nn.Module"]:
        """The frozen networks called ``names`` on the device; their files are looked for as by :func:`files_of`.

        A network out of an optional package is left out where the package is not installed.
        """
        from artune.models.encoders.build import load_network
        from artune.models.encoders.efficientnet import load_efficientnet

        registry = self.registry
        chosen = {name: registry.network(name) for name in names}
        files = files_of(self.filed(names), given, ".safetensors", "--networks")
        found = {name: load_network(path, chosen[name], registry.data, self.device) for name, path in files.items()}
        packaged = {name: load_efficientnet(chosen[name].architecture) for name in chosen if name not in files}
        return found | {name: module.to(self.device) for name, module in packaged.items() if module is not None}

    def filed(self, names: Iterable[str]) -> list[str]:
        """Those of the networks called ``names`` that have a file of weights, not a package."""
        return [name for name in names if self.registry.network(name).kind not in PACKAGES]

    def set_of(self, given: Iterable[Path]) -> int:
        """Number of the set of frozen networks whose files are given: ``judge-n1.safetensors`` is of set 1.

        Raises:
            ArtuneError: the files are of several sets.
        """
        registry = self.registry
        found = [cut_seeds(path.stem) for path in given]
        sets = {seeds.networks for name, seeds in found if name in registry.networks and registry.networks[name].train}
        if len(sets) > 1:
            raise ArtuneError(f"--networks: files of several sets of networks ({sorted(sets)}); give those of one")
        return max(sets, default=0)

    def evaluation_of(self, given: Iterable[Path]) -> Evaluation:
        """The evaluation by the set of frozen networks whose files are given; errors as :meth:`set_of`."""
        return self.registry.evaluation_in(self.set_of(given))


def files_of(names: Iterable[str], given: Sequence[Path] | None, suffix: str, option: str) -> dict[str, Path]:
    """The file of each name among the paths ``given`` to an option: the file of that name, or that of a folder.

    A network of a further set (``judge-n1``) also lies beside the plain one.

    Raises:
        ArtuneError: no path that was given is the file of a name, and none is a folder.
    """
    found = {}
    for name in sorted(set(names)):
        own = [path for path in given or () if path.name == f"{name}{suffix}"]
        own += [path / f"{name}{suffix}" for path in given or () if path.suffix != suffix]
        own += [
            path.with_name(f"{name}{suffix}") for path in given or () if path.name == f"{cut_seeds(name)[0]}{suffix}"
        ]
        if not own:
            raise ArtuneError(f"{option}: {name}{suffix} is needed too; give the file or its folder")
        found[name] = own[0]
    return found


def entry(section: Mapping[str, Value], name: str, what: str) -> Value:
    """``section[name]``. Raises ArtuneError: there is none; the message names similar ones."""
    if name not in section:
        raise ArtuneError(f"{what}: {unknown(name, section)}")
    return section[name]
