"""The MLflow store: created once, filled live while training, brought up to date from the files."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from artune.config.paper import paper_values, tables_of
from artune.config.registry import Registry
from artune.config.seeds import cut_seeds, row_of
from artune.config.yaml_layers import read_yaml
from artune.runtime.files import read_json
from artune.runtime.places import destination
from artune.runtime.progress import warn
from artune.tracking.addresses import shown, sqlite_file
from artune.tracking.artifact_places import keep_artifacts_beside
from artune.tracking.mlflow_run import MlflowRun, Point, RunView, connect_mlflow, experiment_id
from artune.tracking.run_facts import DataFile, colour_of, compared_settings, owner_of
from artune.tracking.run_logger import LOGS, read_lines
from artune.tracking.run_page import attach_page, describe_experiment, describe_run, describe_seeds
from artune.tracking.saved_views import view_tags
from artune.tracking.source_code import SourceCode, code_of
from artune.tracking.sqlite_store import alone, create_database, hide_default

MOST_OF_A_TAG = 8000  # largest number of characters per tag that the store accepts
PARENT = "mlflow.parentRunId"
OfRun = Callable[[str], Sequence[DataFile]]  # name of a run -> its data files


def init_store(uri: str, experiments: Iterable[str] = ()) -> bool:
    """Create the store if it is missing; artifacts go beside the database.

    Args:
        uri: address of the store.
        experiments: names of experiments to create as well. Others are created when their first run is logged, so that
            none is empty.

    Returns:
        False, after one warning, if the store cannot be used.
    """
    try:
        database = sqlite_file(uri)
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        with alone(uri):
            if database is not None and not destination(database).exists():
                create_database(destination(database))
            client = connect_mlflow(uri)
            client.search_experiments(max_results=1)  # a server that is down says so here
            if database is not None:
                hide_default(client)
                keep_artifacts_beside(destination(database))  # also if the folder was moved since
            for name in experiments:
                experiment_id(client, uri, name, restore=False)  # a run that belongs to it restores it
    except Exception as error:
        warn(f"MLflow store {shown(uri)} cannot be used ({type(error).__name__}: {error})")
        return False
    return True


def run_tags(
    registry: Registry,
    spec: Mapping[str, Any],
    code: SourceCode | None = None,
    scores: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Tags for finding runs (``tags.table4 IS NOT NULL`` gives Table 4's), the source, the description of the page."""
    code = code or SourceCode()
    rewards = "+".join(spec["rewards"]["terms"]) if spec.get("rewards") else "none"
    tags = {"backbone": spec.get("backbone_name", "none"), "method": spec["method"], "rewards": rewards}
    tags |= {
        "cfg": spec.get("sampling", {}).get("cfg", "none"),
        "scale": spec["scale"],
        "seed": spec["seed"],
        **{key: spec[key] for key in ("tokenizer_seed", "networks_seed") if key in spec},
        "commit": code.commit,
    }
    tags |= {"mlflow.note.content": describe_run(registry, spec, scores, code)[:MOST_OF_A_TAG], **code.tags()}
    tags |= colour_of(registry, spec["base"])
    return {key: str(value) for key, value in (tags | tables_of(registry, row_of(spec))).items()}


def points_of(registry: Registry, folder: Path, row: str, scores: Mapping[str, Any]) -> list[Point]:
    """All numbers of a finished run: its curves, its final scores and the paper's values."""
    points = [
        (key, float(value), line["iteration"])
        for file in LOGS
        for line in read_lines(folder / file)
        for key, value in line.items()
        if key != "iteration" and value is not None
    ]
    points += [(f"eval/{key}", float(value), 0) for key, value in scores["scores"].items() if value is not None]
    return points + [(f"paper/{key}", value, 0) for key, value in paper_values(registry, row).items()]


