"""Finds, fetches, checks and pins assets, which are the files from outside the project.

The digest of an asset is the published one or, where none is published, that of its first use, its pin. Pins lie beside
the assets, for all who use that folder, and in the results, for what was made from them: a folder of assets that cannot
be written needs no pins of its own. Planning imports this module, so torch, requests and the networks are imported only
where they are used.
"""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from artune.config.registry import Registry
from artune.config.settings import Asset
from artune.data.classes.folders import class_file
from artune.data.digests import holds_bytes, measure
from artune.data.formats import leftover, misfit
from artune.data.pins import PINS, USED, other_content, put_pin, put_used, read_pins, read_used
from artune.errors import ArtuneError, unknown
from artune.runtime.files import read_json, sha256, write_json

SIZE = re.compile(r"([\d.]+) ([GM])B")


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
    """The path of the asset ``key``, None if it is missing; a folder may be present as a tar file of the same name.

    An empty file and a folder without files count as missing.
    """
    path = folder / asset_of(registry, key).file
    candidates = (path,) if path.suffix else (path, path.with_name(f"{path.name}.tar"))
    return next((candidate for candidate in candidates if holds_bytes(candidate)), None)


def asset_path(registry: Registry, key: str | None, folder: Path) -> Path:
    """The path of the asset ``key``.

    Raises:
        ArtuneError: the asset is unknown or missing; the message says where to get it and where to put it.
    """
    path = find_asset(registry, key, folder)
    if path is None:
        asset = asset_of(registry, key)
        place = folder / asset.file
        begun = leftover(place)
        there = f"; {begun.name} beside it is an unfinished download" if begun else ""
        there = "; what lies there is empty" if place.exists() and not begun else there
        raise ArtuneError(
            f"asset {key}: missing; get {asset.file} from {asset.source} (licence: {asset.license}) and put it at "
            f"{place}{there}"
        )
    return path


def wrong_file(registry: Registry, key: str, path: Path, thorough: bool = False) -> str | None:
    """What the file of an asset is in place of what its name claims, such as an HTML page; None if it fits."""
    try:
        return misfit(path, asset_of(registry, key).file, thorough)
    except (OSError, ArtuneError) as error:
        return f"not readable ({getattr(error, 'strerror', None) or error})"


def far_from_size(asset: Asset, size: int) -> bool:
    """Whether ``size`` in bytes is less than half or more than twice the asset's approximate size, if that is known."""
    about = SIZE.fullmatch(asset.size or "")
    if about is None:
        return False
    wanted = float(about[1]) * {"G": 1e9, "M": 1e6}[about[2]]
    return not wanted / 2 <= size <= wanted * 2


def fetch_asset(
    registry: Registry,
    key: str,
    folder: Path,
    pause: float = 1.0,
    stamps: Path | None = None,
    datasets: Path | None = None,
) -> Path:
    """The path of the asset ``key``, checked as :func:`verify` does.

    If it is missing it is unpacked from where it lies compressed (``datasets`` is where packages put data sets), or
    fetched if it has a URL.

    Raises:
        ArtuneError: the asset is missing and has no URL, cannot be fetched, or is not what it should be.
    """
    asset = asset_of(registry, key)
    if find_asset(registry, key, folder) is None and (asset.url or asset.packed):
        from artune.data.download import download
        from artune.data.reading.packed import obtain

        path, wanted = folder / asset.file, published_digest(registry, key)
        with _written(key, folder, asset):
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f".{key}.lock")  # several jobs may need the same file
            lock.acquire()
        try:
            if find_asset(registry, key, folder) is not None:
                pass  # another job put it there
            elif asset.packed:
                obtain(key, asset, folder, datasets, pause)
            elif asset.url:
                label = f"asset {key}"
                download(asset.url, path, wanted, label=label, pause=pause, check=lambda part: misfit(part, path.name))
        finally:
            lock.release()
    verify(registry, key, folder, stamps)
    return asset_path(registry, key, folder)


@contextlib.contextmanager
def _written(key: str, folder: Path, asset: Asset) -> Iterator[None]:
    """Turn the error of a folder that cannot be written into one line."""
    try:
        yield
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ArtuneError(
            f"asset {key}: missing, and {folder} cannot be written ({reason}); put {asset.file} from {asset.source} "
            "there yourself, or set assets in config/config.yaml to a folder that can be written"
        ) from error


def verify(registry: Registry, key: str, folder: Path, stamps: Path | None = None) -> dict[str, Any]:
    """Check that an asset is what it should be, and pin it.

    It must have the published digest. Where only its source is known, its digest must equal the pin of the first use,
    and what is pinned first must be a whole file of the format that its name claims.

    Args:
        registry: registry with the asset.
        key: the asset.
        folder: folder of the assets; pins are written there if it can be written.
        stamps: folder of the stamps; the digests of what the results were made from are compared and written there.

    Returns:
        The pin: ``file``, ``published`` (whether the source publishes a digest), and what
        :func:`artune.data.digests.measure` returns.

    Raises:
        ArtuneError: the asset is missing, is not what it claims to be, or its digest is not the published one, that of
            its first use, or that of the file from which the results were made; or it is pinned for the first time and
            is far from the size that is known of it.
    """
    pin = examine(registry, key, folder)
    path = folder / pin["file"]
    kept = {} if pin["published"] else {folder / PINS: read_pins(folder)}
    kept |= {stamps / USED: read_used(stamps)} if stamps else {}
    for place, pins in kept.items():
        if key in pins and (changed := other_content(pin, pins[key])):
            raise ArtuneError(
                f"asset {key}: {path} has {changed} when it was first used ({place}); put the old file back, or take "
                f"the new one by `python -m artune assets --accept {key}`"
            )
    if not pin["published"] and (wrong := wrong_file(registry, key, path, thorough=True)):
        raise ArtuneError(_refusal(registry, key, path, wrong))
    if not (pin["published"] or any(key in pins for pins in kept.values())):
        _require_size(registry, key, path, pin["bytes"])
    put_pin(folder, key, pin)
    if stamps:
        old = read_used(stamps).get(key, {})
        accepted = {"accepted": old["accepted"]} if "accepted" in old else {}
        put_used(stamps, key, {**pin, **whereabouts(registry, key, folder), **accepted})
    return pin


