"""Token codes of a data set: the training data of priors, of the likelihood baseline (Table 12) and of VA-pi."""

import hashlib
import itertools
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from artune.config.run import Data, Tokenizer
from artune.config.sizes import CROPS, crops_per_image
from artune.data.classes.folders import class_file
from artune.data.classes.labels import class_ids
from artune.data.crops import load_images, read, stacked, twenty_crops
from artune.data.embedded import SPLITS, load_split
from artune.data.imagenet import Split, open_split
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.models.tokenizers.build import load_tokenizer
from artune.runtime.distributed import ALONE, World
from artune.runtime.files import load_npz, read_json, replacing, save_npz, sha256, write_json
from artune.runtime.progress import Progress
from artune.runtime.seeds import generator_for


@dataclass(frozen=True)
class CropPlan:
    """How the crops of ImageNet's training images are encoded."""

    crops: int = CROPS  # crops kept per image, 1 to 20
    sequences: int | None = None  # what the longest training draws; no more crops are kept than it can use
    batch: int = 128  # crops per forward pass
    shard: int = 2048  # images per shard; an interruption loses at most one shard per process

    @property
    def images(self) -> int:
        """Images whose crops are encoded together."""
        return max(self.batch // self.crops, 1)


ALL_CROPS = CropPlan()


@torch.no_grad()
def encode_crops(tokenizer: nn.Module, crops: Tensor, batch: int, device: torch.device) -> np.ndarray:
    """Tokens int16 [N, C, T] (int32 above 32,768 codes) of crops uint8 [N, C, 3, H, W]; ``batch`` crops at a time."""
    parts = crops.flatten(0, 1).split(batch)
    tokens = torch.cat([tokenizer.encode(to_pixels(part.to(device))).cpu() for part in parts])
    small = tokenizer.codebook_size <= 2**15
    return tokens.to(torch.int16 if small else torch.int32).view(*crops.shape[:2], -1).numpy()


def chosen_crops(index: int, crops: int) -> Tensor:
    """Indices of those of the twenty crops of image ``index`` that are kept, drawn without replacement and sorted."""
    if crops == CROPS:
        return torch.arange(CROPS)
    return torch.randperm(CROPS, generator=generator_for("crops", index))[:crops].sort().values


def write_imagenet_codes(
    settings: Tokenizer,
    weights: Path,
    images: Path,
    output: Path,
    device: torch.device,
    data: Data,
    plan: CropPlan = ALL_CROPS,
    world: World = ALONE,
) -> str:
    """Write ``train_codes`` [N * crops, T] and ``train_labels`` [N * crops] of a split, as the MLE trainer reads them.

    LlamaGen's recipe draws one of the twenty crops (two ranges, ten crops each) of a random image; drawing a random
    row of this file is the same. With fewer ``plan.crops``, that many of an image's twenty crops are drawn once and
    kept: one is enough for a training that sees an image about once.

    The shards are kept beside ``output``, in a folder of its name with the suffix ``.shards``; several processes take
    them in turn. A later call encodes the shards that are missing, unless tokenizer, images or sizes have changed; then
    it starts again. The file depends on neither the processes nor interruptions.

    Args:
        settings: sizes of the tokenizer.
        weights: file of the tokenizer's weights.
        images: a split as :func:`artune.data.imagenet.open_split` takes it.
        output: npz file to write.
        device: device of the tokenizer.
        data: side of the images and number of classes.
        plan: crops per image, crops per forward pass and images per shard.
        world: the processes; rank 0 writes ``output``.

    Raises:
        ArtuneError: a damaged image or file, which the message names, another number of classes, or a ``plan.crops``
            that is not 1 to 20.
    """
    if not 1 <= plan.crops <= CROPS:
        raise ArtuneError(f"--crops: {plan.crops} is not 1 to {CROPS}")
    split = open_split(images, data.classes)
    if plan.sequences is not None:
        size = world.from_leader(_size(split) if world.leads else None)
        plan = replace(plan, crops=min(plan.crops, crops_per_image(plan.sequences, size)))
    folder = output.with_suffix(".shards")
    if world.leads:
        _keep_or_clear(folder, _written_with(weights, images, split, data.image_size, plan))
    tokenizer = load_tokenizer(weights, settings, data.image_size).to(device)
    _write_shards(folder, tokenizer, split, data.image_size, device, plan, world)
    world.wait()
    if not world.leads:
        return ""
    rows = _merge(folder, split.size, output)
    shutil.rmtree(folder)
    return f"{output}: {rows} sequences, {plan.crops} of each image"


def _written_with(weights: Path, images: Path, split: Split, side: int, plan: CropPlan) -> dict[str, Any]:
    """All that decides what a shard holds."""
    found = {
        "tokenizer": sha256(weights),
        "images": _first_image(images, split),
        "size": split.size,
        "side": side,
        "crops": plan.crops,
        "shard": plan.shard,
    }
    classes = class_file(images)
    return found | {"classes": sha256(classes)} if classes.exists() else found


def _size(split: Split) -> int:
    """Number of images of a split; those of a tar of tars are counted."""
    return split.size if split.size is not None else sum(1 for _ in split.records())


def _first_image(images: Path, split: Split) -> str:
    """Name of a split and digest of its first image: they tell two splits apart, also after a split was moved."""
    first = next(split.records(), None)
    return f"{images.name} {hashlib.sha256(read(first) if first else b'').hexdigest()}"


def _write_shards(
    folder: Path, tokenizer: nn.Module, split: Split, side: int, device: torch.device, plan: CropPlan, world: World
) -> None:
    """Encode the images whose shards are not in ``folder``; shard k falls to process k modulo their number.

    No forward pass holds images of two shards, so that a shard is the same whoever encodes it.
    """
    there = world.from_leader({int(path.stem) for path in _shards(folder)} if world.leads else None)

    def own(index: int) -> bool:
        shard = index // plan.shard
        return shard % world.size == world.rank and shard not in there

    progress = Progress("codes", split.size or split.classes, start=min(len(there) * plan.shard, split.size or 0))
    for shard, images in itertools.groupby(
        _kept_crops(split, side, plan.crops, own), lambda kept: kept[0] // plan.shard
    ):
        codes: list[np.ndarray] = []
        labels: list[int] = []
        while batch := list(itertools.islice(images, plan.images)):
            codes.append(encode_crops(tokenizer, stacked([crops for _, crops, _ in batch]), plan.batch, device))
            labels += [label for _, _, label in batch]
            if world.leads:  # the other processes are about as far
                progress.update(batch[-1][0] + 1 if split.size else labels[-1])
        save_npz(folder / f"{shard:06d}.npz", {"codes": np.concatenate(codes), "labels": np.array(labels)})


def _shards(folder: Path) -> list[Path]:
    """The whole shards in their order, without hidden files: a killed process leaves its unfinished one behind."""
    return sorted(folder.glob("[0-9]*.npz"))


def _kept_crops(
    split: Split, side: int, crops: int, own: Callable[[int], bool]
) -> Iterator[tuple[int, np.ndarray, int]]:
    """Number, kept crops, uint8 [C, side, side, 3], and class index of every image whose number ``own`` accepts."""
    records = Split(None, split.classes, lambda: (each for at, each in enumerate(split.records()) if own(at)))
    loaded = load_images(records, lambda image: twenty_crops(image, side))
    for (every, label), index in zip(loaded, filter(own, itertools.count()), strict=False):
        yield index, every[chosen_crops(index, crops).numpy()], label


def _keep_or_clear(folder: Path, settings: dict) -> None:
    """Delete the shards unless ``settings`` wrote them: those of other settings must never be merged with new ones."""
    note = folder / "settings.json"
    if folder.exists() and not (note.exists() and read_json(note) == settings):
        shutil.rmtree(folder)
    write_json(note, settings)


def _merge(folder: Path, images: int | None, output: Path) -> int:
    """Concatenate all shards into one npz without holding more than one of them; returns the number of rows.

    Raises:
        ArtuneError: a shard has gone, or they do not hold the codes of as many ``images`` (None: of any number).
    """
    shards = _shards(folder)
    labels = np.concatenate([np.empty(0, np.int64), *(load_npz(path, "labels")["labels"] for path in shards)])
    if [int(path.stem) for path in shards] != list(range(len(shards))) or images not in (None, len(labels)):
        raise ArtuneError(f"{folder}: a shard has gone; run the same command again")
    first = load_npz(shards[0], "codes", "labels")
    crops, length = first["codes"].shape[1:]
    rows = len(labels) * crops
    header = {
        "descr": np.lib.format.dtype_to_descr(first["codes"].dtype),
        "fortran_order": False,
        "shape": (rows, length),
    }
    with replacing(output) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
        with archive.open("train_codes.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for path in shards:
                member.write(load_npz(path, "codes")["codes"].tobytes())
        with archive.open("train_labels.npy", "w", force_zip64=True) as member:
            np.lib.format.write_array(member, np.repeat(labels, crops))
    return rows


def write_codes(tokenizer: Tokenizer, tokenizer_path: Path | str, data_path: Path | str, out_path: Path | str) -> str:
    """Write the tokens of every split: ``{split}_codes`` int64 [N, T] and ``{split}_labels`` int64 [N].

    Args:
        tokenizer: sizes of the tokenizer.
        tokenizer_path: file of the tokenizer's weights.
        data_path: npz file that :func:`artune.data.embedded.write_data` wrote.
        out_path: npz file to write.

    Returns:
        One line that says how evenly the codes are used.
    """
    arrays: dict[str, np.ndarray] = {}
    for split in SPLITS:
        images, labels = load_split(data_path, split)
        module = load_tokenizer(tokenizer_path, tokenizer, images.shape[-1])
        arrays |= {f"{split}_codes": encode_split(module, images).numpy(), f"{split}_labels": labels.numpy()}
    save_npz(out_path, arrays)
    counts = torch.bincount(torch.from_numpy(arrays["train_codes"]).flatten(), minlength=tokenizer.codebook_size)
    share = counts / counts.sum()
    perplexity = torch.special.entr(share).sum().exp().item()
    return f"codes  {int((counts > 0).sum())} of {len(counts)} used, perplexity {perplexity:.0f}"


@torch.no_grad()
def encode_split(tokenizer: nn.Module, images: Tensor, batch: int = 200) -> Tensor:
    """Tokens [N, T] int64 of uint8 images [N, 3, H, W], encoded ``batch`` at a time."""
    return torch.cat([tokenizer.encode(to_pixels(part)) for part in images.split(batch)])


def load_codes(path: Path | str, split: str, classes: int | None = None) -> tuple[Tensor, Tensor]:
    """Tokens [N, T] and labels [N] of a split, int64, as :func:`write_codes` wrote them.

    Args:
        path: npz file of codes.
        split: name of the split.
        classes: number of classes of the policy; the label ``classes`` would be its null class, without a word.

    Raises:
        ArtuneError: an unknown split, labels that are not class ids, or a file that is missing or damaged.
    """
    if split not in SPLITS:
        raise ArtuneError(f"split: unknown {split!r}; choose one of {', '.join(SPLITS)}")
    arrays = load_npz(path, f"{split}_codes", f"{split}_labels")
    codes, name = arrays[f"{split}_codes"], f"{split}_labels"
    return torch.from_numpy(codes), torch.from_numpy(class_ids(arrays[name], len(codes), classes, f"{path}: {name}"))
