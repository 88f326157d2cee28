"""``python -m artune``."""

import gc
import sys
import traceback
from types import TracebackType

from artune.commands.cli import main
from artune.commands.streams import fill_descriptors, settle
from artune.errors import without_secrets
from artune.runtime.processes import keep_memory


def report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an error that nobody expected, without the passwords of addresses that it quotes."""
    sys.stderr.write(without_secrets("".join(traceback.format_exception(kind, error, trace))))


def run() -> None:
    """Run the command line as a process of its own.

    The imports of a command create a million objects and no garbage. With Python's default thresholds the collector
    searches every few hundred new objects, and all objects again at exit: a second of a command that lasts ten. An
    iteration of GRPO leaves no reference cycles.
    """
    gc.set_threshold(50_000, 10, 10)
    keep_memory()
    sys.excepthook = report
    fill_descriptors()
    try:
        status = main()
        gc.freeze()
        sys.exit(status)
    finally:
        settle()


if __name__ == "__main__":
    run()
