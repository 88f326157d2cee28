"""Which rule needs which external file (asset), and whether the file is present."""

from collections.abc import Iterator
from pathlib import Path

from artune.config.registry import Registry
from artune.data.assets import asset_of, fetch_asset, find_asset, published_digest, read_pins, size_and_time
from artune.errors import ArtuneError
from artune.planning.sources import TRAINED, RuleInputs, Sources
from artune.runtime.files import sha256

Rules = dict[str, tuple[str, list[str]]]  # output -> the rule that makes it (with its wildcard's value), its inputs


def asset_users(registry: Registry) -> dict[str, list[str]]:
    """The rules that need each asset at the registry's scale, e.g. ``{"vq_ds16_c2i": ["tokenizer vq"]}``.

    Raises:
        ArtuneError: a rule needs an asset that ``config/assets.yaml`` does not name.
    """
    sources = Sources(registry)
    rules = _rules(sources)
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
    yield from (sources.reference_moments(), *_paths(sources.further_references()))


def _rules(sources: Sources) -> Rules:
    """Every rule between the external files and the final files of the scale."""
    registry = sources.registry
    specs = {run: sources.spec(run) for run in registry.run_names if "policy" not in sources.spec(run)}
    trained = [run for run, spec in specs.items() if spec["method"] in TRAINED]
    released = {run: spec["checkpoint"] for run, spec in specs.items() if spec["method"] == "external"}
    rules: Rules = {}
    for name in registry.tokenizers:
        rules[sources.tokenizer_weights(name)] = (f"tokenizer {name}", [sources.tokenizer_source(name)])
    for name in registry.backbones:
        rules[sources.prior_weights(name)] = (f"pretrained_policy {name}", [sources.prior_source(name)])
    for name in registry.networks:
        rules[sources.network_weights(name)] = (f"network {name}", _paths(sources.network(name)))
    for run, checkpoint in released.items():
        rules[sources.policy(run)] = ("external_policy", [sources.asset(checkpoint)])
    for run in sources.real_runs:
        rules[sources.samples(run)] = ("real_samples", [sources.real(run)])
    rules[sources.moments_per_class()] = ("class_moments", _paths(sources.class_moments()))
    for name in registry.tokenizers:
        rules[sources.codes(name)] = ("codes", [sources.tokenizer_weights(name), sources.images()])
    rules[sources.reference_moments()] = ("reference", _paths(sources.reference()))
    for key in registry.evaluation.references:
        rules[sources.further_reference(key)] = ("further_reference", [sources.asset(key)])
    for name in registry.networks:
        rules[sources.train_moments(name)] = (f"train_moments {name}", [sources.images(), *sources.networks([name])])
    for run in trained:
        rules[sources.policy(run)] = ("train", _paths(sources.train(run)))
    rules[sources.study_pairs()] = ("study_make", [sources.study_images()])
    return rules


def _paths(files: RuleInputs) -> list[str]:
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


def asset_state(registry: Registry, key: str, folder: Path) -> str:
    """``present``, ``missing``, ``in part`` or ``wrong digest``; a file of pinned size and time is not read."""
    path = find_asset(registry, key, folder)
    if path is None:
        return "in part" if (folder / f"{asset_of(registry, key).file}.part").exists() else "missing"
    pin = read_pins(folder).get(key, {})
    wanted = published_digest(registry, key) or pin.get("sha256")
    if wanted is None or path.is_dir():
        return "present"
    unread = pin and size_and_time(path).items() <= pin.items()
    digest = pin["sha256"] if unread else sha256(path)
    return "present" if digest.startswith(wanted.lower()) else "wrong digest"


def assets_table(registry: Registry, folder: Path) -> str:
    """One line per asset, then one line per missing file that the user must bring.

    A line says whether the file is there, whether its digest is published or pinned, its size, its licence and the
    rules that need it; if no rule does, it says in brackets what the file is for.
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
    """Fetch and check every asset that the scale needs and that may be fetched; returns one line per failure."""
    problems = []
    for key in needed_assets(registry):
        if find_asset(registry, key, folder) is None and not asset_of(registry, key).url:
            continue
        try:
            fetch_asset(registry, key, folder)
        except ArtuneError as error:
            problems.append(str(error))
    return problems
