"""Files from outside: fetched or asked for, checked, pinned, and imported into the project's own layout.

Planning imports this module: torch, requests and the networks are imported where they are used.
"""

import hashlib
from pathlib import Path
from typing import Any

from filelock import FileLock

from artune.config.registry import Registry
from artune.config.settings import Asset
from artune.errors import ArtuneError, unknown
from artune.runtime.files import read_json, sha256, write_json

PINS = "pins.json"  # beside the assets: what each file was when it was first used


def asset_of(registry: Registry, key: str | None) -> Asset:
    """The asset called ``key``. Raises ArtuneError: unknown."""
    if key not in registry.assets:
        raise ArtuneError(f"config/assets.yaml: {unknown(key, registry.assets, 'asset')}")
    return registry.assets[key]


def published_digest(registry: Registry, key: str) -> str | None:
    """SHA-256 that the source publishes, perhaps its first digits only; None where it publishes none."""
    asset = asset_of(registry, key)
    return asset.sha256 or asset.sha256_prefix


def find_asset(registry: Registry, key: str | None, folder: Path) -> Path | None:
    """Where ``key`` lies, None where it does not; a folder may be there as a tar of its name."""
    path = folder / asset_of(registry, key).file
    candidates = (path,) if path.suffix else (path, path.with_name(f"{path.name}.tar"))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def asset_path(registry: Registry, key: str | None, folder: Path) -> Path:
    """Where the asset ``key`` lies.

    Raises:
        ArtuneError: the asset is unknown, or not there; the line says where to get it and where to put it.
    """
    path = find_asset(registry, key, folder)
    if path is None:
        asset = asset_of(registry, key)
        raise ArtuneError(
            f"asset {key}: not there; get {asset.file} from {asset.source} (licence: {asset.license}) "
            f"and put it at {folder / asset.file}"
        )
    return path


def fetch_asset(registry: Registry, key: str, folder: Path, pause: float = 1.0) -> Path:
    """The asset ``key``, fetched if it is not there and may be fetched, with its digest checked.

    Raises:
        ArtuneError: it must be brought, cannot be fetched, or has a wrong digest.
    """
    asset = asset_of(registry, key)
    if find_asset(registry, key, folder) is None and asset.url:
        from artune.data.download import download

        path = folder / asset.file
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{key}.lock"):  # several jobs may want the same file
            if not path.exists():
                download(asset.url, path, published_digest(registry, key), label=f"asset {key}", pause=pause)
    verify(registry, key, folder)
    return asset_path(registry, key, folder)


def verify(registry: Registry, key: str, folder: Path) -> dict[str, Any]:
    """Check the digest of an asset that is there, and pin one that its source publishes no digest of.

    Returns:
        The pin: ``file``, ``bytes``, ``mtime_ns``, ``sha256``, and ``published`` (else it was pinned on first use).

    Raises:
        ArtuneError: missing, not the published digest, or not the digest it had when it was first used.
    """
    path, published = asset_path(registry, key, folder), published_digest(registry, key)
    found = {"file": str(path.relative_to(folder)), **measure_file(path)}
    if published is not None and not found["sha256"].startswith(published.lower()):
        raise ArtuneError(
            f"asset {key}: {path} has sha256 {found['sha256']}, not {published}; delete it and fetch it again"
        )
    with FileLock(folder / f".{PINS}.lock"):
        pins = read_pins(folder)
        pinned = pins.get(key)
        if published is None and pinned and pinned["sha256"] != found["sha256"]:
            raise ArtuneError(
                f"asset {key}: {path} has sha256 {found['sha256']}, but {pinned['sha256']} when it was first used; "
                f"put the old file back, or delete {key} from {folder / PINS} to take the new one"
            )
        pin = {**found, "published": published is not None}
        if pin != pinned:
            write_json(folder / PINS, {**pins, key: pin})
    return pin


def read_pins(folder: Path) -> dict[str, dict[str, Any]]:
    """The pins of ``folder``; empty before the first use of any asset."""
    return read_json(folder / PINS) if (folder / PINS).exists() else {}


def measure_file(path: Path) -> dict[str, Any]:
    """Bytes, time and SHA-256 of a file; of a folder, the digest of the names and sizes in it (hours, if read)."""
    if path.is_file():
        return {**size_and_time(path), "sha256": sha256(path)}
    members = (member for member in path.rglob("*") if member.is_file())
    sizes = {member.relative_to(path).as_posix(): member.stat().st_size for member in members}
    lines = "".join(f"{name}\t{sizes[name]}\n" for name in sorted(sizes))
    return {"bytes": sum(sizes.values()), "mtime_ns": 0, "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def size_and_time(path: Path) -> dict[str, int]:
    """Bytes and time of change of a file."""
    return {"bytes": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}


def check_asset(registry: Registry, key: str, folder: Path, output: Path) -> str:
    """Fetch an asset if need be, check its digest, and write where it lies, its size and its digest to ``output``.

    Raises:
        ArtuneError: as :func:`fetch_asset`.
    """
    path = fetch_asset(registry, key, folder)
    pin = read_pins(folder)[key]
    kept = {name: pin[name] for name in ("bytes", "sha256", "published")}
    write_json(output, {"asset": key, "path": str(path), **kept})
    how = "as published" if pin["published"] else "none is published: pinned on first use"
    return f"{path}: sha256 {pin['sha256'][:16]} ({how})"


def stamped_path(path: Path) -> Path:
    """The file behind an asset's stamp (as :func:`check_asset` writes it); any other path is itself."""
    return Path(read_json(path)["path"]) if path.suffix == ".json" else path


def evaluation_files(registry: Registry, folder: Path) -> dict[str, dict[str, str | None]]:
    """``file`` and ``sha256`` of every file from outside that an evaluation rests on: references and networks.

    A digest is None where the file was never pinned.
    """
    protocol, pins = registry.evaluation, read_pins(folder)
    keys: list[str | None] = [protocol.reference, *protocol.references]
    keys += [registry.networks[name].checkpoint for name in protocol.networks.values()]
    known = [key for key in dict.fromkeys(keys) if key is not None and key in registry.assets]
    return {key: {"file": registry.assets[key].file, "sha256": pins.get(key, {}).get("sha256")} for key in known}
