"""Settings, presets and code change while Snakemake runs, or between two calls of it."""

import json
import os
import shutil
import subprocess
import sys
import time

import pytest
from project import RUN, SMOKE, digest, environment, planned, snakemake

pytestmark = pytest.mark.faults
TABLE = "results/smoke/tables/table4.csv"
ROWS = ("llamagen_l-argrpo", "llamagen_l-ours", "llamagen_l-argrpo-maniqa", "llamagen_l-ours-maniqa")


@pytest.fixture
def project(smoke, tmp_path):
    """A copy of the finished project without scores and tables: four runs to evaluate."""
    folder = shutil.copytree(smoke, tmp_path / "project", symlinks=True)
    for run in ROWS:
        (folder / f"results/smoke/runs/{run}/scores.json").unlink()
    for path in [*(folder / "results/smoke/tables").glob("table4.*"), folder / "results/smoke/tracking/table4.json"]:
        path.unlink()
    return folder


def started(project, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "snakemake", "--cores", "1", *arguments],
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def scores(project):
    """The scores that exist by now, by run."""
    files = {run: project / f"results/smoke/runs/{run}/scores.json" for run in ROWS}
    return {run: json.loads(path.read_text()) for run, path in files.items() if path.exists()}


def wait_for_a_score(project, process):
    end = time.monotonic() + 300
    while not scores(project):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return text


def test_edited_and_edited_back(project, smoke, fault):
    """The settings of the evaluation are edited while four runs are scored, and edited back afterwards"""
    process = started(project, *SMOKE, TABLE)
    wait_for_a_score(project, process)
    path = project / "config/scales/smoke.yaml"
    kept = edit(path, "inception_split: 32", "inception_split: 16")
    text, _ = process.communicate()
    assert process.returncode == 0, text
    path.write_text(kept)
    found = [record["evaluation"]["inception_split"] for record in scores(project).values()]
    assert found == [32, 32, 32, 32]
    assert "Nothing to be done" in snakemake(project, "-n", *SMOKE, TABLE)
    assert digest(project / TABLE) == digest(smoke / TABLE)
    fault.done = "`inception_split` set from 32 to 16 in config/ once the first of four scores was there; 32 afterwards"
    fault.happened = "all four jobs used 32, the value when Snakemake planned them; afterwards nothing was to be done"
    fault.lost = "nothing: Table 4 is that of the undisturbed call, byte for byte"


def test_edited_and_left(project, fault):
    """The settings of the evaluation are edited while four runs are scored, and stay so"""
    process = started(project, *SMOKE, TABLE)
    wait_for_a_score(project, process)
    edit(project / "config/scales/smoke.yaml", "inception_split: 32", "inception_split: 16")
    text, _ = process.communicate()
    assert process.returncode == 0, text
    assert {record["evaluation"]["inception_split"] for record in scores(project).values()} == {32}
    counts = planned(snakemake(project, "-n", "--quiet", "rules", *SMOKE, TABLE))
    assert counts["evaluate"] == 4
    assert "train" not in counts
    fault.done = "`inception_split` set from 32 to 16 in config/ once the first of four scores was there"
    fault.happened = "the call ended with four scores by 32; the next call scored all four again, by 16"
    fault.lost = "nothing: every table holds rows of one protocol"


def test_mixture(project, fault):
    """A scores file that was made by other settings is put among those of a table"""
    snakemake(project, *SMOKE, TABLE)
    path = project / RUN / "scores.json"
    record = json.loads(path.read_text())
    record["evaluation"]["neighbours"] = 5
    path.write_text(json.dumps(record))
    text = snakemake(project, *SMOKE, TABLE, check=False)
    line = next(line for line in text.splitlines() if "scored by different settings" in line)
    assert "neighbours: 3 for llamagen_l-argrpo" in line
    assert "5 for llamagen_l-ours" in line
    assert "delete scores.json of llamagen_l-ours and give the same command again" in line
    path.unlink()
    snakemake(project, *SMOKE, TABLE)
    fault.done = "`neighbours` altered in the scores.json of one run; then the table was asked for"
    fault.happened = "one line named the setting, the rows and the file to delete; without the file, the same command scored the run again"
    fault.lost = "nothing: the table was made only of rows of one protocol"


def test_code(project, fault):
    """Other code is checked out while four runs are scored"""
    process = started(project, *SMOKE, TABLE)
    wait_for_a_score(project, process)
    path = project / "src/artune/metrics/kid.py"
    path.write_text(path.read_text() + "\n# another version\n")
    text, _ = process.communicate()
    assert process.returncode == 0, text
    versions = {record["versions"]["code"] for record in scores(project).values()}
    assert len(versions) == 2
    caption = (project / TABLE).with_suffix(".md").read_text()
    assert "made by different versions of the code" in caption
    assert all(version[:7] in caption for version in versions)
    fault.done = "a source file was altered once the first of four scores was there, as `git checkout` does"
    fault.happened = (
        "the line under the table says that its rows were made by different versions of the code, and which by which"
    )
    fault.lost = "nothing: the reader of the table is told"


def test_presets(project, smoke, fault):
    """The table is made under the preset release beside the preset paper"""
    kept = {run: digest(smoke / f"results/smoke/runs/{run}/policy.safetensors") for run in ROWS}
    target = "results/smoke-release/runs/llamagen_l-ours/scores.json"
    text = snakemake(project, "--config", "scale=smoke", "preset=release", "--", target)
    assert json.loads((project / target).read_text())["preset"] == "release"
    assert "rule tokenizer" not in text
    assert "rule pretrained_policy" not in text
    assert {run: digest(project / f"results/smoke/runs/{run}/policy.safetensors") for run in ROWS} == kept
    assert "train" not in planned(snakemake(project, "-n", "--quiet", "rules", *SMOKE, TABLE))
    fault.done = "`--config preset=release` after Table 4 was finished under `paper`"
    fault.happened = (
        "its runs went to results/smoke-release; images, tokenizer and prior were shared, not trained again"
    )
    fault.lost = "nothing: the policies of the preset paper are the same bytes"


@pytest.mark.parametrize(
    "setting", ["tracking_uri=sqlite:///results/other.db", "assets=elsewhere"], ids=["tracking_uri", "assets"]
)
def test_overrides(project, setting, fault):
    """`--config` overrides a line of config.yaml that jobs read: an address, a folder"""
    name, value = setting.split("=")
    snakemake(project, "--config", "scale=smoke", setting, "--", "results/smoke/tracking/table4.json")
    folders = sorted((project / "results/.settings").iterdir(), key=os.path.getmtime)
    assert f"{name}: {value}\n" in (folders[-1] / "config.yaml").read_text()
    assert (project / "results/other.db").exists() == (name == "tracking_uri")
    fault.fault = f"`--config` overrides a line of config.yaml that jobs read: an address, a folder ({name})"
    fault.done = f"`--config {setting}` with four runs to score and to track"
    fault.happened = (
        "the runs were tracked in the other store"
        if name == "tracking_uri"
        else "the copy of the settings that the jobs read names the other folder"
    )
    fault.lost = "nothing"
