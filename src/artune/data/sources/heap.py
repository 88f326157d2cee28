"""Images with their labels, before they are cut into splits."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Heap:
    """All images of a data set, or of its official test set."""

    labels: np.ndarray  # class indices, [N]
    images: Callable[[np.ndarray], np.ndarray]  # indices [n] -> uint8 [n, H, W, C], in their order
    where: str = ""  # " in FILE", for the message of a class with too few images
