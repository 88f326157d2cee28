"""Assets that lie compressed: in the folder of the assets, in that of packages' data sets, or at their address.

The digest that is published for such an asset is that of its contents: packages compress them again, to other bytes.
"""

import shutil
from pathlib import Path

from artune.config.settings import Asset
from artune.errors import ArtuneError
from artune.runtime.files import replacing, sha256
from artune.runtime.outside.gzips import is_gzip, unpack_gzip
from artune.runtime.outside.regular import open_regular


def packed_file(asset: Asset, folder: Path, datasets: Path | None) -> Path | None:
    """Where the contents of an asset lie under another name, compressed or not; None if they lie nowhere.

    Args:
        asset: the asset.
        folder: folder of the assets, where they are sought first.
        datasets: folder in which packages put data sets, or None.
    """
    if asset.packed is None:
        return None
    names = (asset.packed, asset.packed.removesuffix(".gz"))
    places = [base / name for base in (folder, datasets) if base is not None for name in names]
    return next((place for place in places if _lies_at(place)), None)


def _lies_at(place: Path) -> bool:
    try:
        return place.is_file() and place.stat().st_size > 0
    except OSError:  # a folder that this user may not enter
        return False


def obtain(key: str, asset: Asset, folder: Path, datasets: Path | None, pause: float = 1.0) -> None:
    """Put the contents of an asset at their place in ``folder``: found there or in ``datasets``, or fetched.

    Raises:
        ArtuneError: they are nowhere and cannot be fetched, which the message says with the three ways to them; a
            damaged file, or one of other contents than the published ones.
    """
    source = packed_file(asset, folder, datasets)
    if source is not None:
        _unpack(key, source, folder / asset.file, asset.sha256)
        return
    if not asset.url or asset.packed is None:
        return  # the caller says what is missing
    from artune.data.download import download

    fetched = folder / asset.packed
    try:
        download(asset.url, fetched, label=f"asset {key}", pause=pause, check=_no_gzip)
    except ArtuneError as error:
        install = f"install the Debian package {asset.package}" if asset.package else "have it installed"
        raise ArtuneError(
            f"asset {key}: missing; {install} (it puts {asset.packed} into {datasets}), or name the folder that holds "
            f"{asset.packed} (datasets in config/config.yaml, or assets), or fetch it, which failed: {error}"
        ) from error
    _unpack(key, fetched, folder / asset.file, asset.sha256)
    fetched.unlink()


def _no_gzip(part: Path) -> str | None:
    return None if is_gzip(part) else "a file that is not compressed by gzip"


def _unpack(key: str, source: Path, target: Path, digest: str | None) -> None:
    try:
        packed = is_gzip(source)
        if not packed:
            _require(key, source, sha256(source), digest)
        with replacing(target) as temporary, open(temporary, "wb") as output:
            if packed:
                _require(key, source, unpack_gzip(source, output), digest)
            else:
                with open_regular(source) as handle:
                    shutil.copyfileobj(handle, output)
    except OSError as error:
        raise ArtuneError(
            f"asset {key}: {source} cannot be unpacked to {target} ({error.strerror or error}); the first must be "
            "readable, and assets in config/config.yaml a folder that can be written"
        ) from error


def _require(key: str, source: Path, found: str, digest: str | None) -> None:
    if digest is not None and found != digest.lower():
        raise ArtuneError(
            f"asset {key}: {source} holds contents of sha256 {found}, not {digest}; put the right file there"
        )
