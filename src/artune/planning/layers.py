"""The layers of ``config/`` seen by a reader: which layer sets a value, and which edits have no effect.

Never imports torch.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from artune.config.registry import RUN_SECTIONS, SECTIONS, Registry
from artune.config.settings import PRESETS
from artune.config.yaml_layers import Tree, config_folder, leaves, scale_names

RELEASED = Path(__file__).parent / "overridden_values.json"  # layer -> key -> released value, of overridden keys
Setting = tuple[Any, str]  # a value and the layer that sets it
Layers = Sequence[tuple[str, Tree]]


def origins(registry: Registry, name: str) -> dict[str, list[Setting]]:
    """Every key of a run and of its evaluation -> its values with their layers; the last layer wins."""
    base, seeds = registry.split(name)
    shown = {key: value for key, value in registry.spec(name).items() if key in RUN_SECTIONS}
    found: dict[str, list[Setting]] = {key: [] for key in leaves(shown | {"evaluation": registry.tree["evaluation"]})}
    for where, layer in [*registry.layers, *registry.run_layers(base)]:
        for key, value in leaves(layer).items():
            if key in found:
                found[key].append((value, where))
    if seeds.networks:  # which no layer names
        plain = leaves(registry.spec(base) | {"evaluation": registry.evaluation.networks})
        named = leaves(shown | {"evaluation": registry.evaluation_in(seeds.networks).networks})
        for key in (key for key in named if key in found and named[key] != plain.get(key)):
            found[key].append((named[key], f"the run's name: set {seeds.networks} of frozen networks"))
    return {key: values for key, values in found.items() if values}


def overridden(registry: Registry) -> Iterator[tuple[str, str, Any, Setting]]:
    """Layer, key and value of every setting that a higher layer overrides, with the setting that wins."""
    axes = sum(where.removesuffix(".yaml") in SECTIONS for where, _ in registry.layers)
    for at, layer in enumerate(registry.layers):
        yield from _overridden([layer], registry.layers[max(at + 1, axes) :])
    for run in registry.run_names:
        *_, own, scale = registry.run_layers(run)
        yield from _overridden([own], [scale])


def _overridden(below: Layers, above: Layers) -> Iterator[tuple[str, str, Any, Setting]]:
    winners = {key: (value, where) for where, layer in above for key, value in leaves(layer).items()}
    for where, layer in below:
        for key, value in leaves(layer).items():
            if key in winners:
                yield where, key, value, winners[key]


def overridden_values(root: Path | str | None = None) -> dict[str, dict[str, Any]]:
    """The contents of :data:`RELEASED`: layer -> key -> value, for keys that some higher layer overrides."""
    found: dict[str, dict[str, Any]] = {}
    for scale in scale_names(config_folder() if root is None else Path(root)):
        for preset in PRESETS:
            for where, key, value, _ in overridden(Registry(scale, preset, root)):
                found.setdefault(where, {})[key] = value
    return {where: dict(sorted(values.items())) for where, values in sorted(found.items())}


def edits_without_effect(registry: Registry) -> list[str]:
    """One line per value of a file of ``config/`` that somebody changed although a higher layer overrides it."""
    released = json.loads(RELEASED.read_text(encoding="utf-8"))
    lines = [
        f"config/{where}: {key}: {value!r} has no effect here; config/{above} sets {winner!r}, so edit it there"
        for where, key, value, (winner, above) in overridden(registry)
        if key in (known := released.get(where, {})) and value not in (known[key], winner)
    ]
    return list(dict.fromkeys(lines))
