"""Reads images, crops them and puts the crops into batches: ADM's centre crop, LlamaGen's ten and twenty crops."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from artune.data.imagenet import Record, Split
from artune.data.reading.images import decode
from artune.errors import ArtuneError
from artune.runtime.progress import Progress

RANGES = (1.1, 1.05)  # LlamaGen's two ranges: side of the square from which ten crops are cut, over the crop's side
Prepared = TypeVar("Prepared")


def open_image(record: Record) -> Image.Image:
    """The RGB image of a record. Raises ArtuneError, which names it, if it is damaged or cannot be read."""
    return decode(record.name, read(record))


def load_images(
    split: Split, prepare: Callable[[Image.Image], Prepared], start: int = 0, workers: int | None = None
) -> Iterator[tuple[Prepared, int]]:
    """Yield ``(prepare(image), class index)`` in the split's order from image ``start`` on.

    Images before ``start`` are not read. ``workers`` threads prepare the images; None: as many threads as PyTorch has,
    which are this process' part of ``--threads``.

    Raises:
        ArtuneError: a damaged image or archive; the message names it.
    """

    def work(name: str, data: bytes) -> Prepared:
        return prepare(decode(name, data))

    workers = workers or torch.get_num_threads()
    waiting: deque[tuple[Future[Prepared], int]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for record in itertools.islice(split.records(), start, None):
            waiting.append((pool.submit(work, record.name, read(record)), record.label))
            if len(waiting) > 2 * workers:
                future, label = waiting.popleft()
                yield future.result(), label
        while waiting:
            future, label = waiting.popleft()
            yield future.result(), label


def read(record: Record) -> bytes:
    """The bytes of a record. Raises ArtuneError, which names it, if they cannot be read."""
    try:
        return record.read()
    except (OSError, MemoryError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise ArtuneError(f"{record.name}: cannot be read ({reason}); fetch it again") from error


def centre_crop(image: Image.Image, side: int) -> Image.Image:
    """ADM's crop: halve (box filter) while the short side is at least 2 ``side``, then bicubic, then cut the centre."""
    while min(image.size) >= 2 * side:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = side / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side))


def ten_crop(image: Image.Image, side: int, scale: float) -> np.ndarray:
    """Crops at corners and centre, then the same of the mirrored image: uint8 [10, side, side, 3].

    The crops are cut from the ADM crop whose side is ``scale`` times ``side``, rounded down.
    """
    square = np.asarray(centre_crop(image, int(side * scale)))
    last = len(square) - side
    middle = round(last / 2)
    places = ((0, 0), (0, last), (last, 0), (last, last), (middle, middle))
    both = (square, square[:, ::-1])
    return np.stack([view[top : top + side, left : left + side] for view in both for top, left in places])


def twenty_crops(image: Image.Image, side: int) -> np.ndarray:
    """LlamaGen's training crops, :func:`ten_crop` at both ranges: uint8 [20, side, side, 3]."""
    return np.concatenate([ten_crop(image, side, scale) for scale in RANGES])


def centre_crops(split: Split, side: int) -> Iterator[tuple[np.ndarray, int]]:
    """ADM's crop, uint8 [side, side, 3], and the class index of every image of a split.

    Raises:
        ArtuneError: a damaged image or archive; the message names it.
    """
    return load_images(split, lambda image: np.asarray(centre_crop(image, side)))


def crop_batches(
    crops: Iterable[tuple[np.ndarray, int]],
    split: Split,
    batch: int,
    label: str,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a split's images, with a progress line that advances once a batch has been used.

    Args:
        crops: one entry per image of ``split`` in its order: the image's crop, uint8 [side, side, 3], and its class
            index.
        split: the split of the crops; its size is the total of the progress line.
        batch: images per batch.
        label: text of the progress line.

    Yields:
        The crops, uint8 [B, 3, side, side] with the channels last in memory, and the class indices, int64 [B].
    """
    progress = Progress(label, split.size or split.classes)
    waiting: list[np.ndarray] = []
    labels: list[int] = []
    for number, (crop, class_index) in enumerate(crops, 1):
        waiting.append(crop)
        labels.append(class_index)
        if len(waiting) == batch:
            yield stacked(waiting), torch.tensor(labels)
            waiting, labels = [], []
        progress.update(number if split.size else class_index)
    if waiting:
        yield stacked(waiting), torch.tensor(labels)


def stacked(crops: list[np.ndarray]) -> Tensor:
    """Crops uint8 [..., side, side, 3] of B images as one [B, ..., 3, side, side], channels last in memory."""
    return torch.from_numpy(np.stack(crops)).movedim(-1, -3)
