"""The command line: from words to an exit status."""

import importlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from artune.commands.arguments import COMMANDS, parse_words
from artune.errors import ArtuneError, SharedError, StoppedError
from artune.runtime.processes import launch

STOPPED = 143  # status that a shell reports for a process that SIGTERM ended
SEVERAL = ("train", "sample", "features")  # commands that torchrun may start with several processes


class Tee:
    """Standard error that is also written to a log file, which rank 0 creates and all processes append to."""

    def __init__(self, path: Path, first: bool = True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if first:
            path.write_text("", encoding="utf-8")
        self.terminal, self.file = sys.stderr, open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, text: str) -> int:
        """Write to both; the log gets whole lines in place of a redrawn line."""
        self.file.write(text.replace("\r\033[K", "\n"))
        return self.terminal.write(text)

    def flush(self) -> None:
        """Flush both."""
        self.file.flush()
        self.terminal.flush()

    def isatty(self) -> bool:
        """Whether a line of progress can be redrawn."""
        return self.terminal.isatty()


def open_log(path: Path) -> Tee:
    """Standard error, also written to ``path``."""
    try:
        return Tee(path, first=launch().rank == 0)
    except OSError as error:
        raise ArtuneError(f"--log: {path} cannot be written ({error.strerror})") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its status; bad input: 2, with one line on standard error; a stopped command: 143."""
    began, here = time.monotonic(), launch()
    try:
        arguments = parse_words(sys.argv[1:] if argv is None else argv)
        if here.size > 1 and arguments.command not in SEVERAL:
            raise ArtuneError(f"{arguments.command}: runs in one process; start it without torchrun")
        if arguments.log is not None:
            sys.stderr = open_log(arguments.log)  # type: ignore[assignment]
        with_threads(arguments.threads and here.threads(arguments.threads))
        from artune.commands.context import Context  # imported here because --help reads no configuration

        module = importlib.import_module(f"artune.commands.{COMMANDS[arguments.command].module}")
        line = getattr(module, arguments.command)(Context(arguments), arguments)
    except StoppedError as error:
        if here.rank == 0:
            sys.stderr.write(f"stopped: {error}\n")
        return STOPPED
    except ArtuneError as error:
        if here.rank == 0 or not isinstance(error, SharedError):
            sys.stderr.write(f"error{f' (rank {here.rank})' if here.size > 1 else ''}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command continues from the last saved state\n")
        return 130
    except BrokenPipeError:
        return 0
    finally:
        sys.stderr.flush()
    if here.rank == 0:
        sys.stderr.write(f"{arguments.command}: {line} ({time.monotonic() - began:.1f} s)\n")
    return 0


def with_threads(threads: int | None) -> None:
    """Set the thread count before torch is imported."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
