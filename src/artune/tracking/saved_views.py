"""Views of MLflow's pages that open on a table: which runs, which columns, which charts, and the links to them.

MLflow keeps a view that somebody shares as a tag of the experiment, and a link opens it. Each table of scores gets one,
so that nobody has to choose columns or charts. The form is that of MLflow 3.17 (its pages, "Share view").
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from artune.config.glossary import COLUMNS
from artune.config.paper import available_runs
from artune.config.registry import Registry
from artune.tracking.mlflow_run import connect_mlflow

FIRST = "table4"  # the table that a link opens if it can
SHARED = "mlflow.sharedViewState."
SHOWN = (
    "fid",
    "inception_score",
    "precision",
    "recall",
)  # columns and first bars of a view, if the table has no others
FURTHER = ("clip_score", "fid_reward")
RUN_NAME = "attributes.`Run Name`"
LETTER = 7  # pixels per letter of a column's heading, which stands between quotes after "metrics."
# The curves that one compares, a chart each; MLflow calls a chart by its metric. Those that no run has are left out.
CURVES = (
    "reward/total", "reward/clip", "reward/hps", "reward/loo_fid", "fid/ema", "policy/entropy", "policy/kl",
    "entropy/coefficient", "optim/grad_norm", "mle/loss", "vapi/reward",
)  # fmt: skip
# Every other section, by the first part of its metrics' names; closed, because the charts above are what one compares.
OTHERS = (
    "reward", "fid", "policy", "entropy", "optim", "mle", "vapi", "eval", "paper", "seeds", "time",
    "Model metrics", "System metrics",
)  # fmt: skip


def _line(metric: str, section: str) -> dict[str, Any]:
    return {
        "type": "LINE", "uuid": f"line-{metric}", "metricSectionId": section, "deleted": False, "isGenerated": False,
        "runsCountToCompare": 10, "metricKey": metric,
        "lineSmoothness": 0, "xAxisScaleType": "linear", "scaleType": "linear", "range": {}, "xAxisKey": "step",
        "selectedXAxisMetricKey": "", "yAxisKey": "metric", "yAxisExpressions": [], "ignoreOutliers": False,
        "useGlobalXaxisKey": True, "useGlobalLineSmoothing": True,
    }  # fmt: skip


def _bar(metric: str, section: str) -> dict[str, Any]:
    return {
        "type": "BAR", "uuid": f"bar-{metric}", "metricSectionId": section, "deleted": False, "isGenerated": False,
        "runsCountToCompare": 10, "metricKey": f"eval/{metric}", "dataAccessKey": f"eval/{metric}",
    }  # fmt: skip


def _grids(section: str) -> dict[str, Any]:
    return {
        "type": "IMAGE", "uuid": "image-samples", "metricSectionId": section, "deleted": False, "isGenerated": False,
        "runsCountToCompare": 10, "imageKeys": ["samples"], "step": 0, "showRunParams": False,
    }  # fmt: skip


def _section(name: str, uuid: str, display: bool) -> dict[str, Any]:
    return {
        "uuid": uuid, "name": name, "display": display, "isReordered": True, "deleted": False, "isGenerated": False,
        "columns": 2, "cardHeight": 260,
    }  # fmt: skip


def rows_of(table: str) -> str:
    """MLflow's filter for the rows of a table: its runs, and of several seeds their parent run."""
    return f"tags.{table} IS NOT NULL AND tags.`mlflow.parentRunId` IS NULL"


def view_of(registry: Registry, table: str) -> dict[str, Any]:
    """The state of MLflow's runs page that shows a table: its rows by FID, scores as columns, curves as charts.

    Of a row with several seeds only the parent run is listed.
    """
    columns = (*registry.tables[table].columns, *registry.tables[table].extra)
    scores = [name for name in (*SHOWN, *FURTHER) if name in columns] or list(columns or SHOWN)
    shown = [f"metrics.`eval/{name}`" for name in scores]
    widths = {RUN_NAME: 260} | {column: max(120, LETTER * len(column) - 40) for column in shown}  # 1,020 pixels in all
    curves = [_line(metric, "curves") for metric in CURVES]
    bars = [_bar(name, "scores") for name in scores]
    sections = [("Curves", "curves", True), ("Scores", "scores", True), ("Samples", "samples", True)]
    return {
        "searchFilter": rows_of(table),
        "orderByKey": f"metrics.`eval/{scores[0]}`",
        "orderByAsc": scores[0] not in COLUMNS or COLUMNS[scores[0]].better < 0,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": shown,
        "columnOrder": list(widths),
        "columnWidths": widths,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": [*curves, *bars, _grids("samples")],
        "compareRunSections": [_section(*one) for one in (*sections, *((name, name, False) for name in OTHERS))],
        "isAccordionReordered": True,
        "viewMaximized": False,
        "runListHidden": False,
        "groupBy": None,
        "groupsExpanded": {},
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "chartsSearchFilter": "",
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def view_tags(registry: Registry, rows: Collection[str]) -> dict[str, str]:
    """The tags of the experiment for the views of all tables of scores that show one of the runs ``rows``."""
    tags = {}
    for key, table in registry.tables.items():
        if table.kind == "scores" and not set(rows).isdisjoint(available_runs(registry, table.rows)):
            state = json.dumps(view_of(registry, key), ensure_ascii=False)
            tags[f"{SHARED}{key}"] = json.dumps({"name": _name(key, table.title), "createdAt": 0, "state": state})
    return tags


def _name(key: str, title: str) -> str:
    number = key.removeprefix("table")
    return f"Table {number}: {title}" if number.isdigit() else title


def link(server: str, experiment: str, table: str, charts: bool = False) -> str:
    """The address of a table's view.

    Args:
        server: address of MLflow's pages.
        experiment: id of the experiment.
        table: key of the table.
        charts: whether to open the curves instead of the list of runs.
    """
    words = {"workflowType": "machine_learning", "compareRunsMode": "CHART" if charts else "TABLE"}
    query = urlencode(words | {"viewStateShareKey": table})
    return f"{server.rstrip('/')}/#/experiments/{experiment}/runs?{query}"


@dataclass(frozen=True)
class Experiment:
    """An experiment with saved views."""

    name: str  # the scale, or scale and preset
    id: str
    tables: tuple[str, ...]  # keys of the tables that it has views of, table4 first


def experiments_with_views(uri: str, tables: Collection[str]) -> list[Experiment]:
    """The experiments of a store that hold runs of one of these tables. Raises whatever the store raises."""
    found = []
    for experiment in connect_mlflow(uri).search_experiments():
        known = [key for key in tables if f"{SHARED}{key}" in experiment.tags]  # views of other names are people's own
        if known:
            order = tuple(sorted(known, key=lambda key: key != FIRST))
            found.append(Experiment(experiment.name, experiment.experiment_id, order))
    return found
