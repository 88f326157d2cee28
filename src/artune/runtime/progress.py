"""Lines that tell how far long work is: one redrawn line on a terminal, a new line every few seconds elsewhere.

A line that cannot be written (the reader has left, the disk is full, the stream is closed) is never an error.
"""

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from artune.errors import cut, without_secrets


class Progress:
    """Progress of ``total`` steps of ``label``.

    On a terminal the line is redrawn; elsewhere (logs, several Snakemake jobs at once) a line is printed at most
    every ``every`` seconds, so parallel stages do not garble each other.
    """

    def __init__(self, label: str, total: int, start: int = 0, every: float = 15.0, stream: TextIO | None = None):
        self.label, self.total, self.start, self.every = label, total, start, every
        self.stream = stream or sys.stderr
        self.began = self.printed = time.monotonic()
        self.tty = False
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.tty = self.stream.isatty()

    def update(self, done: int, note: str = "") -> None:
        """Report that ``done`` steps of the total are finished; ``note`` holds further numbers to show."""
        now = time.monotonic()
        last = done >= self.total
        if now - self.printed < (0.2 if self.tty else self.every) and not last:
            return
        self.printed = now
        pace = (now - self.began) / max(done - self.start, 1)
        text = f"{self.label}  {done}/{self.total}  {note}  {pace:.2f} s/it  {pace * (self.total - done):.0f} s left"
        tell(f"\r\033[K{text}" + ("\n" if last else "") if self.tty else text + "\n", self.stream)


def track(items: Iterable, label: str, total: int) -> Iterator:
    """Iterate over ``items`` and report each as one step."""
    progress = Progress(label, total)
    for done, item in enumerate(items, start=1):
        yield item
        progress.update(done)


def tell(text: str, stream: TextIO | None = None) -> None:
    """Write ``text`` to ``stream`` (default: standard error) at once, if that is possible."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # AttributeError: Python started without a stderr
        stream = stream or sys.stderr
        stream.write(text)
        stream.flush()


def say(line: str) -> None:
    """Print a line on standard error, for something that is decided once."""
    tell(f"{without_secrets(line)}\n")


def warn(text: str) -> None:
    """Print a warning as one line on standard error, whatever ``text`` holds; passwords in addresses are left out."""
    line = without_secrets(" ".join(cut(text, 20_000).split()))
    tell(f"warning: {line if len(line) <= 300 else line[:297] + '...'}\n")
