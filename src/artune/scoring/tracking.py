"""The scores as a run in an MLflow store."""

from pathlib import Path

from artune.runtime.progress import warn
from artune.scoring.request import Scored
from artune.tracking.addresses import shown
from artune.tracking.mlflow_run import MlflowRun, Point, RunView
from artune.tracking.mlflow_store import init_store
from artune.tracking.sqlite_store import alone


def log_scores(scored: Scored, output: Path, uri: str, experiment: str) -> bool:
    """Log scores, errors and differences as metrics ``eval/...``, the settings as parameters, and both files.

    The run has the name of the samples; one that holds other numbers is replaced.

    Args:
        scored: the scores.
        output: the JSON, beside which the CSV lies.
        uri: tracking URI.
        experiment: name of the experiment.

    Returns:
        False, after one warning, if the store cannot be used.
    """
    if not init_store(uri, [experiment]):
        return False
    points: list[Point] = [(f"eval/{name}", value, 0) for name, value in scored.scores.items()]
    for name, line in scored.differences.items():
        points += [(f"against/{name}/{key}", value, 0) for key, value in line.items()]
    facts = scored.facts
    tags = {"method": "scored", "protocol": facts["protocol"], "mlflow.note.content": "\n\n".join(scored.notes)}
    name = Path(facts["files"]["samples"]["file"]).name.replace("'", "_")
    try:
        with alone(uri):
            view = RunView(MlflowRun(uri, experiment, name, facts, {key: str(tags[key])[:5000] for key in tags}))
            if view.outdated(points):
                view.replace()
            view.add(points)
            view.attach([output, output.with_suffix(".csv")])
            view.finish()
    except Exception as error:
        warn(f"MLflow store {shown(uri)} failed; the scores are not logged ({type(error).__name__}: {error})")
        return False
    return True
