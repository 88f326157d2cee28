"""One run in MLflow: found by its name or created, and never given the same point twice."""

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artune.config.yaml_layers import leaves
from artune.errors import without_secrets
from artune.runtime.progress import warn
from artune.tracking.addresses import shown, sqlite_file, with_plain_scheme
from artune.tracking.artifact_places import artifact_address, keep_artifacts_beside
from artune.tracking.run_facts import DataFile

if TYPE_CHECKING:
    from mlflow import MlflowClient

Point = tuple[str, float, int]  # metric, value, step
Picture = tuple[Path, int]  # file, step
MOST = 900  # metrics per request; MLflow accepts 1,000
GRIDS = "samples"  # name of the grids drawn while tuning


@dataclass(frozen=True)
class MlflowRun:
    """Name, settings and tags of a run: all that MLflow stores before the first numbers."""

    uri: str  # address of the store; a sqlite file must exist (``artune mlflow_store`` creates it)
    experiment: str  # name of the experiment: the scale, or scale and preset
    name: str
    params: Mapping[str, Any]  # the settings that people compare, nested or flat; MLflow gets dotted keys
    tags: Mapping[str, str]
    data: Sequence[DataFile] = ()  # what it was trained and is scored with
    folder: Path | None = None  # the run's folder, for config.yaml and the grids of a live page
    experiment_tags: Mapping[str, str] = field(default_factory=dict)  # description and saved views of the experiment