def _require_size(registry: Registry, key: str, path: Path, size: int) -> None:
    """Refuse a file far from its known size; a folder of images may be a part of the set, or smaller copies."""
    asset = asset_of(registry, key)
    if path.is_file() and far_from_size(asset, size):
        raise ArtuneError(
            f"asset {key}: {path} has {size:,} bytes, where about {asset.size} are expected; get {asset.file} from "
            f"{asset.source}, or take this one by `python -m artune assets --accept {key}`"
        )


def whereabouts(registry: Registry, key: str, folder: Path) -> dict[str, str]:
    """What a pin in the results says beside digests: :func:`place_of` the asset, and its :func:`class_map`."""
    mapping = class_map(registry, key, folder)
    return {"place": place_of(registry, key, folder), **({"classes": mapping} if mapping else {})}


def class_map(registry: Registry, key: str, folder: Path) -> str | None:
    """Digest of the file that maps the class names of an asset, without which its images have other labels, or None.

    Raises:
        ArtuneError: the file cannot be read.
    """
    path = class_file(folder / asset_of(registry, key).file)
    try:
        return sha256(path) if path.exists() else None
    except OSError as error:
        raise ArtuneError(f"{path}: cannot be read ({error.strerror or error})") from error


def place_of(registry: Registry, key: str, folder: Path) -> str:
    """Place and published digest of an asset by the configuration; another place means another check."""
    return f"{folder / asset_of(registry, key).file} {published_digest(registry, key) or ''}".strip()


def examine(registry: Registry, key: str, folder: Path) -> dict[str, Any]:
    """The pin that an asset would have now. Raises ArtuneError: it is missing or has not its published digest."""
    path, published = asset_path(registry, key, folder), published_digest(registry, key)
    found = {"file": str(path.relative_to(folder)), **measure(path), "published": published is not None}
    if published is not None and not found["sha256"].startswith(published.lower()):
        wrong = wrong_file(registry, key, path)
        raise ArtuneError(
            f"asset {key}: {path} has sha256 {found['sha256']}, not {published}; delete it and fetch it again"
            + (f" (it is {wrong})" if wrong else "")
        )
    return found


def _refusal(registry: Registry, key: str, path: Path, wrong: str) -> str:
    asset = asset_of(registry, key)
    return f"asset {key}: {path} is {wrong}; delete it, get {asset.file} from {asset.source} and put it there" + (
        f", or fetch it by `python -m artune assets --fetch --scale {registry.scale}`" if asset.url else ""
    )


def check_asset(registry: Registry, key: str, folder: Path, output: Path, datasets: Path | None = None) -> str:
    """Unpack or fetch an asset if it is missing, check it, and write its stamp to ``output``.

    Raises:
        ArtuneError: as :func:`artune.data.assets.fetch_asset`.
    """
    path = fetch_asset(registry, key, folder, stamps=output.parent, datasets=datasets)
    pin = read_used(output.parent)[key]
    write_stamp(output, key, pin)
    how = "as published" if pin["published"] else "no digest is published: pinned on first use"
    about, size = asset_of(registry, key), f"{pin['bytes'] / 1e9:.3f} GB"
    doubt = f"; {size}, where about {about.size} are expected" if far_from_size(about, pin["bytes"]) else ""
    return f"{path}: sha256 {pin['sha256'][:16]} ({how}){doubt}"


def write_stamp(output: Path, key: str, pin: dict[str, Any]) -> None:
    """Write the stamp of an asset, which has no place and no times: those of a copy are others.

    Beside size and digests it has the digest of the names of the classes, and how often another content was accepted
    that the digests do not tell, as a large folder's is not read. Whatever changes the stamp has its users made again.
    """
    names = ("bytes", "sha256", "contents", "published", "classes", "accepted")
    kept = {name: pin[name] for name in names if name in pin}
    write_json(output, {"asset": key, **kept})


def read_stamp(stamp: Path) -> dict[str, Any]:
    """The stamp of an asset. Raises ArtuneError: it is missing or damaged, or the file is no stamp."""
    kept = read_json(stamp)
    if not isinstance(kept, dict) or not {"asset", "bytes", "sha256"} <= kept.keys():
        raise ArtuneError(f"{stamp}: is not the stamp of an asset; delete it and run again")
    return kept


def evaluation_files(registry: Registry, folder: Path, stamps: Path | None = None) -> dict[str, dict[str, str | None]]:
    """``file`` and ``sha256`` of every asset on which an evaluation depends: references and networks.

    A digest is that of the file from which the results were made or, without ``stamps``, the pin beside the assets; it
    is None where the file was never checked.
    """
    protocol, pins = registry.evaluation, read_pins(folder) | (read_used(stamps) if stamps else {})
    keys: list[str | None] = [protocol.reference, *protocol.references]
    keys += [registry.networks[name].checkpoint for name in protocol.networks.values()]
    known = [key for key in dict.fromkeys(keys) if key is not None and key in registry.assets]
    return {key: {"file": registry.assets[key].file, "sha256": pins.get(key, {}).get("sha256")} for key in known}
