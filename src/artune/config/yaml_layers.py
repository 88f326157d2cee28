"""YAML files as layers: reading, validating and merging them. Never imports torch."""

import contextlib
import os
import re
import stat
from collections.abc import Collection, Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from artune.errors import ArtuneError, brief, cut, no_such_file

Model = TypeVar("Model", bound=BaseModel)
Tree = dict[str, Any]
SAFE = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml if PyYAML was built with it: about five times faster
DEEPEST = 100  # levels of nesting; libyaml's loader recurses in C and crashes the process at about 50,000
MOST_BYTES = 4_000_000  # of a file; the largest of config/ has 20,000
MOST_VALUES = 200_000  # values with every alias written out: ten lines of aliases of aliases stand for 10^10
LETTERS = 50  # of a text that count as one value
LONGEST_NUMBER = 1000  # characters; Python takes minutes for a number of a million digits in base 60
NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
RESOLVER = yaml.resolver.Resolver()

SCALE = re.compile(r"[a-z][a-z0-9_]*")  # a scale's name is that of a folder of results
FOLDER = "ARTUNE_CONFIG"  # environment variable: a copy of config/ that a job reads instead of config/ itself
INSTALLED = Path("share/artune/config/config.yaml")  # where a wheel puts config/, as pyproject.toml says


def config_folder() -> Path:
    """The folder of the settings.

    It is that of ``ARTUNE_CONFIG``, such as the copy that Snakemake made for its jobs when it planned them; otherwise
    ``config`` of the current folder; where that holds no settings of ours, the one that came with the installed wheel.

    Raises:
        ArtuneError: the environment variable ``ARTUNE_CONFIG`` names no folder.
    """
    if os.environ.get(FOLDER):
        folder = Path(os.environ[FOLDER])
        if not folder.is_dir():
            raise ArtuneError(f"{FOLDER}: {folder}: no such folder; unset the variable to use config/")
        return folder
    folder = Path("config")
    ours = (folder / "config.yaml").is_file() and (folder / "scales").is_dir()  # others have a config/config.yaml, too
    return folder if ours else _installed_folder() or folder


def _installed_folder() -> Path | None:
    """The settings that a wheel brought, which lie beside the environment's packages; None without a wheel."""
    import importlib.metadata  # here because few calls need it, and it takes some milliseconds

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("artune") or ():
            if file.parts[-len(INSTALLED.parts) :] == INSTALLED.parts:
                return Path(str(file.locate())).resolve().parent
    beside = Path(__file__).parents[2] / INSTALLED  # pip install --target, whose list of files is wrong
    return beside.parent if beside.is_file() else None


def scale_names(root: Path) -> tuple[str, ...]:
    """The scales of a folder of settings: the files in ``scales/`` whose names are small letters, digits and ``_``."""
    return tuple(sorted(path.stem for path in (root / "scales").glob("*.yaml") if SCALE.fullmatch(path.stem)))


def read_yaml(path: Path) -> Tree:
    """Read a mapping from YAML. Raises ArtuneError: as :func:`read_yaml_value`, or not a mapping."""
    value = read_yaml_value(path)
    if not isinstance(value, dict):
        raise ArtuneError(f"{path}: must hold a mapping")
    return value


