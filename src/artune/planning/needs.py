"""Which rule needs which external file (asset), and whether the file is present."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from artune.config.fields import PACKAGES
from artune.config.registry import Registry
from artune.data.assets import asset_of, far_from_size, fetch_asset, find_asset, published_digest, wrong_file
from artune.data.digests import READ, measure
from artune.data.formats import leftover
from artune.data.pins import read_pins, read_used, unaltered
from artune.data.reading.packed import packed_file
from artune.errors import ArtuneError, without_secrets
from artune.planning.sources import TRAINED, RuleInputs, Sources

Rules = dict[str, tuple[str, list[str]]]  # output -> the rule that makes it (with its wildcard's value), its inputs


def asset_users(registry: Registry) -> dict[str, list[str]]:
    """The rules that need each asset at the registry's scale, e.g. ``{"vq_ds16_c2i": ["tokenizer vq"]}``.

    Raises:
        ArtuneError: a rule needs an asset that ``config/assets.yaml`` does not name.
    """
    sources = Sources(registry)
    rules = source_rules(sources)
    users: dict[str, list[str]] = {key: [] for key in registry.assets}
    for output in _reached(_ends(sources), rules):
        rule, inputs = rules[output]
        for key in filter(None, map(sources.asset_key, inputs)):
            asset_of(registry, key)
            if rule not in users[key]:
                users[key].append(rule)
    return users


def _ends(sources: Sources) -> Iterator[str]:
    """The final files of the scale: policies, networks and images that are scored."""
    for run in sources.registry.run_names:
        if sources.registry.unavailable(run):
            continue
        if run in sources.real_runs:
            yield sources.samples(run)
        else:
            yield from (sources.policy(run), sources.prior(run), sources.tokenizer(run))
    yield from (*sources.evaluation_networks(), *sources.judge_networks(), sources.study_pairs())
    yield from (sources.reference_moments(), *paths_of(sources.further_references()))


def source_rules(sources: Sources) -> Rules:
    """Every rule between the external files and the final files of the scale."""
    registry = sources.registry
    specs = {run: sources.spec(run) for run in registry.run_names if "policy" not in sources.spec(run)}
    trained = [run for run, spec in specs.items() if spec["method"] in TRAINED]
    released = {run: spec["checkpoint"] for run, spec in specs.items() if spec["method"] == "external"}
    rules: Rules = {}
    if registry.data.embedded:
        rules[sources.embedded_data()] = ("data", sources.data_files())
    for name in registry.tokenizers:
        rules[sources.tokenizer_weights(name)] = (f"tokenizer {name}", [sources.tokenizer_source(name)])
    for name in registry.backbones:
        rules[sources.prior_weights(name)] = (f"pretrained_policy {name}", [sources.prior_source(name)])
    filed = [name for name, network in registry.networks.items() if network.kind not in PACKAGES]
    for name in filed:
        rules[sources.network_weights(name)] = (f"network {name}", paths_of(sources.network(name)))
    for run, checkpoint in released.items():
        rules[sources.policy(run)] = ("external_policy", [sources.asset(checkpoint)])
    for run in sources.real_runs:
        rules[sources.samples(run)] = ("real_samples", [sources.real(run)])
    rules[sources.moments_per_class()] = ("class_moments", paths_of(sources.class_moments()))
    for name in registry.tokenizers:
        rules[sources.codes(name)] = ("codes", [sources.tokenizer_weights(name), sources.images()])
    rules[sources.reference_moments()] = ("reference", paths_of(sources.reference()))
    for key in registry.evaluation.references:
        networks = sources.networks([registry.evaluation.features, *registry.evaluation.judges.values()])
        rules[sources.further_reference(key)] = ("further_reference", [sources.asset(key), *networks])
    if judge := registry.evaluation.efficientnet:
        rules[sources.judge_reference(judge)] = (f"judge_reference {judge}", [sources.embedded_data()])
    for name in filed:
        rules[sources.train_moments(name)] = (f"train_moments {name}", [sources.images(), *sources.networks([name])])
    for run in trained:
        rules[sources.policy(run)] = ("train", paths_of(sources.train(run)))
    rules[sources.study_pairs()] = ("study_make", [sources.study_images()])
    return rules


def paths_of(files: RuleInputs) -> list[str]:
    """All paths of a rule's named inputs."""
    return [path for named in files.values() for path in ([named] if isinstance(named, str) else named)]


