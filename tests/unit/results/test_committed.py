"""Verdicts from committed tables: the judges' are those of the runs' own files, and what no table holds is kept."""

import csv
import shutil
from pathlib import Path

import pytest
from measured import write_results, write_run
from project import ROOT

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.claims import SIDES, judge_claims, write_claims
from artune.results.committed import judge_tables, write_table_claims
from artune.results.study.table import build_study_table
from artune.results.tables import build_table, read_scores, write_csv

MNIST = Registry("mnist")


def committed(results: Path, folder: Path) -> Path:
    """A folder of tables and claims as docs/ keeps them, from a scale's results."""
    folder.mkdir()
    for key, table in MNIST.tables.items():
        if table.kind == "study":
            frame = build_study_table(MNIST, key, None)
        else:
            runs = {row.run for row in table.rows if not MNIST.unavailable(row.run)}
            frame = build_table(MNIST, key, {run: [read_scores(results / "runs" / run)] for run in runs})
        write_csv(frame, folder / f"{key}.csv")
    write_claims(MNIST, results, 1, folder / "claims.csv")
    return folder


def test_the_tables_give_the_same_verdicts_as_the_runs(tmp_path):
    results = write_results(MNIST, tmp_path / "results")
    write_run(MNIST, results, "llamagen_l-ours", fid=1.0, fid_reward=3.0, recall=0.9)
    folder = committed(results, tmp_path / "docs")
    ours = {one.id: one for one in judge_claims(MNIST, results)}
    found = {one.id: one for one in judge_tables(MNIST, folder)}
    assert any(one.parts for one in found.values())
    for side in SIDES:
        assert {key: one.verdict(side) for key, one in found.items()} == {
            key: one.verdict(side) for key, one in ours.items()
        }
        assert [one.record()[f"measured_{side}"] for one in found.values()] == [
            one.record()[f"measured_{side}"] for one in ours.values()
        ]
    before = (folder / "claims.csv").read_bytes()
    line = write_table_claims(MNIST, folder, folder / "claims.csv")
    assert "from the tables of" in line
    assert (folder / "claims.csv").read_bytes() == before


def test_the_committed_claims_of_mnist_are_those_of_its_committed_tables(tmp_path):
    folder = shutil.copytree(ROOT / "docs/results-mnist", tmp_path / "docs")
    lines = list(csv.DictReader((folder / "claims.csv").read_text(encoding="utf-8").splitlines()))
    found = [one.record() for one in judge_tables(MNIST, folder)]
    for name in ("id", "verdict_as_paper", "verdict_by_judges"):
        assert [line[name] for line in lines] == [record[name] for record in found]
    assert [line["parts"] == "yes" for line in lines] == [record["parts"] for record in found]


def test_several_seeds_and_a_missing_earlier_file_are_refused_by_one_line(tmp_path):
    folder = committed(write_results(MNIST, tmp_path / "results"), tmp_path / "docs")
    (folder / "claims.csv").rename(folder / "away.csv")
    with pytest.raises(ArtuneError, match=r"claims\.csv: no such file"):
        judge_tables(MNIST, folder)
    (folder / "away.csv").rename(folder / "claims.csv")
    lines = list(csv.DictReader((folder / "table4.csv").read_text().splitlines()))
    lines[0]["seeds"] = "3"
    with (folder / "table4.csv").open("w") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    with pytest.raises(ArtuneError, match=r"table4\.csv: llamagen_l-argrpo: several seeds"):
        judge_tables(MNIST, folder)
