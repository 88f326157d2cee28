"""Logs of a training: JSON lines are the record, and MLflow is a live view of them that may fail without harm."""

import contextlib
import json
import math
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from artune.config.glossary import renamed
from artune.errors import ArtuneError
from artune.runtime import fence
from artune.runtime.files import write_text
from artune.runtime.places import destination
from artune.runtime.progress import warn
from artune.tracking.addresses import shown
from artune.tracking.mlflow_run import MlflowRun, RunView
from artune.tracking.run_page import attach_page
from artune.tracking.sqlite_store import make_if_missing
from artune.tracking.usage import Usage

Number = float | None
LOGS = ("metrics.jsonl", "timings.jsonl", "system.jsonl")  # the third only where the load is read


def tracking_uri(configured: str) -> str:
    """Address of the MLflow store: ``MLFLOW_TRACKING_URI`` of the environment, otherwise ``configured``."""
    return os.environ.get("MLFLOW_TRACKING_URI", "").strip() or configured


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file, [] if there is no file; a last line that a kill cut short is left out.

    Metrics of older logs have their present names (:data:`artune.config.glossary.FORMER`).

    Raises:
        ArtuneError: an earlier line is damaged or has no ``iteration``.
    """
    if not path.exists():
        return []
    texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    lines: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        try:
            line = json.loads(text)
            if not isinstance(line, dict) or not isinstance(line.get("iteration"), int):
                raise ValueError("no iteration")
        except (ValueError, RecursionError) as error:
            if number == len(texts):
                break
            raise ArtuneError(f"{path}: line {number} is damaged ({error}); delete the file and train again") from error
        lines.append(renamed(line))
    return lines


def _clean(values: Mapping[str, float]) -> dict[str, Number]:
    """Plain floats in the given order; NaN and infinity, which JSON cannot hold, become None."""
    return {key: value if math.isfinite(value := float(number)) else None for key, number in values.items()}


class RunLogger:
    """Logs a training, one line per iteration, flushed at once.

    ``metrics.jsonl`` holds only numbers that a repetition on the same machine reproduces to the bit; seconds are in
    ``timings.jsonl``, and with ``usage`` the machine's load is in ``system.jsonl``, a line every few seconds. NaN and
    infinity are written as null. With a ``record`` a separate thread sends the same numbers to MLflow: a failure there
    gives one warning, and :func:`artune.tracking.mlflow_store.upsert` fills the gap later.

    Args:
        folder: folder of the files.
        record: the run in MLflow; None for files only.
        usage: the machine's load; None leaves it out.
    """

    def __init__(self, folder: Path, record: MlflowRun | None = None, usage: Usage | None = None):
        self.paths = tuple(folder / name for name in LOGS[: 2 if usage is None else 3])
        self.handles: list[TextIO] = []
        self.record, self.usage = record, usage
        self.view: LiveView | None = None

    def resume(self, iteration: int) -> None:
        """Cut each file, in one step, to the lines before ``iteration``; 0 empties all.

        Raises:
            ArtuneError: one is no regular file, or cannot be read or written.
        """
        self._close_files()
        for path in map(destination, self.paths):
            kept = [line for line in read_lines(path) if line["iteration"] < iteration]
            write_text(path, "".join(json.dumps(line, allow_nan=False) + "\n" for line in kept))

    def log(self, iteration: int, metrics: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        """Append the metrics and the seconds (``time/*`` keys) of an iteration.

        Raises:
            ArtuneError: a file cannot be written.
        """
        if self.record is not None and self.view is None:
            self.view = LiveView(self.record, fresh=iteration == 0)
        if not self.handles:
            fence.check()
            self.handles = [open(path, "a", encoding="utf-8") for path in self.paths]  # noqa: SIM115
        parts = [_clean(metrics), _clean(seconds)]
        if self.usage is not None:
            parts.append(_clean(self.usage.reading()))
        for at, (path, handle, values) in enumerate(zip(self.paths, self.handles, parts, strict=True)):
            if at == 2 and not values:  # no reading is due
                continue
            try:
                handle.write(json.dumps({"iteration": iteration, **values}, allow_nan=False) + "\n")
                handle.flush()
            except OSError as error:
                reason = error.strerror or error
                raise ArtuneError(
                    f"{path}: cannot be written ({reason}); make room and run again: it resumes from the last state"
                ) from error
        if self.view is not None:
            self.view.put(iteration, dict(pair for values in parts for pair in values.items()))

    def show(self, iteration: int, picture: Path) -> None:
        """Pass on a picture of samples after ``iteration``."""
        if self.view is not None:
            self.view.put(iteration, picture)

    def close(self, finished: bool = True) -> None:
        """Close the files and give MLflow a few seconds to take what is still queued."""
        self._close_files()
        if self.usage is not None:
            self.usage.close()
        if self.view is not None:
            self.view.close("FINISHED" if finished else "FAILED")
            self.view = None

    def _close_files(self) -> None:
        for handle in self.handles:
            with contextlib.suppress(OSError):  # a line that could not be flushed has raised an error already
                handle.close()
        self.handles = []


class LiveView:
    """A thread that sends the numbers of iterations to MLflow, in batches, until something fails.

    Args:
        record: the run in MLflow.
        fresh: whether the training starts at iteration 0, so that an older MLflow run of this name is another training.
        every: seconds between batches.
    """

    def __init__(self, record: MlflowRun, fresh: bool, every: float = 2.0):
        self.record, self.fresh, self.every = record, fresh, every
        self.queue: queue.SimpleQueue[tuple[int, dict[str, Number] | Path]] = queue.SimpleQueue()
        self.stop, self.failed, self.status = threading.Event(), False, "FINISHED"
        self.thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self.thread.start()

    def put(self, iteration: int, values: dict[str, Number] | Path) -> None:
        """Queue an iteration's numbers, or a picture; never waits."""
        if not self.failed:
            self.queue.put((iteration, values))

    def close(self, status: str, wait: float = 8.0) -> None:
        """Send what is queued and set the run's status; give up after ``wait`` seconds."""
        self.status = status
        self.stop.set()
        self.thread.join(wait)
        if self.thread.is_alive() and not self.failed:
            self.failed = True
            warn(f"MLflow at {shown(self.record.uri)} is too slow; all of {self.record.name} is in its metrics.jsonl")

    def _run(self) -> None:
        try:
            make_if_missing(self.record.uri)
            view = RunView(self.record, fresh=self.fresh)  # importing mlflow takes seconds; nobody waits for them here
            view.reopen()
            view.describe_experiment(self.record.experiment_tags)
            view.log_data()
            last = False
            while not last:
                last = self.stop.wait(self.every)
                points, pictures = self._waiting()
                view.add(points)
                view.show(pictures)
                if pictures and self.record.folder is not None:
                    attach_page(view, self.record.folder)
            view.finish(self.status)
        except Exception as error:  # no failure of the view may stop the training
            if not self.failed:
                self.failed = True
                warn(f"MLflow at {shown(self.record.uri)} failed, training goes on ({type(error).__name__}: {error})")

    def _waiting(self) -> tuple[list[tuple[str, float, int]], list[tuple[Path, int]]]:
        points, pictures = [], []
        while not self.queue.empty():
            iteration, values = self.queue.get()
            if isinstance(values, Path):
                pictures.append((values, iteration))
            else:
                points += [(key, value, iteration) for key, value in values.items() if value is not None]
        return points, pictures
