"""Runs the parts of the suite in order, each within its limit, and keeps what is there after every part.

All parts run in one process as long as it lives. A part that does not stop by itself at its limit is killed with its
process, and the next part gets a new one; so does the part after a crash. Never imports torch.
"""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from artune.bench.suite.parts import PARTS, Part, Row
from artune.bench.suite.report import cell, main_number, tables, to_markdown
from artune.errors import ArtuneError, unknown
from artune.runtime.files import read_json, write_json, write_text
from artune.runtime.progress import say

LIMIT = 840.0  # seconds for all parts together
GRACE = 20.0  # seconds beyond its limit after which a part is killed; before that it is asked to stop
STARTING = 180.0  # seconds for a process to import torch and find its device
LEAST = 5.0  # seconds that a part must have left to be begun
SAME = ("device", "code", "torch")  # earlier results are kept beside new ones if these are the same


@dataclass
class Result:
    """The result of a part: ``ok``, or ``failed``, ``over its limit`` or ``left out`` with the reason."""

    name: str
    summary: str
    status: str = "ok"
    reason: str = ""
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)


class Worker:
    """A process that runs parts; see :func:`artune.bench.suite.worker.work`.

    Args:
        place: gives the registry and the device; it must be picklable.
        folder: folder of the results.

    Raises:
        ArtuneError: the process cannot use the device, or does not start.
    """

    def __init__(self, place: Callable[[], Any], folder: Path):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, place, folder), daemon=True)
        self.process.start()
        theirs.close()
        answer = self._answer(STARTING)
        if answer is None or answer[0] != "about":
            reason = "it did not start" if answer is None else answer[1]
            self.end()
            raise ArtuneError(f"bench suite: {reason}")
        self.about: dict[str, Any] = answer[1]
        self.sound = True

    def run(self, part: Part, seconds: float) -> Result:
        """Run a part for at most ``seconds``; afterwards :attr:`sound` says whether the process can run another."""
        result, began = Result(part.name, part.summary), time.monotonic()
        with contextlib.suppress(OSError):  # a process that has ended in between gives no answer either
            self.pipe.send((part.name, seconds))
        while (answer := self._answer(began + seconds + GRACE - time.monotonic())) and answer[0] == "row":
            result.rows.append(answer[1])
            cells = (f"{key} {cell(value)}" for key, value in answer[1].items() if value is not None)
            say(f"  {part.name}: {', '.join(cells)}")
        if answer:
            _, result.status, result.reason, self.sound = answer
        else:
            late, self.sound = time.monotonic() > began + seconds, False
            self.end()
            ended = f"its process ended with status {self.process.exitcode}"
            result.status = "over its limit" if late else "failed"
            result.reason = f"killed after {time.monotonic() - began:.0f} s" if late else ended
        result.seconds = time.monotonic() - began
        return result

    def _answer(self, seconds: float) -> tuple[Any, ...] | None:
        """The next answer; None if none comes in time or the process has ended."""
        try:
            return self.pipe.recv() if self.pipe.poll(max(seconds, 0.0)) else None
        except (EOFError, OSError):
            self.process.join(GRACE)
            return None

    def end(self) -> None:
        """End the process, which a kernel that hangs keeps from ending by itself."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(GRACE)
        self.pipe.close()


def _work(*arguments: Any) -> None:
    """Import torch in the new process only."""
    from artune.bench.suite.worker import work

    work(*arguments)


def run_suite(
    place: Callable[[], Any],
    output: Path,
    names: Sequence[str] = (),
    limit: float | None = None,
    show: Callable[[str], None] = say,
) -> str:
    """Run parts of the suite and write ``output`` (JSON) and a Markdown file beside it after each of them.

    Args:
        place: gives the registry and the device in the process that computes; it must be picklable.
        output: suite.json; results of other parts that it holds are kept if code, torch and device are the same.
        names: parts to run; none: all. A part that runs alone may take the whole ``limit``.
        limit: seconds for all parts together; None: :data:`LIMIT`.
        show: prints the tables of a part as soon as it has ended.

    Returns:
        One line: what was written and the seconds per iteration.

    Raises:
        ArtuneError: a part is unknown or was not ``ok``, or the device cannot be used.
    """
    parts, limit = chosen(names), LIMIT if limit is None else limit
    earlier = read_json(output) if output.exists() else {}
    began = time.monotonic()
    worker: Worker | None = None
    about: dict[str, Any] = {}
    results: list[Result] = []
    for part in parts:
        try:
            left = limit - (time.monotonic() - began)
            if worker is None and (left >= LEAST or not about):
                worker = Worker(place, output.parent)
                about = about or worker.about
                left = limit - (time.monotonic() - began)
            allowed = left if part.limit is None or len(parts) == 1 else min(part.limit, left)
            if worker is None or left < LEAST:
                result = Result(part.name, part.summary, "left out", f"{limit:.0f} s are over")
            else:
                say(f"== {part.name} ({part.summary}), at most {allowed:.0f} s")
                result = worker.run(part, allowed)
        except ArtuneError as error:
            if not results:
                raise
            result = Result(part.name, part.summary, "failed", str(error))
        results.append(result)
        if worker is not None and not worker.sound:
            worker.end()
            worker = None
        show(f"== {part.name}: {result.status}, {result.seconds:.1f} s {result.reason}".rstrip())
        show(tables(result.rows))
        write(output, about, results, earlier, time.monotonic() - began)
    if worker is not None:
        worker.end()
    bad = [f"{result.name} {result.status} ({result.reason})" for result in results if result.status in BAD]
    good = sum(result.status == "ok" for result in results)
    line = f"{output}: {good} of {len(results)} parts ok{main_number([asdict(result) for result in results])}"
    if bad:
        raise ArtuneError(f"bench suite: {line}; {'; '.join(bad)}")
    return line


BAD = ("failed", "over its limit")


def chosen(names: Sequence[str]) -> list[Part]:
    """The parts called ``names``, in the order of the suite. Raises ArtuneError: there is no such part."""
    known = [part.name for part in PARTS]
    for name in names:
        if name not in known:
            raise ArtuneError(f"--parts: {unknown(name, known, 'part')}")
    return [part for part in PARTS if not names or part.name in names]


def write(
    output: Path, about: dict[str, Any], results: Sequence[Result], earlier: dict[str, Any], seconds: float
) -> None:
    """Write the JSON file and the Markdown file beside it; ``earlier`` results of other parts are kept if they fit."""
    found = {result.name: asdict(result) for result in results}
    if all(earlier.get("about", {}).get(key) == about.get(key) for key in SAME):
        found = {part["name"]: part for part in earlier.get("parts", [])} | found
    parts = [found[part.name] for part in PARTS if part.name in found]
    whole = {"weights": "random", "about": about, "seconds": seconds, "parts": parts}
    write_json(output, whole)
    write_text(output.with_suffix(".md"), to_markdown(whole))
