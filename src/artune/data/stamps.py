"""Stamps of assets: what the results were made from, compared with what is there whenever an asset is used.

A stamp says the size and the digest of a checked file, and not its place: results stay valid where the folder of the
assets has moved. ``.pins.json`` beside the stamps has the rest: the place, times and inodes.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artune.config.registry import Registry
from artune.data.assets import (
    asset_of,
    asset_path,
    class_map,
    examine,
    read_stamp,
    verify,
    whereabouts,
    write_stamp,
    wrong_file,
)
from artune.data.classes.folders import class_file
from artune.data.digests import alteration, evidence
from artune.data.pins import put_pin, put_used, read_pins, read_used
from artune.errors import ArtuneError


def accept_asset(registry: Registry, key: str, folder: Path, results: Path) -> str:
    """Take the file that is there in place of the one that was pinned, and renew its stamps under ``results``.

    What was made from the other file is older than its stamp then, so that Snakemake makes it again.

    Raises:
        ArtuneError: the file is missing, is not what it claims to be or has not its published digest, or the pins
            cannot be written.
    """
    pin = examine(registry, key, folder)
    path = folder / pin["file"]
    if not pin["published"] and (wrong := wrong_file(registry, key, path, thorough=True)):
        raise ArtuneError(f"asset {key}: {path} is {wrong}; put the right file there first")
    old = read_pins(folder).get(key)
    every = {*results.glob("*/assets"), *results.glob("*/*/assets")}
    known = [stamps for stamps in every if (stamps / f"{key}.json").exists() or key in read_used(stamps)]
    if not put_pin(folder, key, pin) and (old["sha256"] != pin["sha256"] if old else not known):
        raise ArtuneError(f"{folder}: its pins cannot be written; ask who keeps this folder to run the command")
    for stamps in known:
        taken = {**pin, **whereabouts(registry, key, folder), **_accepted(pin, read_used(stamps).get(key, {}))}
        put_used(stamps, key, taken)
        write_stamp(stamps / f"{key}.json", key, taken)
    return f"{path}: sha256 {pin['sha256'][:16]}, which counts from now on; what was made from another is made again"


def _accepted(pin: dict[str, Any], used: dict[str, Any]) -> dict[str, int]:
    """How often another content was accepted that no digest tells: that of a folder too large to be read."""
    untold = "contents" not in pin and "state" in pin and pin["state"] != used.get("state")
    count = used.get("accepted", 0) + untold
    return {"accepted": count} if count else {}


def used_path(registry: Registry, folder: Path, given: Path) -> Path:
    """The path of the asset whose stamp is ``given``, in the present folder; any other path is returned unchanged.

    Raises:
        ArtuneError: the asset is missing there, or it or the names of its classes were altered since its check.
    """
    return given if given.suffix != ".json" else source_path(registry, read_stamp(given)["asset"], folder, given)


def source_path(registry: Registry, key: str | None, folder: Path, stamp: Path | None) -> Path:
    """The path of an asset, which must be what its stamp says; without a stamp it is checked as before a first use.

    Raises:
        ArtuneError: the asset is missing, it or the names of its classes were altered since its check, or the stamp is
            another asset's.
    """
    asset_of(registry, key)
    assert key is not None
    if stamp is None or stamp.suffix != ".json":
        verify(registry, key, folder)
        return asset_path(registry, key, folder)
    kept = read_stamp(stamp)
    if kept["asset"] != key:
        raise ArtuneError(f"{stamp}: is the stamp of {kept['asset']}, not of {key}; give that of {key}")
    path = asset_path(registry, key, folder)
    used = read_used(stamp.parent).get(key, {})
    if used.get("sha256") != kept["sha256"]:  # of another check
        used = {}
    if changed := alteration(path, {**used, **kept}):
        raise ArtuneError(
            f"asset {key}: {path} is no longer what was checked ({stamp}): it {changed}; put that back, or take what "
            f"is there now by `python -m artune assets --accept {key}`"
        )
    if class_map(registry, key, folder) != kept.get("classes"):
        raise ArtuneError(
            f"{class_file(folder / asset_of(registry, key).file)}: is no longer what was checked ({stamp}), so images "
            "have other labels; run snakemake again, which makes again what was made with the others"
        )
    return path


@contextlib.contextmanager
def reading(path: Path) -> Iterator[Path]:
    """Raise an ArtuneError at the end of the block if ``path`` was written to within it."""
    before = evidence(path)
    yield path
    if evidence(path) != before:
        raise ArtuneError(f"{path}: was written to while it was read; let the transfer end and run again")
