"""The parts of the suite in their order, and what each part is given. Imports torch only where it is used."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artune.config.registry import Registry

if TYPE_CHECKING:
    import torch

    from artune.bench.measure import Request

IMAGES_ON_CPU = 4  # images per batch on a CPU, where the suite is a test of itself
SHARE = 36  # images of each of four processes in an iteration of 144
BACKBONE = "llamagen_l"
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """A part of the suite; the function ``run`` of the module of the same name carries it out."""

    name: str
    limit: float | None  # seconds; None: all that are left
    summary: str


PARTS = (
    Part("kernels", 40, "attention kernels that are taken, and forced ones beside them"),
    Part("decoder", 60, "recorded decoding steps: seconds per recording, difference from the plain path"),
    Part("generation", 40, "seconds of drawing tokens with a decoder that is kept, with and without CUDA graphs"),
    Part("iteration", 150, "iterations of LlamaGen-L, memory beside the plan, host copy and saved state"),
    Part("layouts", 40, "decoding of images: two number formats, two layouts of memory"),
    Part("memory", 90, "an iteration each on cards of 80 and 40 GB, made of a larger one by a ballast tensor"),
    Part("processes", 40, "gloo and NCCL in a world of one, a recording after a sum, a saved state that goes on"),
    Part("samples", None, "chunks of samples with their features"),
)


@dataclass
class Suite:
    """What a part is given: sizes, device, a folder for further files, and :meth:`note` for its results."""

    registry: Registry
    device: "torch.device"
    folder: Path
    send: Callable[[Row], None]
    ends: float = math.inf  # time.monotonic() at which the part is stopped
    rows: list[Row] = field(default_factory=list)

    @property
    def small(self) -> bool:
        """Whether sizes are small because the device is a CPU."""
        return self.device.type == "cpu"

    def left(self) -> float:
        """Seconds until the part is stopped."""
        return self.ends - time.monotonic()

    def note(self, row: Row) -> None:
        """Keep a row of results; it is printed and written even if the part does not come to its end."""
        self.rows.append(row)
        self.send({key: _plain(value) for key, value in row.items()})

    def request(self, backbone: str = BACKBONE, images: int | None = None, repeats: int = 3) -> "Request":
        """Sizes of a measurement; None: the scale's images. On a CPU :data:`IMAGES_ON_CPU` images and one repeat."""
        from artune.bench.measure import Request

        images, repeats = (IMAGES_ON_CPU, 1) if self.small else (images, repeats)
        return Request(self.registry, self.device, backbone, images=images, repeats=repeats)


def _plain(value: Any) -> Any:
    """A value that JSON can hold: NaN and infinity become text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
