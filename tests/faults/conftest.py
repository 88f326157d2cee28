"""Fixtures of the fault tests. Each test inflicts one fault on a real run and fills in a row of docs/reliability.md."""

import json
import re
import shutil
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from project import RUN, copy_project
from trainings import LONG, SAVED, Training

ROWS = pytest.StashKey[list]()


@dataclass
class Row:
    """A row of docs/reliability.md; a test fills it in."""

    fault: str
    done: str = ""  # what was done to the run, as a command where possible
    happened: str = ""
    lost: str = ""
    section: str = ""  # name of the test's module
    place: int = 0  # line of the test in its module


def pytest_addoption(parser):
    parser.addoption("--faults-json", help="add the rows of the faults that passed to this file")


def pytest_configure(config):
    config.stash[ROWS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "call" and report.passed and (row := getattr(item, "row", None)):
        assert all((row.done, row.happened, row.lost)), f"{item.name}: the row is not filled in"
        item.config.stash[ROWS].append(asdict(row))
    return report


def pytest_sessionfinish(session):
    path, rows = session.config.getoption("--faults-json"), session.config.stash[ROWS]
    if path and rows:
        kept = json.loads(Path(path).read_text()) if Path(path).exists() else []
        names = {row["fault"] for row in rows}
        Path(path).write_text(json.dumps([row for row in kept if row["fault"] not in names] + rows, indent=1))


@pytest.fixture
def fault(request):
    """The row of this test; its first cell is the test's docstring."""
    code = request.function.__code__
    request.node.row = Row(
        " ".join(request.function.__doc__.split()), section=request.module.__name__, place=code.co_firstlineno
    )
    return request.node.row


NOBODY = "http://127.0.0.1:9"  # nothing listens here: the quickest tracking server, and one more fault


@pytest.fixture(scope="session")
def undisturbed(smoke):
    """Weights and metrics of the training without a fault."""
    training = Training(smoke, "undisturbed", NOBODY)
    done = training.start().wait()
    assert done.status == 0, done.text
    result = training.result()
    training.clear()
    return result


@pytest.fixture
def training(smoke, undisturbed):
    """A training to be disturbed; apart from the fault it is the same as the undisturbed one."""
    disturbed = Training(smoke, "disturbed", NOBODY)
    yield disturbed
    disturbed.clear()


@pytest.fixture(scope="session")
def prepared(smoke, tmp_path_factory):
    """A project in which all of Table 4 is finished except one run, which takes long enough to be disturbed."""
    folder = copy_project(tmp_path_factory.mktemp("prepared"))
    # Without the records, by which Snakemake would notice that all four trainings have other settings below.
    ignored = shutil.ignore_patterns("records")
    shutil.copytree(smoke / "results", folder / "results", symlinks=True, ignore=ignored)
    shutil.rmtree(folder / RUN)
    overlay = folder / "config/scales/smoke.yaml"
    text = re.sub(r"^grpo: \{iterations: 3,(.*)save_every: 1\}", rf"grpo: {{iterations: {LONG},\1save_every: {SAVED}}}",
                  overlay.read_text(), flags=re.M)  # fmt: skip
    assert f"iterations: {LONG}" in text
    assert f"save_every: {SAVED}" in text
    overlay.write_text(text)
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a file system of the given size in kB and returns its folder."""
    mounted = []

    def mount(kilobytes):
        folder = tmp_path / f"disk-{kilobytes}"
        folder.mkdir()
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no small file system can be mounted here ({done.stderr.strip()})")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)
