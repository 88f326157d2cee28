"""The command ``doctor``: finds in seconds what would otherwise fail hours later. Imports torch only if it must."""

import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from artune.config.registry import Registry
from artune.data.assets import find_asset, wrong_file
from artune.data.reading.packed import packed_file
from artune.errors import ArtuneError, without_secrets
from artune.planning import environment, slurm
from artune.planning.calls.clone import problem_of_caches, problem_of_temporary_files, try_results
from artune.planning.memory.cards import check_cards
from artune.planning.needs import needed_assets

NETWORK_FILES = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "fuse")


@dataclass(frozen=True)
class Finding:
    """The result of a check; ``good`` is None if there was nothing to check."""

    check: str
    good: bool | None
    text: str

    def __str__(self) -> str:
        sign = {True: "ok", False: "WRONG", None: "-"}[self.good]
        return f"{sign:5} {self.check:10} {without_secrets(self.text)}"


def packages(requirements: Path | None = None) -> Finding:
    """Compare the installed packages with the pinned ones: :func:`artune.planning.environment.packages`."""
    return Finding("packages", *environment.packages(requirements))


def driver() -> Finding:
    """Compare the GPU's driver with torch's CUDA: :func:`artune.planning.environment.driver`."""
    return Finding("GPU", *environment.driver())


def disk(scale: str, needed: int, folder: Path = Path("results")) -> Finding:
    """Check ``folder`` for ``needed`` GB of space, and that a run's lease and files can be written there."""
    where = folder.resolve() if folder.exists() else folder.resolve().parent
    free = shutil.disk_usage(where).free / 1e9
    if free < needed:
        return Finding(
            "disk", False, f"{free:.0f} GB free under {where}, {scale} needs {needed}; free some or link results/"
        )
    try:
        try_results(where)
    except ArtuneError as error:
        return Finding("disk", False, f"{error}; results need a folder to write to")
    return Finding("disk", True, f"{free:.0f} GB free under {where}")


def scratch() -> Finding:
    """Check the folders of caches and of temporary files, which Snakemake and the libraries write to."""
    problems = [problem for problem in (problem_of_caches(), problem_of_temporary_files()) if problem]
    return Finding("scratch", not problems, " and ".join(problems) or "caches and temporary files can be written")


def check_assets(registry: Registry, folder: Path, datasets: Path | None = None) -> Finding:
    """Check for the external files that the scale needs."""
    keys = needed_assets(registry)
    found = {key: find_asset(registry, key, folder) for key in keys}
    files = {key: path for key, path in found.items() if path is not None and path.is_file()}  # not a million images
    wrong = {key: what for key, path in files.items() if (what := wrong_file(registry, key, path))}
    if wrong:
        listed = "; ".join(f"{files[key]} is {what}" for key, what in wrong.items())
        return Finding("assets", False, f"{len(wrong)} of {len(keys)} wrong: {listed}; put the right files there")
    absent = [key for key, path in found.items() if path is None]
    packed = {key: place for key in absent if (place := packed_file(registry.assets[key], folder, datasets))}
    missing = [key for key in absent if key not in packed]
    if not missing:
        there = f"; {len(packed)} will be unpacked, e.g. {next(iter(packed.values()))}" if packed else ""
        return Finding("assets", True, f"{len(keys)} in {folder}{there}" if keys else f"{registry.scale} needs none")
    hint = f"`python -m artune assets --scale {registry.scale} --fetch` fetches what may be fetched"
    if folder.exists() and not os.access(folder, os.W_OK):
        hint = "this folder cannot be written: have them put there, or set assets in config/config.yaml to another"
    return Finding("assets", False, f"{len(missing)} of {len(keys)} missing in {folder}: {', '.join(missing)}; {hint}")


def tracking(uri: str, experiment: str | None = None) -> Finding:
    """Check that the tracking store can be written and ``experiment`` is not in its trash; leave it as it is."""
    from artune.tracking.addresses import shown, sqlite_file, with_plain_scheme

    uri = with_plain_scheme(uri)
    try:
        database = sqlite_file(uri)
    except ValueError as error:
        return Finding("tracking", False, str(error))
    if database is None:
        if uri.startswith(("http://", "https://")):
            return _server(uri, experiment)
        return Finding("tracking", None, f"{shown(uri)}: not checked")
    kind = slurm.run_tool("stat", "-f", "-c", "%T", str(_existing(database))) or ""
    if kind.startswith(NETWORK_FILES):
        return Finding(
            "tracking",
            False,
            f"{database} is on {kind}, where SQLite's locks fail; start `mlflow server`, set MLFLOW_TRACKING_URI",
        )
    if not database.exists():
        good = os.access(_existing(database), os.W_OK)
        return Finding(
            "tracking", good, f"{database} {'will be created' if good else 'cannot be created: no permission to write'}"
        )
    try:
        with sqlite3.connect(f"{database.absolute().as_uri()}?mode=rw", uri=True, timeout=3, isolation_level=None) as s:
            s.execute("BEGIN IMMEDIATE")
            s.execute("ROLLBACK")
            made = s.execute("SELECT 1 FROM sqlite_master WHERE name = 'experiments'").fetchone()
            where = "SELECT lifecycle_stage FROM experiments WHERE name = ?"
            stage = s.execute(where, (experiment,)).fetchone() if made else None
    except sqlite3.Error as error:
        return Finding("tracking", False, f"{database}: {error}; move it away, `snakemake -c2 mlflow` rebuilds it")
    trash = _trash(experiment) if stage == ("deleted",) else ""
    return Finding("tracking", True, f"{database} can be written{trash}")


