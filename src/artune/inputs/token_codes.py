"""Token codes of a data set: the training data of priors, of the likelihood baseline (Table 12) and of VA-pi."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artune.config.run import Data, Tokenizer
from artune.data.classes.folders import class_file
from artune.data.classes.labels import class_ids
from artune.data.crops import crop_batches, load_images, read, twenty_crops
from artune.data.embedded import SPLITS, load_split
from artune.data.imagenet import Split, open_split
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.models.tokenizers.build import load_tokenizer
from artune.runtime.files import load_npz, read_json, replacing, save_npz, sha256, write_json
from artune.runtime.seeds import generator_for

CROPS = 20


@dataclass(frozen=True)
class CropPlan:
    """How the crops of ImageNet's training images are encoded."""

    crops: int = CROPS  # crops kept per image, 1 to 20
    batch: int = 128  # crops per forward pass
    shard: int = 2048  # images per shard; an interruption loses at most one shard

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
) -> str:
    """Write ``train_codes`` [N * crops, T] and ``train_labels`` [N * crops] of a split, as the MLE trainer reads them.

    LlamaGen's recipe draws one of the twenty crops (two ranges, ten crops each) of a random image; drawing a random
    row of this file is the same. With fewer ``plan.crops``, that many of an image's twenty crops are drawn once and
    kept: one is enough for a training that sees an image about once.

    The shards are kept beside ``output``, in a folder of its name with the suffix ``.shards``. A later call continues
    after the last whole shard, unless tokenizer, images or sizes have changed; then it starts again.

    Args:
        settings: sizes of the tokenizer.
        weights: file of the tokenizer's weights.
        images: a split as :func:`artune.data.imagenet.open_split` takes it.
        output: npz file to write.
        device: device of the tokenizer.
        data: side of the images and number of classes.
        plan: crops per image, crops per forward pass and images per shard.

    Raises:
        ArtuneError: a damaged image or file, which the message names, another number of classes, or a ``plan.crops``
            that is not 1 to 20.
    """
    if not 1 <= plan.crops <= CROPS:
        raise ArtuneError(f"--crops: {plan.crops} is not 1 to {CROPS}")
    split = open_split(images, data.classes)
    folder = output.with_suffix(".shards")
    written_with = {
        "tokenizer": sha256(weights),
        "images": _first_image(images, split),
        "size": split.size,
        "side": data.image_size,
        "crops": plan.crops,
        "shard": plan.shard,
    }
    if class_file(images).exists():
        written_with["classes"] = sha256(class_file(images))
    _keep_or_clear(folder, written_with)
    tokenizer = load_tokenizer(weights, settings, data.image_size).to(device)
    shards = _write_shards(folder, tokenizer, split, data.image_size, device, plan)
    rows = _merge(shards, output)
    shutil.rmtree(folder)
    return f"{output}: {rows} sequences, {plan.crops} of each image"


def _first_image(images: Path, split: Split) -> str:
    """Name of a split and digest of its first image: they tell two splits apart, also after a split was moved."""
    first = next(split.records(), None)
    return f"{images.name} {hashlib.sha256(read(first) if first else b'').hexdigest()}"


def _write_shards(
    folder: Path, tokenizer: nn.Module, split: Split, side: int, device: torch.device, plan: CropPlan
) -> list[Path]:
    """Encode the images after the shards that are in ``folder`` into further shards; returns all shards in order."""
    shards = sorted(folder.glob("*.npz"))
    codes: list[np.ndarray] = []
    labels: list[np.ndarray] = []

    def finish() -> None:
        path = folder / f"{len(shards):06d}.npz"
        save_npz(path, {"codes": np.concatenate(codes), "labels": np.concatenate(labels)})
        shards.append(path)
        codes.clear()
        labels.clear()

    start = len(shards) * plan.shard
    kept = _kept_crops(split, side, plan.crops, start)
    for crops, classes in crop_batches(kept, split, plan.images, "codes", start, plan.shard):
        codes.append(encode_crops(tokenizer, crops, plan.batch, device))
        labels.append(classes.numpy())
        if sum(map(len, labels)) == plan.shard:
            finish()
    if codes:
        finish()
    return shards


def _kept_crops(split: Split, side: int, crops: int, start: int) -> Iterator[tuple[np.ndarray, int]]:
    """The kept crops, uint8 [C, side, side, 3], and the class index of every image from ``start`` on."""
    for index, (every, label) in enumerate(load_images(split, lambda image: twenty_crops(image, side), start), start):
        yield every[chosen_crops(index, crops).numpy()], label


def _keep_or_clear(folder: Path, settings: dict) -> None:
    """Delete the shards unless ``settings`` wrote them: those of other settings must never be merged with new ones."""
    note = folder / "settings.json"
    if folder.exists() and not (note.exists() and read_json(note) == settings):
        shutil.rmtree(folder)
    write_json(note, settings)


def _merge(shards: list[Path], output: Path) -> int:
    """Concatenate the shards into one npz without holding more than one of them; returns the number of rows."""
    first = load_npz(shards[0], "codes", "labels")
    labels = np.concatenate([load_npz(path, "labels")["labels"] for path in shards])
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