def _times(folder: Path) -> tuple[int, int] | None:
    """Start and end of a run's training in milliseconds; None if nothing was trained."""
    manifest = folder / "manifest.json"
    if not manifest.exists():
        return None
    ended = manifest.stat().st_mtime
    return int(1000 * (ended - max(0.0, read_json(manifest)["seconds"]))), int(1000 * ended)


def _moments(folder: Path, began: int | None) -> dict[int, int]:
    """Step -> its time in milliseconds, from the seconds of the iterations; {} if nothing was trained."""
    lines = read_lines(folder / "timings.jsonl")
    if began is None or not all("time/iteration" in line for line in lines):
        return {}
    ends = 1000 * np.cumsum([float(line["time/iteration"] or 0.0) for line in lines])
    return {line["iteration"]: began + int(end) for line, end in zip(lines, ends, strict=True)}


@dataclass(frozen=True)
class Finished:
    """A finished run as its files tell it."""

    folder: Path
    spec: Mapping[str, Any]
    tags: Mapping[str, str]
    points: Sequence[Point]
    times: tuple[int, int] | None

    @property
    def row(self) -> str:
        """The name by which tables know the run: without its repetition."""
        return row_of(self.spec)


def experiment_tags(registry: Registry, rows: Iterable[str]) -> dict[str, str]:
    """Tags of an experiment: its description, its kind, and the saved views of the tables that show ``rows``."""
    tags = {"mlflow.note.content": describe_experiment(registry)}
    return tags | {"mlflow.experimentKind": "custom_model_development"} | view_tags(registry, set(rows))  # not "GenAI"


def live_record(
    uri: str, registry: Registry, config: Path, code: SourceCode, data: Sequence[DataFile] = ()
) -> MlflowRun:
    """The run of a training that begins, as :func:`upsert` will log it when it has ended.

    Args:
        uri: tracking URI.
        registry: registry of the run's scale.
        config: the run's config.yaml.
        code: the code that trains it.
        data: its data files.
    """
    spec = read_yaml(config)
    tags = run_tags(registry, spec, code) | owner_of(config)
    views = experiment_tags(registry, [row_of(spec)])
    params = compared_settings(registry, spec)
    return MlflowRun(uri, registry.results_name, spec["name"], params, tags, data, config.parent, views)


def read_finished(registry: Registry, folder: Path) -> Finished:
    """Read the files of a run that has scores. Raises ArtuneError: one is damaged."""
    spec, scores = read_yaml(folder / "config.yaml"), read_json(folder / "scores.json")
    made = scores.get("versions", {})
    code = code_of(scores.get("commit") or made.get("commit", "unknown"), bool(made.get("uncommitted_changes")))
    tags = run_tags(registry, spec, code, scores) | owner_of(folder / "scores.json")
    return Finished(folder, spec, tags, points_of(registry, folder, row_of(spec), scores), _times(folder))


def upsert(uri: str, registry: Registry, folders: Sequence[Path], data: OfRun = lambda run: ()) -> bool:
    """Bring the store up to date with the finished runs among ``folders``; no point is logged twice.

    A run whose numbers in the store differ (it was trained or scored again since) is deleted there and logged again.
    A row of which several seeds are finished gets a parent run with their means.

    Args:
        uri: tracking URI.
        registry: registry of the runs' scale.
        folders: folders ``results/{scale}/runs/{run}``; those without scores.json are skipped.
        data: name of a run -> its data files.

    Returns:
        False, after one warning, if the store is down or too slow.

    Raises:
        ArtuneError: a file of a folder is damaged.
    """
    runs = [read_finished(registry, folder) for folder in folders if (folder / "scores.json").exists()]
    if not init_store(uri):
        return False
    try:
        for run in runs:
            with alone(uri):
                _log(uri, registry, run, data(run.spec["name"]))
        for row in dict.fromkeys(run.row for run in runs):
            seeds = _seeds_of(registry, runs, row)
            if len(seeds) > 1:
                with alone(uri):
                    _log_row(uri, registry, row, seeds, data(seeds[0].spec["name"]))
    except Exception as error:
        warn(f"MLflow store {shown(uri)} failed; its runs are not up to date ({type(error).__name__}: {error})")
        return False
    return True


