"""Token codes of ImageNet's training images: the data of the likelihood baseline (Table 12)."""

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from artune.config.run import Data, Tokenizer
from artune.data.crops import load_images, twenty_crops
from artune.data.digits import SPLITS, load_split
from artune.data.imagenet import Split, open_split
from artune.data.pixels import to_pixels
from artune.errors import ArtuneError
from artune.models.tokenizers.build import build_tokenizer, load_tokenizer
from artune.models.weights.checkpoints import load_into
from artune.runtime.files import load_npz, read_json, replacing, save_npz, sha256, write_json
from artune.runtime.progress import Progress
from artune.runtime.seeds import generator_for

SHARD = 2048  # images a shard: what an interruption costs at most
CROPS = 20


@torch.no_grad()
def encode_crops(tokenizer: nn.Module, crops: np.ndarray, batch: int, device: torch.device) -> np.ndarray:
    """Tokens int16 [N, C, T] (int32 above 32,768 codes) of crops uint8 [N, C, H, W, 3]; ``batch`` crops at a time."""
    flat = torch.from_numpy(crops.reshape(-1, *crops.shape[2:])).permute(0, 3, 1, 2)
    tokens = torch.cat([tokenizer.encode(to_pixels(part.to(device))).cpu() for part in flat.split(batch)])
    small = tokenizer.codebook_size <= 2**15
    return tokens.to(torch.int16 if small else torch.int32).view(*crops.shape[:2], -1).numpy()


def chosen_crops(index: int, crops: int) -> Tensor:
    """Which of the twenty crops of image ``index`` are kept, drawn without replacement; all of them in order."""
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
    *,
    crops: int = CROPS,
    batch: int = 128,
    shard: int = SHARD,
) -> str:
    """Write ``train_codes`` [N * crops, T] and ``train_labels`` [N * crops] of a split, as the MLE trainer reads them.

    LlamaGen's recipe draws one of the twenty crops (two ranges, ten crops each) of a random image; drawing a random
    row of this file is the same. With fewer ``crops`` an image keeps that many of its twenty, drawn once: one is
    enough for a training that sees an image about once.

    Works in shards under ``output``'s name with ``.shards``: a later call goes on after the last whole one, unless
    tokenizer, images or sizes changed; then it begins anew.

    Args:
        settings: sizes of the tokenizer; weights: its file.
        images: a split as :func:`artune.data.imagenet.open_split` takes it.
        output: npz to write.
        device: where the tokenizer runs.
        data: side of the images and number of classes.
        crops: of an image, 1 to 20.
        batch: crops a forward.
        shard: images a shard.

    Raises:
        ArtuneError: a damaged image or file (one line that names it), another number of classes, or ``crops`` is not
            1 to 20.
    """
    if not 1 <= crops <= CROPS:
        raise ArtuneError(f"--crops: {crops} is not 1 to {CROPS}")
    split = open_split(images, data.classes)
    folder = output.with_suffix(".shards")
    _keep_or_clear(
        folder,
        {"tokenizer": sha256(weights), "images": str(images.resolve()), "size": split.size, "side": data.image_size,
         "crops": crops, "shard": shard},
    )  # fmt: skip
    tokenizer = build_tokenizer(settings, image_size=data.image_size)
    load_into(tokenizer, weights)
    tokenizer = tokenizer.to(device).eval().requires_grad_(False)
    done = sorted(folder.glob("*.npz"))
    start = len(done) * shard
    progress = Progress("codes", split.size or split.classes, start=min(start, split.size or 0))
    codes, labels = [], []

    def finish() -> None:
        path = folder / f"{len(done):06d}.npz"
        save_npz(path, {"codes": np.concatenate(codes), "labels": np.concatenate(labels)})
        done.append(path)
        codes.clear()
        labels.clear()

    for part, part_labels in _batches(split, data.image_size, start, shard, crops, batch):
        codes.append(encode_crops(tokenizer, part, batch, device))
        labels.append(part_labels)
        count = sum(map(len, labels))
        progress.update(len(done) * shard + count if split.size else int(part_labels[-1]) + 1)
        if count == shard:
            finish()
    if codes:
        finish()
    rows = _merge(done, output)
    shutil.rmtree(folder)
    return f"{output}: {rows} sequences, {crops} of each image"


def _batches(
    split: Split, side: int, start: int, shard: int, crops: int, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Crops [n, C, H, W, 3] and labels [n] from image ``start`` on; no batch reaches over the end of a shard."""
    most = max(batch // crops, 1)
    cut: list[np.ndarray] = []
    labels: list[int] = []
    for index, (every, label) in enumerate(load_images(split, lambda image: twenty_crops(image, side), start), start):
        cut.append(every[chosen_crops(index, crops)])
        labels.append(label)
        if len(cut) == most or (index + 1) % shard == 0:
            yield np.stack(cut), np.asarray(labels, np.int64)
            cut, labels = [], []
    if cut:
        yield np.stack(cut), np.asarray(labels, np.int64)


def _keep_or_clear(folder: Path, settings: dict) -> None:
    """Shards of other settings must never be merged with new ones."""
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
        tokenizer: sizes; tokenizer_path: its weights.
        data_path: npz of :func:`artune.data.digits.write_data`.
        out_path: npz to write.

    Returns:
        One line that says how evenly the codes are used.
    """
    arrays = {}
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
    """Tokens [N, T] int64 of uint8 images [N, 3, H, W], in chunks of ``batch``."""
    return torch.cat([tokenizer.encode(to_pixels(part)) for part in images.split(batch)])


def load_codes(path: Path | str, split: str) -> tuple[Tensor, Tensor]:
    """Tokens [N, T] and labels [N] of a split, int64, as :func:`write_codes` wrote them.

    Raises:
        ArtuneError: an unknown split, or a file that is missing or broken.
    """
    if split not in SPLITS:
        raise ArtuneError(f"split: unknown {split!r}; choose one of {', '.join(SPLITS)}")
    arrays = load_npz(path, f"{split}_codes", f"{split}_labels")
    return torch.from_numpy(arrays[f"{split}_codes"]), torch.from_numpy(arrays[f"{split}_labels"])
