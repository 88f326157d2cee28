"""Pins: sizes, times and digests of the assets at their first use.

They lie beside the assets, for all who use that folder, and in the results, for what was made from them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from artune.data.digests import alteration, evidence
from artune.errors import ArtuneError
from artune.runtime.files import read_json, write_json

PINS = "pins.json"  # file beside the assets with the size, time and digest of each
USED = ".pins.json"  # file beside the stamps with the same of the files that the results were made from


def other_content(found: Mapping[str, Any], pinned: Mapping[str, Any]) -> str | None:
    """How the digests of a file differ from its pin, None if they do not."""
    if found["sha256"] != pinned["sha256"]:
        return f"sha256 {found['sha256']}, but {pinned['sha256']}"
    both = "contents" in found and "contents" in pinned
    if both and found["contents"] != pinned["contents"]:
        return f"contents of digest {found['contents']}, but {pinned['contents']}"
    return None


def read_pins(folder: Path) -> dict[str, dict[str, Any]]:
    """The pins of ``folder``; empty before the first use of any asset."""
    return _read(folder / PINS)


def read_used(stamps: Path) -> dict[str, dict[str, Any]]:
    """The pins of the files that the results beside ``stamps`` were made from."""
    return _read(stamps / USED)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    found = read_json(path) if path.exists() else {}
    if not isinstance(found, dict) or not all(isinstance(pin, dict) and "sha256" in pin for pin in found.values()):
        raise ArtuneError(f"{path}: does not hold pins; delete it and run again")
    return found


def put_pin(folder: Path, key: str, pin: Mapping[str, Any]) -> bool:
    """Write a pin beside the assets; returns whether it stands there, which it cannot if nothing can be written."""
    if read_pins(folder).get(key) == pin:
        return True
    try:
        with FileLock(folder / f".{PINS}.lock"):
            write_json(folder / PINS, {**read_pins(folder), key: dict(pin)})
    except (OSError, NotImplementedError, ArtuneError):
        return False
    return True


def put_used(stamps: Path, key: str, pin: Mapping[str, Any]) -> None:
    """Write a pin beside the stamps. Raises ArtuneError: the results cannot be written."""
    if read_used(stamps).get(key) == pin:
        return
    try:
        stamps.mkdir(parents=True, exist_ok=True)
        with FileLock(stamps / f"{USED}.lock"):
            write_json(stamps / USED, {**read_used(stamps), key: dict(pin)})
    except OSError as error:
        raise ArtuneError(f"{stamps / USED}: cannot be written ({error.strerror or error})") from error


def unaltered(path: Path, pin: Mapping[str, Any]) -> bool:
    """Whether a file or folder is that of its pin; a file of the same size, times and inode is not read."""
    return evidence(path).items() <= pin.items() or alteration(path, pin) is None
