"""The file of pairs: a zip of PNG images under meaningless names, and ``pairs.json``, which says what each image is."""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from artune.config.fields import Frozen
from artune.config.tables import TASKS, Task
from artune.config.yaml_layers import parse
from artune.errors import ArtuneError, no_such_file
from artune.runtime.files import replacing
from artune.runtime.outside.arrays import BAD_NPZ
from artune.runtime.outside.zips import open_zip

SIDES = {"pair": ("ours", "pretrained"), "check": ("real", "scrambled")}  # the two images of an item, per kind
CONTENT = "pairs.json"
MOST_BYTES = 50_000_000  # of a member; pairs.json of a thousand pairs has 1 MB
EPOCH = (1980, 1, 1, 0, 0, 0)  # earliest time of a zip; a fixed time makes equal contents equal bytes


class Item(Frozen):
    """Two images to choose from: a pair of the study, or an attention check (a real image and its scrambled copy)."""

    id: str
    kind: Literal["pair", "check"]
    setting: str  # "" for a check
    task: Task
    class_id: int
    draw: int  # row in the samples of the setting, the same for both images
    left: str  # the side shown on the left to raters of even number; it is on the right for the others
    images: dict[str, str]  # side -> name of its PNG
    references: tuple[str, ...] = ()  # PNGs of real images, shown with Ref. Match
    shared: bool = False  # whether every rater sees it in the first session

    @model_validator(mode="after")
    def _sides_fit(self) -> "Item":
        if tuple(self.images) != SIDES[self.kind] or self.left not in self.images:
            raise ValueError(f"{self.id}: images and left must be of {' and '.join(SIDES[self.kind])}")
        return self

    def right(self) -> str:
        """The side shown on the right to raters of even number."""
        return next(side for side in self.images if side != self.left)


class Pairs(Frozen):
    """``pairs.json``: all items, in the random order that was drawn, and the rules of a session."""

    scale: str
    note: str
    seed: int = Field(ge=0)
    session: int = Field(gt=0)
    check_every: int = Field(gt=0)
    check_share: float = Field(ge=0, le=1)
    items: tuple[Item, ...]

    def of_kind(self, kind: str) -> list[Item]:
        """The items that are ``pair`` or ``check``."""
        return [item for item in self.items if item.kind == kind]

    def totals(self) -> dict[str, dict[str, int]]:
        """Setting -> task -> pairs."""
        found: dict[str, dict[str, int]] = {}
        for item in self.of_kind("pair"):
            tasks = found.setdefault(item.setting, dict.fromkeys(TASKS, 0))
            tasks[item.task] += 1
        return found

    def digest(self) -> str:
        """Fingerprint of all items; as images are named by their contents, it covers them as well."""
        text = json.dumps([item.model_dump() for item in self.items], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def image_name(png: bytes) -> str:
    """A PNG's name in the file, a digest of its contents: it reveals nothing, and no image is stored twice."""
    return hashlib.sha256(png).hexdigest()[:24]


def write_pairs(path: Path, pairs: Pairs, images: Mapping[str, bytes]) -> None:
    """Write the file of pairs in one step; the same contents give the same bytes."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(CONTENT, EPOCH), pairs.model_dump_json(indent=1))
        for name in sorted(images):
            archive.writestr(zipfile.ZipInfo(f"images/{name}.png", EPOCH), images[name])


class PairFile:
    """A file of pairs, open for reading; several threads may read at once.

    Raises:
        ArtuneError: the file is missing, damaged, or lacks an image that it names.
    """

    def __init__(self, path: Path):
        self.path = path
        if not path.exists():
            raise no_such_file(path, "`snakemake -c2 results/mnist/study/pairs.zip` makes such a file")
        try:
            self.archive = open_zip(path)
            content = json.loads(self._read(CONTENT))
        except BAD_NPZ as error:
            raise ArtuneError(f"{path}: not a file of pairs, or damaged ({error}); delete it and run again") from error
        self.pairs = parse(Pairs, content, str(path))
        self.digest = self.pairs.digest()
        named = {name for item in self.pairs.items for name in (*item.images.values(), *item.references)}
        if missing := named - {Path(name).stem for name in self.archive.namelist()}:
            raise ArtuneError(f"{path}: lacks {len(missing)} of its images; delete it and run again")

    def png(self, name: str) -> bytes:
        """The image called ``name``. Raises ArtuneError if it is damaged."""
        try:
            return self._read(f"images/{name}.png")
        except BAD_NPZ as error:
            raise ArtuneError(f"{self.path}: image {name} is damaged ({error}); delete it and run again") from error

    def _read(self, name: str) -> bytes:
        """A member of the archive. Raises ValueError: it claims more than :data:`MOST_BYTES`."""
        if (size := self.archive.getinfo(name).file_size) > MOST_BYTES:
            raise ValueError(f"{name} has {size:,} bytes; at most {MOST_BYTES:,} are read")
        return self.archive.read(name)
