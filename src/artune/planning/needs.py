"""Which rule needs which file from outside, and whether it is there."""

from pathlib import Path
from typing import TYPE_CHECKING

from artune.config.registry import Registry
from artune.config.run import Backbone, Network, Tokenizer
from artune.data.assets import _stamp, asset_of, fetch_asset, find_asset, published_digest, read_pins
from artune.errors import ArtuneError
from artune.runtime.files import sha256

if TYPE_CHECKING:
    pass


def asset_users(registry: Registry) -> dict[str, list[str]]:
    """The rules that need each asset at the registry's scale, e.g. ``{"vq_ds16_c2i": ["tokenizer vq"]}``."""
    users: dict[str, list[str]] = {key: [] for key in registry.assets}
    specs = [registry.spec(run) for run in registry.run_names if not registry.unavailable(run)]
    backbones = dict.fromkeys(spec["backbone_name"] for spec in specs if spec["method"] != "real")
    networks = dict.fromkeys([name for spec in specs for name in spec["networks"]])
    parts: list[tuple[str, Backbone | Tokenizer | Network]] = []  # of what some run uses, not of all that is known
    for name in backbones:
        backbone = registry.backbones[name]
        parts.append((f"tokenizer {backbone.tokenizer}", registry.tokenizers[backbone.tokenizer]))
        parts.append((f"pretrained_policy {name}", backbone))
    for name in networks | dict.fromkeys(registry.evaluation.networks.values()):
        parts.append((f"network {name}", registry.networks[name]))
    needs = [(part.checkpoint, rule) for rule, part in parts if part.train is None]
    needs += [(spec["checkpoint"], "external_policy") for spec in specs if spec["method"] == "external"]
    if registry.data.source == "imagenet":
        needs += [(spec["images"], "real_samples") for spec in specs if spec["method"] == "real"]
        needs += [("imagenet", "class_moments"), ("imagenet", "codes"), (registry.evaluation.reference, "reference")]
        needs += [(name, "further_reference") for name in registry.evaluation.references]
        rewards = [spec["rewards"] for spec in specs if "rewards" in spec]
        own = dict.fromkeys(found["loo_fid"]["network"] for found in rewards if "loo_fid" in found["terms"])
        needs += [("imagenet", f"train_moments {name}") for name in own if name != registry.evaluation.features]
        needs += [(registry.study.reference, "study_make")]
    for key, rule in needs:
        asset_of(registry, key)
        if rule not in users[key]:
            users[key].append(rule)
    return users


def needed_assets(registry: Registry) -> list[str]:
    """The assets without which something of the scale cannot be made."""
    return [key for key, rules in asset_users(registry).items() if rules]


def asset_state(registry: Registry, key: str, folder: Path) -> str:
    """``present``, ``missing``, ``in part`` or ``wrong digest``; a file that is as it was pinned is not read again."""
    path = find_asset(registry, key, folder)
    if path is None:
        return "in part" if (folder / f"{asset_of(registry, key).file}.part").exists() else "missing"
    pin = read_pins(folder).get(key, {})
    wanted = published_digest(registry, key) or pin.get("sha256")
    if wanted is None or path.is_dir():
        return "present"
    unread = pin and _stamp(path).items() <= pin.items()
    digest = pin["sha256"] if unread else sha256(path)
    return "present" if digest.startswith(wanted.lower()) else "wrong digest"


def assets_table(registry: Registry, folder: Path) -> str:
    """A line an asset: state, whose digest it is held to, size, licence, rules that need it; then what must be brought.

    What no rule needs has in brackets what it serves.
    """
    rows = [("asset", "state", "digest", "size", "licence", "needed by")]
    absent, pins = [], read_pins(folder)
    for key, rules in asset_users(registry).items():
        asset, path = asset_of(registry, key), find_asset(registry, key, folder)
        about = f"~{asset.size}" if asset.size else "?"
        size = f"{path.stat().st_size / 1e9:.3f} GB" if path and path.is_file() else about
        published = "published" if asset.sha256 else "published in part" if asset.sha256_prefix else None
        digest = published or ("pinned on first use" if key in pins else "-")
        users = ", ".join(rules) or (f"({asset.optional})" if asset.optional else "-")
        rows.append((key, asset_state(registry, key, folder), digest, size, asset.license, users))
        if path is None and rules and not asset.url:
            absent.append(f"bring {key}: {asset.source} -> {folder / asset.file}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *absent])


def fetch_needed(registry: Registry, folder: Path) -> list[str]:
    """Fetch and check every asset that the scale needs and that may be fetched; returns one line for each failure."""
    problems = []
    for key in needed_assets(registry):
        if find_asset(registry, key, folder) is None and not asset_of(registry, key).url:
            continue
        try:
            fetch_asset(registry, key, folder)
        except ArtuneError as error:
            problems.append(str(error))
    return problems
