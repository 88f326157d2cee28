"""YAML files as layers: reading, validating and merging them. Never imports torch."""

import os
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from artune.errors import ArtuneError

Model = TypeVar("Model", bound=BaseModel)
Tree = dict[str, Any]
SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml if PyYAML was built with it: about five times faster
DEEPEST = 100  # levels of nesting; libyaml's loader recurses in C and crashes the process at about 50,000

FOLDER = "ARTUNE_CONFIG"  # environment variable: a copy of config/ that a job reads instead of config/ itself


def config_folder() -> Path:
    """The folder of the settings: ``config``, or the copy that Snakemake made for its jobs when it planned them.

    Raises:
        ArtuneError: the environment variable ``ARTUNE_CONFIG`` names no folder.
    """
    folder = Path(os.environ.get(FOLDER) or "config")
    if os.environ.get(FOLDER) and not folder.is_dir():
        raise ArtuneError(f"{FOLDER}: {folder}: no such folder; unset the variable to use config/")
    return folder


def read_yaml(path: Path) -> Tree:
    """Read a mapping from YAML.

    Raises:
        ArtuneError: no such file, bad syntax or encoding, or not a mapping.
    """
    try:
        value = _load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ArtuneError(f"{path}: no such file") from error
    except RecursionError as error:
        raise ArtuneError(f"{path}: nested too deeply; fix it") from error
    except (yaml.YAMLError, ValueError, AttributeError, TypeError) as error:  # not UTF-8; invalid date, number or key
        raise ArtuneError(f"{path}: {' '.join(str(error).split())}") from error
    if not isinstance(value, dict):
        raise ArtuneError(f"{path}: must hold a mapping")
    return value


def _load(text: str) -> Any:
    """The value of ``text``. Raises RecursionError: it is nested more than :data:`DEEPEST` levels deep."""
    depth = 0
    for event in yaml.parse(text, SAFE):  # event by event, without recursion
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise RecursionError
    return yaml.load(text, SAFE)


def parse(kind: type[Model], value: Any, where: str) -> Model:
    """Validate ``value``; the first problem becomes one line that names ``where`` and the key."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        got = "" if first["type"] in ("extra_forbidden", "missing", "value_error") else f" (got {first['input']!r})"
        raise ArtuneError(f"{where}: {key + ': ' if key else ''}{message}{got}") from error


def merge(below: Tree, above: Tree) -> Tree:
    """``above`` over ``below``: mappings are merged, anything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def undot(line: Tree) -> Tree:
    """``{"grpo.beta": 2}`` -> ``{"grpo": {"beta": 2}}``; a list of rewards is short for ``rewards.terms``."""
    tree: Tree = {}
    for key, value in line.items():
        if key == "rewards" and isinstance(value, list):
            key = "rewards.terms"
        for part in reversed(key.split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def leaves(tree: Tree, prefix: str = "") -> dict[str, Any]:
    """``{"grpo": {"beta": 2}}`` -> ``{"grpo.beta": 2}``."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {prefix + key: value}
    return flat
