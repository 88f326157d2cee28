"""What the paper's tables say of a run: its table, its row and the paper's numbers."""

import re
from typing import Any

from artune.config.registry import Registry
from artune.config.tables import Row, Table
from artune.errors import ArtuneError, unknown

PLACEHOLDER = re.compile(r"\{([\w.]+)\}")


def find_table(registry: Registry, key: str) -> Table:
    """The layout called ``key``; an unknown key is an ArtuneError."""
    if key not in registry.tables:
        raise ArtuneError(f"config/tables.yaml: {unknown(key, registry.tables, 'table')}")
    return registry.tables[key]


def row_labels(registry: Registry, row: Row) -> tuple[str, ...]:
    """The text cells of a row, ``{dotted.key}`` replaced by the run's own setting, ``{about.key}`` by the scale's."""

    def setting(match: re.Match[str]) -> str:
        value: Any = registry if match[1].startswith("about.") else registry.resolve(str(row.run))
        for part in match[1].split("."):
            known = value if isinstance(value, dict) else vars(value)
            if part not in known:
                raise ArtuneError(f"config/tables.yaml: row {row.run}: {match[0]} names no setting of the run")
            value = known[part]
        return str(value)

    return tuple(PLACEHOLDER.sub(setting, label) for label in row.labels)


def tables_of(registry: Registry, run: str) -> dict[str, str]:
    """Table -> the row's text, for every table that shows a run."""
    found = {}
    for key, table in registry.tables.items():
        for row in table.rows:
            if row.run == run:
                found[key] = " | ".join(row_labels(registry, row))
    return found


def paper_values(registry: Registry, run: str) -> dict[str, float]:
    """The paper's numbers for a run, from all its tables (they agree; a test looks)."""
    values: dict[str, float] = {}
    for table in registry.tables.values():
        for row in table.rows:
            if row.run == run:
                pairs = zip(table.columns, row.paper or (None,) * len(table.columns), strict=True)
                values |= {column: value for column, value in pairs if value is not None}
    return values