def read_yaml_value(path: Path) -> Any:
    """Read YAML, in bounded time and memory whatever the file holds; only plain values are made.

    Raises:
        ArtuneError: no such file, bad syntax or encoding, a key that stands twice, or more than :data:`MOST_BYTES`,
            :data:`MOST_VALUES` or :data:`LONGEST_NUMBER` allow.
    """
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise ArtuneError(f"{path}: not a regular file")
        if about.st_size > MOST_BYTES:
            raise ArtuneError(f"{path}: {about.st_size:,} bytes; settings have at most {MOST_BYTES:,}")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise no_such_file(path) from error
    except OSError as error:
        raise ArtuneError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ArtuneError(f"{path}: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """The value of ``text``. Raises ArtuneError: as :func:`read_yaml_value`; the message names ``where``."""
    try:
        _check(text)
        return yaml.load(text, SAFE)
    except (yaml.YAMLError, ValueError, AttributeError, TypeError, KeyError, OverflowError, RecursionError) as error:
        message = " ".join(str(error).split())  # bad syntax; an invalid date, number or key
        raise ArtuneError(f"{where}: {cut(message, 300)}") from error


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


class _Open:
    """A mapping or list that is being read: its keys, how many values it holds, and whether a key comes next."""

    def __init__(self, event: yaml.CollectionStartEvent):
        self.anchor, self.mapping = event.anchor, isinstance(event, yaml.MappingStartEvent)
        self.keys: dict[Hashable, int] = {}
        self.values, self.turn = 1, 0

    def note(self, event: yaml.NodeEvent) -> None:
        """Count a child. Raises ValueError: it is a key that was there before."""
        if self.mapping and self.turn % 2 == 0 and isinstance(event, yaml.ScalarEvent):
            tag = RESOLVER.resolve(yaml.ScalarNode, event.value, event.implicit) if event.tag is None else event.tag
            line, key = _line(event), (tag, event.value)
            if key in self.keys:
                first = self.keys[key]
                raise ValueError(f"line {line}: {brief(event.value)} is there twice, first in line {first}; keep one")
            self.keys[key] = line
        self.turn += 1


def _check(text: str) -> None:
    """Read ``text`` event by event, without recursion and without making a value.

    Raises:
        ValueError: it is nested too deeply, an alias stands for itself, the aliases stand for too many values, a number
            has too many digits, or a key of a mapping stands twice.
    """
    around: list[_Open] = []
    sizes: dict[str, int] = {}  # anchor -> values that it stands for, 0 while it is being read
    for event in yaml.parse(text, SAFE):
        if isinstance(event, yaml.NodeEvent) and around:
            around[-1].note(event)
        line = _line(event)
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(_Open(event))
            sizes[event.anchor or ""] = 0
            if len(around) > DEEPEST:
                raise ValueError(f"nested too deeply, more than {DEEPEST} levels in line {line}")
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            done = around.pop()
            size = sizes[done.anchor or ""] = done.values
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor or "", 1)  # an unknown one is an error of the loader, with its own words
            if size == 0:
                raise ValueError(f"line {line}: the alias *{cut(str(event.anchor))} stands for itself")
        elif isinstance(event, yaml.ScalarEvent):
            _check_number(event, line)
            size = sizes[event.anchor or ""] = 1 + len(event.value) // LETTERS
        else:
            continue
        if around:
            around[-1].values += size
        if (around[-1].values if around else size) > MOST_VALUES:
            raise ValueError(f"line {line}: more than {MOST_VALUES:,} values, counted with what aliases stand for")


def _check_number(event: yaml.ScalarEvent, line: int) -> None:
    if len(event.value) <= LONGEST_NUMBER:
        return
    if event.tag in NUMBERS or (event.implicit[0] and re.fullmatch(r"[-+.]?[0-9][0-9a-fA-FxXob_.:+-]*", event.value)):
        raise ValueError(f"line {line}: a number of {len(event.value):,} characters; write at most {LONGEST_NUMBER:,}")


def parse(kind: type[Model], value: Any, where: str) -> Model:
    """Validate ``value``; the first problem becomes one line that names ``where`` and the key."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(cut(str(part)) for part in first["loc"])
        message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        got = (
            "" if first["type"] in ("extra_forbidden", "missing", "value_error") else f" (got {brief(first['input'])})"
        )
        raise ArtuneError(f"{where}: {key + ': ' if key else ''}{cut(message, 500)}{got}") from error
    except ArithmeticError as error:  # a validator computes with numbers that are too large
        raise ArtuneError(f"{where}: a number is out of range ({error})") from error


def mapping(value: Any, where: str) -> Tree:
    """``value``. Raises ArtuneError: it is no mapping."""
    if not isinstance(value, dict):
        raise ArtuneError(f"{where}: must be a mapping")
    return value


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


def one_of(name: Any, among: Collection[str]) -> bool:
    """Whether a value of a YAML file, which may also be a list or a mapping, is one of these names."""
    return isinstance(name, str) and name in among


def lines_of(value: Any, where: str, what: str = "runs", example: str = "{base: llamagen_l-ours}") -> Tree:
    """The lines of runs or other things: name -> line. Raises ArtuneError: ``value`` has another form."""
    if not isinstance(value, dict):
        raise ArtuneError(f"{where}: must be a mapping of {what}")
    for name, line in value.items():
        if not isinstance(name, str) or not isinstance(line, dict) or not all(isinstance(key, str) for key in line):
            raise ArtuneError(f"{where}: {name}: must be a mapping, e.g. {example}")
    return value
