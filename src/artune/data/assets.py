"""Finds, fetches, checks and pins assets, which are the files from outside the project.

Planning imports this module, so torch, requests and the networks are imported only where they are used.
"""

import hashlib
from pathlib import Path
from typing import Any

from filelock import FileLock

from artune.config.registry import Registry
from artune.config.settings import Asset
from artune.errors import ArtuneError, unknown
from artune.runtime.files import read_json, sha256, write_json

PINS = "pins.json"  # file beside the assets with the size, time and digest of each


def asset_of(registry: Registry, key: str | None) -> Asset:
    """The asset called ``key``. Raises ArtuneError if it is unknown."""
    if key not in registry.assets:
        raise ArtuneError(f"config/assets.yaml: {unknown(key, registry.assets, 'asset')}")
    return registry.assets[key]


def published_digest(registry: Registry, key: str) -> str | None:
    """The SHA-256 that the source publishes, or only its first digits; None if the source publishes none."""
    asset = asset_of(registry, key)
    return asset.sha256 or asset.sha256_prefix


def find_asset(registry: Registry, key: str | None, folder: Path) -> Path | None:
    """The path of the asset ``key``, None if it is missing; a folder may be present as a tar file of the same name."""
    path = folder / asset_of(registry, key).file
    candidates = (path,) if path.suffix else (path, path.with_name(f"{path.name}.tar"))
    return next((candidate for candidate in candidates if candidate.exists()), None)


def asset_path(registry: Registry, key: str | None, folder: Path) -> Path:
    """The path of the asset ``key``.

    Raises:
        ArtuneError: the asset is unknown or missing; the message says where to get it and where to put it.
    """
    path = find_asset(registry, key, folder)
    if path is None:
        asset = asset_of(registry, key)
        raise ArtuneError(
            f"asset {key}: missing; get {asset.file} from {asset.source} (licence: {asset.license}) "
            f"and put it at {folder / asset.file}"
        )
    return path


def fetch_asset(registry: Registry, key: str, folder: Path, pause: float = 1.0) -> Path:
    """The path of the asset ``key``, fetched if it is missing and has a URL; its digest is checked.

    Raises:
        ArtuneError: the asset is missing and has no URL, cannot be fetched, or has a wrong digest.
    """
    asset = asset_of(registry, key)
    if find_asset(registry, key, folder) is None and asset.url:
        from artune.data.download import download

        path = folder / asset.file
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{key}.lock"):  # several jobs may need the same file
            if not path.exists():
                download(asset.url, path, published_digest(registry, key), label=f"asset {key}", pause=pause)
    verify(registry, key, folder)
    return asset_path(registry, key, folder)


def verify(registry: Registry, key: str, folder: Path) -> dict[str, Any]:
    """Check the digest of an asset and pin it; without a published digest it must equal the pin of the first use.

    Returns:
        The pin: ``file``, ``bytes``, ``mtime_ns``, ``sha256``, and ``published`` (whether the source publishes a
        digest).

    Raises:
        ArtuneError: the asset is missing, or its digest is not the published one or not that of its first use.
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
    """Bytes, time and SHA-256 of a file; for a folder, a digest of names and sizes (reading its files takes hours)."""
    if path.is_file():
        return {**size_and_time(path), "sha256": sha256(path)}
    members = (member for member in path.rglob("*") if member.is_file())
    sizes = {member.relative_to(path).as_posix(): member.stat().st_size for member in members}
    lines = "".join(f"{name}\t{sizes[name]}\n" for name in sorted(sizes))
    return {"bytes": sum(sizes.values()), "mtime_ns": 0, "sha256": hashlib.sha256(lines.encode()).hexdigest()}


def size_and_time(path: Path) -> dict[str, int]:
    """Size in bytes and modification time of a file."""
    return {"bytes": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns}


def check_asset(registry: Registry, key: str, folder: Path, output: Path) -> str:
    """Fetch an asset if it is missing, check its digest, and write its path, size and digest to ``output``.

    Raises:
        ArtuneError: as :func:`fetch_asset`.
    """
    path = fetch_asset(registry, key, folder)
    pin = read_pins(folder)[key]
    kept = {name: pin[name] for name in ("bytes", "sha256", "published")}
    write_json(output, {"asset": key, "path": str(path), **kept})
    how = "as published" if pin["published"] else "no digest is published: pinned on first use"
    return f"{path}: sha256 {pin['sha256'][:16]} ({how})"


def stamped_path(path: Path) -> Path:
    """The path that an asset's stamp from :func:`check_asset` contains; any other path is returned unchanged."""
    return Path(read_json(path)["path"]) if path.suffix == ".json" else path


def evaluation_files(registry: Registry, folder: Path) -> dict[str, dict[str, str | None]]:
    """``file`` and ``sha256`` of every asset on which an evaluation depends: references and networks.

    A digest is None where the file was never pinned.
    """
    protocol, pins = registry.evaluation, read_pins(folder)
    keys: list[str | None] = [protocol.reference, *protocol.references]
    keys += [registry.networks[name].checkpoint for name in protocol.networks.values()]
    known = [key for key in dict.fromkeys(keys) if key is not None and key in registry.assets]
    return {key: {"file": registry.assets[key].file, "sha256": pins.get(key, {}).get("sha256")} for key in known}
