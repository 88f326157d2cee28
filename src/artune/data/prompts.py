"""Class names and prompts of a data set."""

import hashlib

from artune.config.run import Data
from artune.errors import ArtuneError


def class_names(data: Data) -> tuple[str, ...]:
    """One name per class, in the order of the ids: the configured names, otherwise ImageNet's first aliases.

    Raises:
        ArtuneError: the number of names is not the number of classes.
    """
    names = data.class_names
    if not names and data.source == "imagenet":
        from torchvision.models import Inception_V3_Weights

        names = tuple(Inception_V3_Weights.IMAGENET1K_V1.meta["categories"])  # open choice 28
    if len(names) != data.classes:
        raise ArtuneError(f"data.class_names: {len(names)} names for {data.classes} classes")
    return tuple(names)


def prompts(data: Data) -> tuple[str, ...]:
    """One prompt per class, e.g. ``a photo of tench`` (Sec. 3.2)."""
    return tuple(data.prompt.format(name) for name in class_names(data))


def prompts_digest(data: Data) -> str:
    """SHA-256 of the prompts, one per line; other names or another template change the values of CLIP and HPS."""
    return hashlib.sha256("\n".join(prompts(data)).encode()).hexdigest()
