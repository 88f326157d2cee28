"""Load of the machine while a run is trained: processor and memory by psutil, GPUs by nvidia-smi.

The names are those of MLflow's own monitor, so that its pages show them under "System metrics".
"""

import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Any

EVERY = 5.0  # seconds between two readings; one takes less than a millisecond, that of the GPUs is left to a thread
ASKED = ("index", "utilization.gpu", "memory.used", "power.draw")
NAMES = ("utilization_percentage", "memory_usage_megabytes", "power_usage_watts")
MIB = 2**20 / 1e6  # nvidia-smi's unit of memory in megabytes


def parse_gpus(listed: str) -> dict[str, float]:
    """Numbers by name of the CSV that nvidia-smi prints for :data:`ASKED`; what it does not know is left out."""
    found = {}
    for line in listed.splitlines():
        index, *values = [cell.strip() for cell in line.split(",")]
        for name, value, unit in zip(NAMES, values, (1.0, MIB, 1.0), strict=False):
            with contextlib.suppress(ValueError):  # "[N/A]"
                found[f"system/gpu_{index}_{name}"] = round(float(value) * unit, 1)
    return found


def read_gpus(visible: str = "") -> dict[str, float]:
    """Load, memory and power of the GPUs ``visible`` (as in CUDA_VISIBLE_DEVICES); {} if nvidia-smi does not answer."""
    chosen = [f"--id={visible}"] if visible else []
    command = ["nvidia-smi", f"--query-gpu={','.join(ASKED)}", "--format=csv,noheader,nounits", *chosen]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_gpus(done.stdout)


class Usage:
    """Readings of the machine's load, at most one per :data:`EVERY` seconds.

    Nothing here raises: without psutil, or where a reading fails, there is none. The thread that asks for the GPUs
    starts with the first reading and ends with :meth:`close` or after a failure.
    """

    def __init__(self, every: float = EVERY):
        self.every, self.due = every, 0.0
        self.process: Any = None  # of psutil, once it is loaded
        self.gpus: list[dict[str, float]] = []
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None

    def reading(self) -> dict[str, float]:
        """The mean load since the last reading, by name; {} if that was less than ``every`` seconds ago."""
        now = time.monotonic()
        if now < self.due:
            return {}
        self.due = now + self.every
        try:
            found = self._processor()
        except Exception:  # psutil is missing, or /proc is not readable
            found = {}
        if self.thread is None:
            self.thread = threading.Thread(target=self._watch_gpus, name="gpus", daemon=True)
            self.thread.start()
        gpus, self.gpus = self.gpus, []
        return found | _means(gpus)

    def close(self) -> None:
        """Let the thread end; nobody waits for it."""
        self.stop.set()

    def _processor(self) -> dict[str, float]:
        import psutil

        first = self.process is None
        self.process = self.process or psutil.Process()
        load, own, memory = psutil.cpu_percent(), self.process.cpu_percent(), psutil.virtual_memory()
        found = {
            "system/system_memory_usage_percentage": round(100 * memory.used / memory.total, 1),
            "system/process_memory_megabytes": round(self.process.memory_info().rss / 1e6, 1),
        }
        if not first:  # the first answers are about no time
            found |= {"system/cpu_utilization_percentage": load, "system/process_cpu_percentage": own}
        return found

    def _watch_gpus(self) -> None:
        if shutil.which("nvidia-smi") is None:
            return
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        while found := read_gpus(visible):
            self.gpus.append(found)
            if self.stop.wait(self.every):
                return


def _means(readings: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for reading in readings for name in reading)
    values = {name: [reading[name] for reading in readings if name in reading] for name in names}
    return {name: round(sum(found) / len(found), 1) for name, found in values.items()}
