"""The settings of one call of Snakemake, copied when it plans: its jobs read the copy, not ``config/``.

Whatever somebody edits while jobs run or wait, all of them work by the settings that the plan was made from, with the
overrides of ``--config`` and ``--configfile``. Never imports torch.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import yaml

from artune.config.settings import Settings
from artune.config.yaml_layers import Tree
from artune.errors import ArtuneError, without_secrets
from artune.planning.plan import Plan
from artune.runtime.files import write_text

FOLDER = Path("results/.settings")  # holds one folder per different settings, named by their digest


@dataclass(frozen=True)
class Snapshot:
    """The files of ``config/`` as texts by name, with ``config.yaml`` as the call overrode it."""

    texts: dict[str, str]

    @property
    def folder(self) -> Path:
        """Where the copy lies; the same settings always have the same folder."""
        return FOLDER / hashlib.sha256(json.dumps(self.texts, sort_keys=True).encode()).hexdigest()[:16]

    def write(self) -> None:
        """Write the files that are missing or altered.

        Raises:
            ArtuneError: a file cannot be written.
        """
        for name, text in self.texts.items():
            path = self.folder / name
            if not path.is_file() or path.read_bytes() != text.encode():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, text)


def plan_and_copy(config: Tree, root: Path) -> tuple[Plan, Snapshot]:
    """The plan by the settings under ``root``, and their copy.

    Raises:
        ArtuneError: anything wrong in the settings, or they were edited while they were read.
    """
    before = snapshot_texts(root)
    plan = Plan(config, root)
    if snapshot_texts(root) != before:
        raise ArtuneError(f"{root.name}/: was edited while it was read; give the command again")
    return plan, snapshot_of(plan.settings, before)


def snapshot_texts(root: Path) -> dict[str, str]:
    """The YAML files under ``root`` by name. Raises ArtuneError: a file cannot be read or is not UTF-8."""
    texts = {}
    for path in sorted(root.rglob("*.yaml")):
        try:
            texts[path.relative_to(root).as_posix()] = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ArtuneError(f"{path}: cannot be read ({error}); mend or remove it") from error
    return texts


def snapshot_of(settings: Settings, texts: dict[str, str]) -> Snapshot:
    """The settings and the files of ``config/``; an address is kept without its password."""
    values = settings.model_dump(mode="json")
    values["tracking_uri"] = without_secrets(settings.tracking_uri)  # jobs get it whole from the environment
    return Snapshot(texts | {"config.yaml": yaml.safe_dump(values, sort_keys=False)})