def _trash(experiment: str | None) -> str:
    return f"; the experiment {experiment} is in its trash, and the next run of it restores it"


def _existing(path: Path) -> Path:
    """The nearest folder above ``path`` that exists."""
    return next(parent for parent in path.resolve().parents if parent.exists())


def _server(uri: str, experiment: str | None) -> Finding:
    import requests

    from artune.tracking.addresses import shown

    address = uri.rstrip("/")
    try:
        answer = requests.get(f"{address}/health", timeout=3)
        about, where = {"experiment_name": experiment}, f"{address}/api/2.0/mlflow/experiments/get-by-name"
        found = requests.get(where, params=about, auth=_credentials(), timeout=3).text if experiment else ""
    except (requests.RequestException, ValueError) as error:
        text = (
            f"{shown(uri)} does not answer ({type(error).__name__}); start `mlflow server` or unset MLFLOW_TRACKING_URI"
        )
        return Finding("tracking", False, text)
    trash = _trash(experiment) if re.search(r'"lifecycle_stage":\s*"deleted"', found) else ""
    return Finding("tracking", answer.ok, f"{shown(uri)} answers {answer.status_code}{trash}")


def _credentials() -> tuple[str, str] | None:
    """User and password of the tracking server, as MLflow takes them from the environment."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    return (user, password) if user and password else None


def lock(folder: Path = Path(".snakemake/locks")) -> Finding:
    """Check for the lock of a Snakemake that runs or was killed."""
    if folder.exists() and any(folder.iterdir()):
        text = "Snakemake runs in this folder, or was killed; then the same command continues, or asks for --unlock"
        return Finding("lock", False, text)
    return Finding("lock", True, "no Snakemake holds this folder")


def cluster(folder: Path) -> Iterator[Finding]:
    """Check SLURM, and whether the profile in ``folder`` fits the cluster."""
    profile = slurm.read_profile(folder)
    version = slurm.run_tool("sinfo", "--version")
    if version is None:
        here = "sinfo fails here: see `sinfo --version`" if shutil.which("sinfo") else "no sinfo here"
        yield Finding("SLURM", False, f"{here}, but {folder} submits jobs; log in to the cluster")
        return
    number = re.search(r"(\d+)\.(\d+)", version)
    old = number is not None and (int(number[1]), int(number[2])) < (20, 11)
    yield Finding(
        "SLURM", not old, f"{version}{': older than 20.11, --gres in srun differs; ask for a newer one' if old else ''}"
    )
    defaults = profile.get("default-resources") or {}
    partition, account = str(defaults.get("slurm_partition")), str(defaults.get("slurm_account"))
    here = f"{folder / 'config.yaml'}, default-resources"
    if slurm.run_tool("sinfo", "-h", "-o", "%P") is None:
        yield Finding("partition", False, "the SLURM controller does not answer; try again, or ask its administrators")
        return
    problems = slurm.misfits(profile, partition)
    known = ", ".join(sorted({name.rstrip("*") for name in (slurm.run_tool("sinfo", "-h", "-o", "%R") or "").split()}))
    text = (
        f"{'; '.join(problems)}; change {here} (partitions: {known})"
        if problems
        else f"{partition} has what it asks for"
    )
    yield Finding("partition", not problems, text)
    yield Finding("ended jobs", *slurm.memory(profile))
    mine = slurm.accounts()
    if not mine:
        yield Finding("account", None, f"{account}: not checked, because this cluster keeps no accounts")
    else:
        good = account in mine
        yield Finding(
            "account", good, account if good else f"{account} is not yours ({', '.join(mine)}); change {here}"
        )


def examine(
    registry: Registry, folder: Path, uri: str, profile: Path | None, datasets: Path | None = None
) -> list[Finding]:
    """Run every check, in the order in which a user would meet the problems.

    Args:
        registry: registry of the scale to be run.
        folder: folder of the assets.
        uri: address of the tracking store.
        profile: folder of the SLURM profile to check; None: not a cluster.
        datasets: folder in which packages put data sets.
    """
    checks: list[Callable[[], Finding]] = [
        packages,
        driver,
        lambda: Finding("memory", *check_cards(registry)),
        lambda: disk(registry.scale, registry.about.room),
        scratch,
        lambda: check_assets(registry, folder, datasets),
        lambda: tracking(uri, registry.results_name),
        lock,
    ]
    return [check() for check in checks] + list(cluster(profile) if profile else ())


def conclude(findings: list[Finding]) -> str:
    """The last line of the command. Raises ArtuneError: a check failed."""
    wrong = [finding.check for finding in findings if finding.good is False]
    if wrong:
        raise ArtuneError(f"{len(wrong)} of {len(findings)} checks failed: {', '.join(wrong)}; see the lines above")
    return f"{len(findings)} checks, nothing wrong"