def _reached(ends: Iterator[str], rules: Rules) -> list[str]:
    """The outputs of ``rules`` that the ends are made from, with the ends, in the order of ``rules``."""
    found, waiting = set(), list(ends)
    while waiting:
        path = waiting.pop()
        if path in rules and path not in found:
            found.add(path)
            waiting += rules[path][1]
    return [output for output in rules if output in found]


def needed_assets(registry: Registry) -> list[str]:
    """The assets without which something of the scale cannot be made."""
    return [key for key, rules in asset_users(registry).items() if rules]


def asset_state(
    registry: Registry, key: str, folder: Path, stamps: Path | None = None, datasets: Path | None = None
) -> str:
    """``present``, ``packed``, ``missing``, ``in part``, ``wrong file`` (a page, a damaged file) or ``wrong digest``.

    A file of pinned size, times and inode is not read, and a large folder is not listed.
    """
    path = find_asset(registry, key, folder)
    if path is None:
        if packed_file(asset_of(registry, key), folder, datasets):
            return "packed"
        return "in part" if leftover(folder / asset_of(registry, key).file) else "missing"
    pin, published = _pins(folder, stamps).get(key), published_digest(registry, key)
    if pin and path.is_dir() and pin["bytes"] > READ:
        return "present"
    try:
        if pin and (published is None or pin["sha256"].startswith(published.lower())):
            if not unaltered(path, pin):
                return "wrong digest"
        elif published is not None and not measure(path)["sha256"].startswith(published.lower()):
            return "wrong digest"
    except ArtuneError:  # it cannot be read
        return "wrong file"
    return "wrong file" if published is None and wrong_file(registry, key, path) else "present"


def _pins(folder: Path, stamps: Path | None) -> dict[str, dict[str, Any]]:
    """The pins of the files that the results were made from and, of the other assets, those beside the assets."""
    return read_pins(folder) | (read_used(stamps) if stamps else {})


def assets_table(registry: Registry, folder: Path, stamps: Path | None = None, datasets: Path | None = None) -> str:
    """One line per asset, then one line per wrong file and per missing file that the user must bring.

    A line says whether the file is there, whether its digest is published or pinned, its size, its licence and the
    rules that need it; if no rule does, it says in brackets what the file is for.
    """
    rows = [("asset", "state", "digest", "size", "licence", "needed by")]
    notes, pins = [], _pins(folder, stamps)
    for key, rules in asset_users(registry).items():
        asset, path = asset_of(registry, key), find_asset(registry, key, folder)
        size = f"~{asset.size}" if asset.size else "?"
        if path and path.is_file():
            doubt = f", not {size}" if far_from_size(asset, path.stat().st_size) else ""
            size = f"{path.stat().st_size / 1e9:.3f} GB{doubt}"
        published = "published" if asset.sha256 else "published in part" if asset.sha256_prefix else None
        digest = published or ("pinned on first use" if key in pins else "-")
        users = ", ".join(rules) or (f"({asset.optional})" if asset.optional else "-")
        state = asset_state(registry, key, folder, stamps, datasets)
        rows.append((key, state, digest, size, asset.license, users))
        if path and state.startswith("wrong") and (wrong := wrong_file(registry, key, path)):
            notes.append(f"wrong {key}: {path} is {wrong}")
        if path is None and rules and not asset.url and state != "packed":
            notes.append(f"bring {key}: {asset.source} -> {folder / asset.file}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return without_secrets("\n".join([*lines, *notes]))


def fetch_needed(
    registry: Registry, folder: Path, stamps: Path | None = None, datasets: Path | None = None
) -> list[str]:
    """Unpack or fetch, and check, every asset that the scale needs, if possible; returns one line per failure."""
    problems = []
    for key in needed_assets(registry):
        asset = asset_of(registry, key)
        if not (find_asset(registry, key, folder) or asset.url or packed_file(asset, folder, datasets)):
            continue
        try:
            fetch_asset(registry, key, folder, stamps=stamps, datasets=datasets)
        except ArtuneError as error:
            problems.append(str(error))
    return problems
