"""The MLflow store: created once, filled live while training, brought up to date from the files."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artune.config.paper import paper_values, tables_of
from artune.config.registry import Registry
from artune.config.seeds import row_of
from artune.config.yaml_layers import config_folder, read_yaml, scale_names
from artune.runtime.files import read_json
from artune.runtime.places import destination
from artune.runtime.progress import warn
from artune.tracking.addresses import shown, sqlite_file
from artune.tracking.mlflow_run import (
    MlflowRun,
    Point,
    RunView,
    alone,
    connect_mlflow,
    create_database,
    experiment_id,
)
from artune.tracking.run_logger import read_lines
from artune.tracking.run_page import PICTURE, describe_experiment, describe_run, draw_page_picture

ARTIFACTS = ("grid.png", "config.yaml", "scores.json", "manifest.json")
MOST_OF_A_TAG = 8000  # largest number of characters per tag that the store accepts


def init_store(uri: str, experiments: Iterable[str] | None = None) -> bool:
    """Create the store and its experiments (default: one per scale) if missing; artifacts go beside the database.

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
            for name in scale_names(config_folder()) if experiments is None else experiments:
                experiment_id(client, uri, name, restore=False)  # a run that belongs to it restores it
    except Exception as error:
        warn(f"MLflow store {shown(uri)} cannot be used ({type(error).__name__}: {error})")
        return False
    return True


def run_tags(
    registry: Registry, spec: Mapping[str, Any], commit: str = "unknown", scores: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """Tags for finding runs (``tags.table4 IS NOT NULL`` gives Table 4's), and the description of the run's page."""
    rewards = "+".join(spec["rewards"]["terms"]) if spec.get("rewards") else "none"
    tags = {"backbone": spec.get("backbone_name", "none"), "method": spec["method"], "rewards": rewards}
    tags |= {
        "cfg": spec.get("sampling", {}).get("cfg", "none"),
        "scale": spec["scale"],
        "seed": spec["seed"],
        **{key: spec[key] for key in ("tokenizer_seed", "networks_seed") if key in spec},
        "commit": commit,
    }
    tags |= {"mlflow.note.content": describe_run(registry, spec, scores)[:MOST_OF_A_TAG]}
    if commit != "unknown":
        tags["mlflow.source.git.commit"] = commit
    return {key: str(value) for key, value in (tags | tables_of(registry, row_of(spec))).items()}


def points_of(registry: Registry, folder: Path, row: str, scores: Mapping[str, Any]) -> list[Point]:
    """All numbers of a finished run: its curves, its final scores and the paper's values."""
    points = [
        (key, float(value), line["iteration"])
        for file in ("metrics.jsonl", "timings.jsonl")
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


def upsert(uri: str, registry: Registry, folders: Sequence[Path]) -> bool:
    """Bring the store up to date with the finished runs among ``folders``; no point is logged twice.

    A run whose numbers in the store differ (it was trained or scored again since) is deleted there and logged again.

    Args:
        uri: tracking URI.
        registry: registry of the runs' scale.
        folders: folders ``results/{scale}/runs/{run}``; those without scores.json are skipped.

    Returns:
        False, after one warning, if the store is down or too slow.

    Raises:
        ArtuneError: a file of a folder is damaged.
    """
    runs = []
    for folder in folders:
        if (folder / "scores.json").exists():
            spec, scores = read_yaml(folder / "config.yaml"), read_json(folder / "scores.json")
            commit = scores.get("commit") or scores.get("versions", {}).get("commit", "unknown")
            points = points_of(registry, folder, row_of(spec), scores)
            runs.append((folder, spec, run_tags(registry, spec, commit, scores), points))
    if not init_store(uri, [registry.results_name]):
        return False
    try:
        for folder, spec, tags, points in runs:
            with alone(uri):
                record = MlflowRun(uri, registry.results_name, spec["name"], spec, tags)
                view = RunView(record, times=_times(folder))
                if view.outdated(points):
                    view.replace()
                view.add(points)
                grids = sorted(folder.glob("grids/iteration-*.png"))
                view.show([(path, int(path.stem.split("-")[1])) for path in grids])
                with tempfile.TemporaryDirectory() as made:
                    picture = Path(made) / PICTURE
                    draw_page_picture(folder, picture)
                    view.attach([path for name in ARTIFACTS if (path := folder / name).exists()] + [picture])
                view.finish()
        client = connect_mlflow(uri)
        experiment = experiment_id(client, uri, registry.results_name)
        client.set_experiment_tag(experiment, "mlflow.note.content", describe_experiment(registry))
        client.set_experiment_tag(experiment, "mlflow.experimentKind", "custom_model_development")  # not "GenAI"
    except Exception as error:
        warn(f"MLflow store {shown(uri)} failed; its runs are not up to date ({type(error).__name__}: {error})")
        return False
    return True
