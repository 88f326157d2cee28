"""The command line: from words to an exit status."""

import importlib
import os
import sys
import time
from argparse import Namespace
from collections.abc import Sequence

from artune.commands.arguments import COMMANDS, parse_words
from artune.commands.streams import LogFile, NoReaderError, Stream, lost
from artune.errors import ArtuneError, SharedError, StoppedError, no_such_file, not_installed, without_secrets
from artune.runtime.places import destination
from artune.runtime.processes import Launch, foreign, launch
from artune.runtime.progress import say

NO_READER = 141  # status that a shell reports for SIGPIPE: nobody reads standard output any more
WRITTEN = ("output", "grid", "log", "votes")  # options that name a file to write
# Files that a command writes beside --output: names, or suffixes in place of its own.
BESIDE = {
    "train": "metrics.jsonl timings.jsonl manifest.json training/metrics.jsonl training/timings.jsonl",
    "table": ".md .tex",
    "figure": ".png",
    "claims": ".json",
    "score": ".csv",
    "bench": "manifest.json",
}
SEVERAL = ("train", "sample", "features", "codes")  # commands that torchrun may start with several processes


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its status.

    0 means that all outputs are there. Bad input: 2, with one line on standard error; a stopped command: 143,
    or 129 after SIGHUP; a result that nobody reads: 141. Progress that cannot be shown or logged changes nothing.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = Stream(sys.stdout), Stream(sys.stderr)  # type: ignore[assignment]
    out, err = sys.stdout, sys.stderr
    try:
        status: int = run_command(sys.argv[1:] if argv is None else argv)
    except SystemExit as ended:  # argparse has printed its help, or what is wrong with the words
        status = ended.code if isinstance(ended.code, int) else 2
        out.flush()
        if status == 0 and (error := out.error) is not None:  # type: ignore[attr-defined]
            status = report(lost(error), launch())
    out.flush()
    err.flush()
    sys.stdout, sys.stderr = before  # not after a traceback, which belongs into the log as well
    if (log := err.log) is not None:  # type: ignore[attr-defined]
        log.close()
    return status


def run_command(words: Sequence[str]) -> int:
    """Carry out a command line and return the status; errors are told in one line. Raises SystemExit: see argparse."""
    began, here = time.monotonic(), launch()
    try:
        line = carry_out(parse_words(words), here)
    except (ArtuneError, OSError, KeyboardInterrupt) as error:
        return report(error, here)
    if here.rank == 0:
        sys.stderr.write(f"{without_secrets(line)} ({time.monotonic() - began:.1f} s)\n")
    return 0


def carry_out(arguments: Namespace, here: Launch) -> str:
    """Call the command's function; returns the last line. Raises ArtuneError: see the command."""
    if here.size > 1 and arguments.command not in SEVERAL:
        raise ArtuneError(f"{arguments.command}: runs in one process; start it without torchrun")
    check_outputs(arguments)
    if arguments.log is not None:
        try:
            sys.stderr.log = LogFile(arguments.log, first=here.rank == 0)  # type: ignore
        except ArtuneError as error:
            raise ArtuneError(f"--log: {error}") from error
    if (reason := foreign()) is not None:
        say(f"note: {reason}; this is one process")
    os.environ["MPLBACKEND"] = "agg"  # figures are files; a notebook's or an unknown backend would end the import
    with_threads(arguments.threads and here.threads(arguments.threads))
    from artune.commands.context import Context  # imported here because --help reads no configuration

    try:
        module = importlib.import_module(f"artune.commands.{COMMANDS[arguments.command].module}")
        return f"{arguments.command}: {getattr(module, arguments.command)(Context(arguments), arguments)}"
    except ModuleNotFoundError as error:
        raise not_installed(arguments.command, error.name or "") or error from error


def check_outputs(arguments: Namespace) -> None:
    """Look at every file that is to be written before any work is done. Raises SharedError: one is no regular file."""
    for option in WRITTEN:
        path = getattr(arguments, option, None)
        if path is None:
            continue
        further = BESIDE.get(arguments.command, "").split() if option == "output" and path.name else []
        for place in (path, *(path.with_suffix(o) if o.startswith(".") else path.parent / o for o in further)):
            try:
                destination(place)
            except ArtuneError as error:
                raise SharedError(f"--{option}: {error}") from error


def report(error: BaseException, here: Launch) -> int:
    """Tell an error in one line on standard error and return the status of the command.

    Raises:
        OSError: the error is not the answer of the operating system to a request, so that it needs its traceback.
    """
    rank = f" (rank {here.rank})" if here.size > 1 else ""
    if isinstance(error, KeyboardInterrupt):
        sys.stderr.write("interrupted; the same command continues from the last saved state\n")
        return 130
    if isinstance(error, OSError):
        if error.strerror is None:
            raise error
        what = f"{error.filename}: " if error.filename is not None else ""
        missing = isinstance(error, FileNotFoundError) and isinstance(error.filename, str)
        error = no_such_file(error.filename) if missing else ArtuneError(f"{what}{error.strerror}")
    if isinstance(error, NoReaderError):
        return NO_READER
    if isinstance(error, StoppedError):
        if here.rank == 0:
            sys.stderr.write(f"stopped: {error}\n")
        return error.status
    if here.rank == 0 or not isinstance(error, SharedError):
        sys.stderr.write(f"error{rank}: {error}\n")
    return 2


def with_threads(threads: int | None) -> None:
    """Set the thread count before torch is imported."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
