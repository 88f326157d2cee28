"""Weight files of the frozen networks: where they lie, and what is said where they are absent."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.runtime.files import sha256


@dataclass(frozen=True)
class Weights:
    """The file of a network, its digest, and whether that is the published one."""

    name: str
    path: Path
    digest: str
    published: bool


def find_weights(registry: Registry, name: str, places: Sequence[Path]) -> Weights | None:
    """The weights of a network: ``{name}.safetensors`` as the rule ``network`` writes it, or the released file.

    Args:
        registry: registry of the scale.
        name: the network.
        places: weight files and folders.

    Raises:
        ArtuneError: a file of the released name has another digest than the published one.
    """
    asset = registry.assets.get(registry.networks[name].checkpoint or "")
    wanted = [f"{name}.safetensors", *([asset.file, Path(asset.file).name] if asset else [])]
    given = [place for place in places if place.is_file() and place.name in wanted]
    found = [*given, *(place / file for place in places for file in wanted if (place / file).is_file())]
    if not found:
        return None
    path, digest = found[0], sha256(found[0])
    published = (asset.sha256 or asset.sha256_prefix) if asset and path.suffix != ".safetensors" else None
    if published and not digest.startswith(published.lower()):
        raise ArtuneError(
            f"{path}: has sha256 {digest}, not the published {published}; fetch it again from {_origin(registry, name)}"
        )
    return Weights(name, path, digest, published is not None)


def absent(registry: Registry, name: str, places: Sequence[Path]) -> str:
    """Which weight file is missing, from where to get it, its size and its digest, and where to put it."""
    asset = registry.assets.get(registry.networks[name].checkpoint or "")
    where = ", ".join(map(str, places)) or "no folder"
    if asset is None:
        return f"the weights of {name} are missing; name {name}.safetensors or its folder by --networks (seen: {where})"
    known = asset.sha256 or asset.sha256_prefix
    digest = f"sha256 {known}" if known else "the source publishes no digest"
    return (
        f"{asset.file} is missing; get it from {_origin(registry, name)} ({asset.size or 'size unknown'}, {digest}) "
        f"and name it or its folder by --networks (seen: {where})"
    )


def _origin(registry: Registry, name: str) -> str:
    asset = registry.assets[registry.networks[name].checkpoint or ""]
    return asset.url or asset.source
