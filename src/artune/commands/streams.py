"""Standard output, standard error and the log file of a command: none of them ends the work when it breaks.

Any write may meet a reader that has left (``| head``), a full disk, a closed descriptor or an encoding that lacks a
letter. What is only told (progress, warnings) is then lost and the work goes on; what a command prints as its result is
an error if it cannot be printed (:func:`print_result`).
"""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from artune.errors import ArtuneError
from artune.runtime.places import destination

GONE = (errno.EPIPE, errno.ESHUTDOWN, errno.ECONNRESET)  # nobody will ever read this stream again


class NoReaderError(ArtuneError):
    """Whoever read standard output has left, as in ``artune show RUN | head -3``; nobody needs to be told."""


class LogFile:
    """The file of ``--log``, which rank 0 creates and all processes append to, unbuffered.

    A standard stream that was sent to the same file keeps what it holds: ``2> FILE --log FILE`` is one log.

    Raises:
        ArtuneError: the file cannot be opened, or is no regular file.
    """

    def __init__(self, path: Path, first: bool = True):
        self.path, self.told = path, False
        try:
            target = destination(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            same = [number for number in (1, 2) if self._is(number)]
            for number in same:  # else each would write over what the other has written
                fcntl.fcntl(number, fcntl.F_SETFL, fcntl.fcntl(number, fcntl.F_GETFL) | os.O_APPEND)
            self.doubled = 2 in same
            if first and not same:
                os.ftruncate(self.handle, 0)
        except OSError as error:
            raise ArtuneError(f"{path} cannot be written ({error.strerror})") from error

    def _is(self, number: int) -> bool:
        """Whether the descriptor ``number`` is this file."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(number), os.fstat(self.handle))
        return False

    def write(self, text: str) -> str:
        """Append ``text``, whole lines in place of a redrawn one; returns a warning the first time that this fails."""
        if self.doubled:
            return ""
        data = text.replace("\r\033[K", "\n").encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[os.write(self.handle, data) :]
        except OSError as error:
            if not self.told:
                self.told = True
                return f"warning: --log: {self.path} cannot be written ({error.strerror}); the work goes on\n"
        return ""

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):
            os.close(self.handle)


class Stream:
    """A text stream that remembers its last error instead of raising it, and may also write to a log file.

    Args:
        stream: standard output or standard error; None if its descriptor was closed when the process started.
        log: the file that gets the same text.
    """

    def __init__(self, stream: TextIO | None, log: LogFile | None = None):
        self.error: OSError | None = None
        if stream is None:
            self.error = OSError(errno.EBADF, "it is closed")
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        self.stream, self.log = stream, log

    def write(self, text: str) -> int:
        """Write ``text``; letters that the stream's encoding lacks appear as escape sequences."""
        if self.log is not None:
            text = self.log.write(text) + text if text else text
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        with self._remembering():
            self.stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Pass on what is buffered."""
        with self._remembering():
            self.stream.flush()

    def isatty(self) -> bool:
        """Whether a line of progress can be redrawn."""
        with contextlib.suppress(OSError, ValueError):
            return self.stream.isatty()
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @contextlib.contextmanager
    def _remembering(self) -> Iterator[None]:
        try:
            yield
        except ValueError:  # the stream was closed by the program itself
            self.error = OSError(errno.EBADF, "it is closed")
        except OSError as error:
            self.error = error
            if error.errno in GONE:
                discard(self.stream)


def discard(stream: TextIO | None) -> None:
    """Let the rest of what ``stream`` holds go nowhere; otherwise the interpreter ends with status 120 over it."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[union-attr]
        os.close(nowhere)


def fill_descriptors() -> None:
    """Open the null device in place of closed standard descriptors, which the next opened file would get instead."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number


def settle() -> None:
    """Flush the standard streams at the end of the process; what cannot be written is dropped."""
    for stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            discard(stream)
        if isinstance(stream, Stream) and stream.error is not None:
            discard(stream.stream)


def print_result(text: str, kept: Path | None = None) -> None:
    """Print a command's result on standard output.

    Args:
        text: the result.
        kept: the file that holds the result as well; then a warning is enough.

    Raises:
        NoReaderError: the reader has left and there is no such file.
        ArtuneError: standard output cannot be written for another reason and there is no such file.
    """
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
    error = getattr(sys.stdout, "error", None)
    if error is None:
        return
    if kept is None:
        raise lost(error)
    if error.errno not in GONE:
        sys.stderr.write(f"warning: standard output: {error.strerror}; the result is in {kept}\n")


def lost(error: OSError) -> ArtuneError:
    """The exception for a result that could not be printed."""
    kind = NoReaderError if error.errno in GONE else ArtuneError
    return kind(f"standard output cannot be written ({error.strerror}); the command printed nothing, or not all")