def connect_mlflow(uri: str) -> "MlflowClient":
    """A client without telemetry and log messages that does not wait long for a server that is down."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    # MLflow puts the place of its unused default experiment into SQL unquoted; the path of a clone may hold anything.
    os.environ.setdefault("_MLFLOW_SERVER_ARTIFACT_ROOT", "file:///mlruns")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")  # seconds
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.setLogRecordFactory(_record)
    uri = with_plain_scheme(uri)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _record(*arguments: Any, **further: Any) -> logging.LogRecord:
    """A log record of any library without the passwords of the addresses that it quotes."""
    record = logging.LogRecord(*arguments, **further)
    record.msg, record.args = without_secrets(record.getMessage()), ()
    return record


def experiment_id(
    client: "MlflowClient", uri: str, name: str, restore: bool = True, tags: Mapping[str, str] | None = None
) -> str:
    """Id of an experiment, created if it is missing; its artifacts get a folder of its name beside the database.

    Args:
        client: client of the store.
        uri: address of the store.
        name: name of the experiment.
        restore: whether to take it out of the trash if it was deleted on MLflow's pages. The store accepts neither runs
            in it nor another experiment of its name.
        tags: tags of an experiment that is created here.
    """
    database = sqlite_file(uri)
    folder = None if database is None else artifact_address(database, name)
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted" and restore:
        try:
            client.restore_experiment(found.experiment_id)
            warn(
                f"MLflow: the experiment {name} was in the trash of {shown(uri)}; it is restored, "
                "because a run belongs to it"
            )
        except Exception:  # another process has restored it meanwhile
            if client.get_experiment(found.experiment_id).lifecycle_stage == "deleted":
                raise
    known = str(found.experiment_id if found else _created(client, name, folder, tags))
    if database is not None:
        keep_artifacts_beside(database)  # also if the folder was moved since
    return known


def _created(client: "MlflowClient", name: str, folder: str | None, tags: Mapping[str, str] | None) -> str:
    """Id of a new experiment, or of the one that another process has created meanwhile: trainings start together."""
    try:
        return client.create_experiment(name, folder, dict(tags or {}))
    except Exception:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id


class RunView:
    """A run in the store, found by its name or created, to which each point is added once.

    Args:
        record: the run's name, settings and tags, and the store.
        fresh: whether to delete existing runs of this name and create a new one.
        times: start and end of a run that is created here, in milliseconds; None stands for the present time.

    Raises:
        Exception: whatever the store raises; callers turn it into a warning.
    """

    def __init__(self, record: MlflowRun, fresh: bool = False, times: tuple[int, int] | None = None):
        database = sqlite_file(record.uri)
        if database is not None and not database.exists():
            raise FileNotFoundError(f"{database}: no such file; `artune mlflow_store` makes it")
        self.client, self.name = connect_mlflow(record.uri), record.name
        self.experiment = experiment_id(self.client, record.uri, record.experiment, tags=record.experiment_tags)
        self.params = {key: str(value)[:6000] for key, value in leaves(dict(record.params)).items()}
        self.tags, self.data, self.times = {**record.tags}, record.data, times or (None, None)
        self.offset = time.time() - time.monotonic()  # a clock that is set meanwhile moves no point
        where = f"attributes.run_name = '{record.name}'"
        runs = self.client.search_runs([self.experiment], where, order_by=["attributes.start_time DESC"])
        for run in runs if fresh else runs[1:]:
            self.client.delete_run(run.info.run_id)  # MLflow keeps deleted runs until `mlflow gc`
        self._open(None if fresh or not runs else runs[0])

    def _open(self, run: Any) -> None:
        self.run = run or self.client.create_run(self.experiment, self.times[0], run_name=self.name)
        self.id: str = self.run.info.run_id
        self.known: dict[str, dict[int, float]] = {}
        self._describe()

    def _describe(self) -> None:
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in self.params.items() if key not in self.run.data.params]
        named = {key: value.replace(RUN_ID, self.id) for key, value in self.tags.items()}
        tags = [RunTag(key, value) for key, value in named.items() if self.run.data.tags.get(key) != value]
        for at in range(0, max(len(params), len(tags)), 100):
            self.client.log_batch(self.id, params=params[at : at + 100], tags=tags[at : at + 100])

    def steps(self, key: str) -> dict[int, float]:
        """Step -> value of a metric in the store."""
        if key not in self.known:
            history = self.client.get_metric_history(self.id, key) if key in self.run.data.metrics else []
            self.known[key] = {metric.step: metric.value for metric in history}
        return self.known[key]

    def outdated(self, points: Sequence[Point]) -> bool:
        """Whether the store has other parameters or data, or a value of a metric in ``points`` that differs."""
        if not self.run.data.params.items() <= self.params.items():
            return True
        if any(self._inputs().get(one.name, digest) != digest for one, digest in self._digests()):
            return True
        wanted: dict[str, dict[int, float]] = {}
        for key, value, step in points:
            wanted.setdefault(key, {})[step] = value
        return any(not self.steps(key).items() <= values.items() for key, values in wanted.items())

    def _digests(self) -> list[tuple[DataFile, str]]:
        """The data files that are there, with their digests."""
        return [(one, digest) for one in self.data if (digest := one.digest()) is not None]

    def _inputs(self) -> dict[str, str]:
        """Name -> digest of the data sets that the store has for the run."""
        found = self.run.inputs.dataset_inputs if self.run.inputs else []
        return {one.dataset.name: one.dataset.digest for one in found}

    def log_data(self) -> None:
        """Log name and digest of the data files that are there and that the store does not have yet."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        there = self._inputs()
        missing = [
            DatasetInput(
                Dataset(one.name, digest, "file", json.dumps({"file": one.path.as_posix()})),
                [InputTag("mlflow.data.context", one.use)],
            )
            for one, digest in self._digests()
            if one.name not in there
        ]
        if missing:
            self.client.log_inputs(self.id, missing)
            self.run = self.client.get_run(self.id)

    def describe_experiment(self, tags: Mapping[str, str]) -> None:
        """Set those of the experiment's tags that differ: its description and its saved views."""
        there = self.client.get_experiment(self.experiment).tags
        for key, value in tags.items():
            if there.get(key) != value:
                self.client.set_experiment_tag(self.experiment, key, value)

    def replace(self) -> None:
        """Delete the run and create an empty one."""
        self.client.delete_run(self.id)
        self._open(None)

    def add(self, points: Sequence[Point], moments: Mapping[int, int] | None = None) -> None:
        """Log the points whose step the store does not have.

        Args:
            points: the points.
            moments: step -> its time in milliseconds; the present time where it is not given.
        """
        from mlflow.entities import Metric

        now, at_step = self.now(), moments or {}
        missing = [(key, value, step) for key, value, step in points if step not in self.steps(key)]
        for at in range(0, len(missing), MOST):
            part = missing[at : at + MOST]
            metrics = [Metric(key, value, at_step.get(step, now), step) for key, value, step in part]
            self.client.log_batch(self.id, metrics=metrics)
            for key, value, step in part:
                self.known[key][step] = value

    def show(self, pictures: Sequence[Picture]) -> None:
        """Log the pictures whose step the store does not have; the run's page shows them one after the other."""
        if not pictures:
            return
        import numpy as np
        from PIL import Image

        names = " ".join(Path(file.path).name for file in self.client.list_artifacts(self.id, "images"))
        there = {int(step) for step in re.findall(rf"\b{GRIDS}\Wstep\W(\d+)\W", names)}  # log_image's file names
        for path, step in pictures:
            if step not in there:
                with Image.open(path) as image:
                    self.client.log_image(self.id, np.asarray(image.convert("RGB")), key=GRIDS, step=step)

    def attach(self, paths: Sequence[Path]) -> None:
        """Upload files, unless the store has the same bytes already; a store may have been moved without its files."""
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
        there = {file.path for file in self.client.list_artifacts(self.id)} if paths else set()
        if not there.issuperset(path.name for path in paths) or self.run.data.tags.get("artifacts") != digest:
            for path in paths:
                self.client.log_artifact(self.id, str(path))
            self.client.set_tag(self.id, "artifacts", digest)

    def reopen(self) -> None:
        """Mark a resumed run as running."""
        if self.run.info.status != "RUNNING":
            self.client.update_run(self.id, status="RUNNING")
            self.run = self.client.get_run(self.id)

    def finish(self, status: str = "FINISHED") -> None:
        """Set the run's status and end, unless it has that status."""
        if self.run.info.status != status:
            began = self.run.info.start_time or 0  # in the future if the clock was set back since
            self.client.set_terminated(self.id, status, self.times[1] or max(self.now(), began))

    def now(self) -> int:
        """The time in milliseconds: that of the clock when this view was opened, and what has passed since."""
        return int(1000 * (self.offset + time.monotonic()))


RUN_ID = "RUN_ID"  # placeholder in a description for the run's id, which the store assigns
