"""Reading ``tables.yaml``, ``figures.yaml`` and ``claims.yaml``: every run and row that they name must be there."""

from collections.abc import Callable, Mapping
from typing import Any

from artune.claim_layouts import Claim
from artune.errors import ArtuneError
from artune.layers import parse
from artune.layouts import Figure, Table

Known = Callable[[str, str], None]  # run, where it is named -> an ArtuneError if there is none


def read_tables(tree: Mapping[str, Any], known: Known) -> dict[str, Table]:
    """The tables."""
    tables = {}
    for key, value in tree.items():
        tables[key] = parse(Table, value, f"config/tables.yaml: {key}")
        for row in tables[key].rows:
            if row.run is not None:
                known(row.run, f"config/tables.yaml: {key}")
    return tables


def read_figures(tree: Mapping[str, Any], known: Known) -> dict[str, Figure]:
    """The figures."""
    figures = {}
    for key, value in tree.items():
        figures[key] = parse(Figure, value, f"config/figures.yaml: {key}")
        for run in figures[key].runs:
            known(run, f"config/figures.yaml: {key}")
    return figures


def read_claims(tree: Mapping[str, Any], tables: Mapping[str, Table], known: Known) -> dict[str, Claim]:
    """The claims; those of the human study must name rows of its table."""
    rows = {row.labels for table in tables.values() if table.kind == "study" for row in table.rows}
    claims = {}
    for key, value in tree.items():
        where = f"config/claims.yaml: {key}"
        claims[key] = parse(Claim, value, where)
        for run in claims[key].runs:
            known(run, where)
        for test in claims[key].votes:
            for setting in (test.setting, test.more_than or test.setting):
                if (setting, test.task) not in rows:
                    raise ArtuneError(f"{where}: votes: {setting} / {test.task} is no row of the study's table")
    return claims