def _log(uri: str, registry: Registry, run: Finished, data: Sequence[DataFile]) -> None:
    """Log a finished run, or what the store lacks of it."""
    params, views = compared_settings(registry, run.spec), experiment_tags(registry, [run.row])
    record = MlflowRun(uri, registry.results_name, run.spec["name"], params, run.tags, data, run.folder, views)
    view = RunView(record, times=run.times)
    if view.outdated(run.points):
        view.replace()
    view.add(run.points, _moments(run.folder, run.times[0] if run.times else None))
    view.log_data()
    grids = sorted(run.folder.glob("grids/iteration-*.png"))
    view.show([(path, int(path.stem.split("-")[1])) for path in grids])
    attach_page(view, run.folder)
    view.describe_experiment(views)
    view.finish()


def _seeds_of(registry: Registry, runs: Sequence[Finished], row: str) -> list[Finished]:
    """The finished repetitions of a row, by seed: those among ``runs`` and those that lie beside them."""
    found = {run.spec["name"]: run for run in runs if run.row == row}
    beside = next(iter(found.values())).folder.parent
    for folder in {path.parent for path in beside.glob(f"{row}*/scores.json")}:
        base, named = cut_seeds(folder.name)
        if folder.name not in found and f"{base}{named.inputs}" == row:
            found[folder.name] = read_finished(registry, folder)
    return sorted(found.values(), key=lambda run: run.spec["seed"])


def mean_points(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """The means over several seeds where all of them have a number, and the scores' standard deviations.

    The standard deviation of ``eval/fid`` is ``seeds/fid``. Standard errors have no mean, as they would be mistaken for
    the error of the mean.
    """
    values: dict[tuple[str, int], list[float]] = {}
    for points in runs:
        for key, value, step in points:
            values.setdefault((key, step), []).append(value)
    whole = {
        place: found for place, found in values.items() if len(found) == len(runs) and not place[0].endswith("_se")
    }
    means = [(key, float(f"{np.mean(found):.10g}"), step) for (key, step), found in whole.items()]
    scores = {key.removeprefix("eval/"): found for (key, _), found in whole.items() if key.startswith("eval/")}
    return means + [(f"seeds/{name}", float(f"{np.std(found, ddof=1):.6g}"), 0) for name, found in scores.items()]


def _log_row(uri: str, registry: Registry, row: str, seeds: Sequence[Finished], data: Sequence[DataFile]) -> None:
    """Log the means of a row's seeds as the parent run of these."""
    first = seeds[0]
    params = {key: value for key, value in compared_settings(registry, first.spec).items() if key != "seed"}
    kept = {key: value for key, value in first.tags.items() if key not in ("seed", "commit")}
    names = [run.spec["name"] for run in seeds]
    points = mean_points([run.points for run in seeds])
    told = describe_seeds(registry, first.spec, names, points)[:MOST_OF_A_TAG]
    tags = kept | {"seeds": str(len(seeds)), "mlflow.note.content": told}
    began = [run.times for run in seeds if run.times]
    times = (min(start for start, _ in began), max(end for _, end in began)) if began else None
    view = RunView(MlflowRun(uri, registry.results_name, f"{row} (mean)", params, tags, data), times=times)
    if view.outdated(points):
        view.replace()
    view.add(points, _moments(first.folder, times[0] if times else None))
    view.log_data()
    attach_page(view, first.folder, ())
    view.finish()
    for name in names:
        for child in view.client.search_runs([view.experiment], f"attributes.run_name = '{name}'"):
            if child.data.tags.get(PARENT) != view.id:
                view.client.set_tag(child.info.run_id, PARENT, view.id)
