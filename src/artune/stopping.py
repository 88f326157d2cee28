"""A request to stop: SIGTERM, or the SIGUSR1 that SLURM sends ahead of a time limit (``--signal``)."""

import signal
from types import FrameType, TracebackType

from artune.launch import launch


class StopRequest:
    """Inside its ``with`` block the two signals only set :attr:`name`; whoever works looks at it between two steps."""

    SIGNALS = (signal.SIGTERM, signal.SIGUSR1)

    def __init__(self) -> None:
        self.name: str | None = None  # of the signal that came

    def __enter__(self) -> "StopRequest":
        self._handlers = {number: signal.signal(number, self._note) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and launch().size > 1:
            return  # torchrun's SIGTERM follows a death at once: it must not cut off what the others say of it
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
