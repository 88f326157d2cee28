"""The process that runs parts of the suite, one after another, until it is told to end or cannot go on."""

import gc
import importlib
import signal
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

import torch

from artune.bench.suite.parts import Suite
from artune.config.registry import Registry
from artune.errors import ArtuneError, cut
from artune.planning.slurm import run_tool
from artune.tracking.provenance import provenance

Place = Callable[[], tuple[Registry, torch.device]]
LONGEST = 300  # characters of a reason


class OverLimitError(BaseException):
    """The part has used up its seconds; no ``except Exception`` on the way may hold it up."""


class LeftOutError(ArtuneError):
    """The part, or the rest of it, cannot run on this machine."""


def work(pipe: Connection, place: Place, folder: Path) -> None:
    """Answer orders ``(name, seconds)`` with ``("row", row)`` each time there is one, then ``("end", ...)``.

    The first answer is ``("about", ...)`` with versions and device, or ``("broken", reason)``. After a part that leaves
    the device unusable the process ends, because CUDA does not recover from an error of a kernel.
    """
    try:
        registry, device = place()
        torch.zeros(1, device=device)
        about = describe(device)
    except Exception as error:
        pipe.send(("broken", reason_of(error)))
        return
    pipe.send(("about", about))
    while (order := pipe.recv()) is not None:
        name, seconds = order
        suite = Suite(registry, device, folder, lambda row: pipe.send(("row", row)), time.monotonic() + seconds)
        status, reason = run_part(name, suite, seconds)
        sound = usable(device)
        pipe.send(("end", status, reason, sound))
        if not sound:
            return


def run_part(name: str, suite: Suite, seconds: float) -> tuple[str, str]:
    """Run one part and return its status, with the reason if it is not ``ok``; its memory is free afterwards."""
    signal.signal(signal.SIGALRM, _over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        importlib.import_module(f"artune.bench.suite.{name}").run(suite)
        status = "ok", ""
    except OverLimitError:
        status = "over its limit", f"stopped after {seconds:.0f} s"
    except LeftOutError as error:
        status = "left out", str(error)
    except Exception as error:
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stderr.write(traceback.format_exc())
        traceback.clear_frames(error.__traceback__)  # whose variables hold memory of the device
        status = "failed", reason_of(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return status


def _over(number: int, frame: FrameType | None) -> None:
    raise OverLimitError


def reason_of(error: BaseException) -> str:
    """The first line of an error, with its type where the message was not written for a reader."""
    text = " ".join(str(error).strip().split("\n")[0].split())
    return cut(text if isinstance(error, ArtuneError) else f"{type(error).__name__}: {text}", LONGEST)


def usable(device: torch.device) -> bool:
    """Whether the device still computes and no recording was left open; frees what the last part held."""
    try:
        gc.collect()
        if device.type != "cuda":
            return True
        if torch.cuda.is_current_stream_capturing() or torch.cuda.current_stream() != torch.cuda.default_stream():
            return False
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        return bool(torch.ones(8, device=device).sum() == 8)
    except RuntimeError:
        return False


def describe(device: torch.device) -> dict[str, object]:
    """Versions, commit and device; on a GPU also driver, CUDA, cuDNN, NCCL, capability and memory."""
    about: dict[str, object] = dict(provenance(device))
    if device.type != "cuda":
        return about
    card = torch.cuda.get_device_properties(device)
    return about | {
        "driver": (run_tool("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "?").split("\n")[0],
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        "capability": f"{card.major}.{card.minor}",
        "memory GB": card.total_memory / 2**30,
    }
