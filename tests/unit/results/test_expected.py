import csv
import json
import math
from pathlib import Path

import pytest
from project import ROOT
from scipy.stats import t

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.expected import (
    Seen,
    compare_with_seen,
    expected_range,
    numbers_of,
    range_of,
    read_seen,
    write_seen,
)

TABLE = Registry("mnist").tables["table4"]
RUN = "llamagen_l-ours"


def seen(value: float, name: str = RUN, metric: str = "fid", machine: str = "one") -> Seen:
    return Seen(RUN, name, metric, value, machine, "1234567")


def row(**cells: str) -> dict[str, str]:
    return {"run": RUN, **cells}


def test_the_range_is_students_prediction_interval():
    values = [1.0, 1.2, 0.9, 1.1]
    found = expected_range(values, machines=2)
    assert found is not None
    mean, spread = 1.05, math.sqrt(sum((value - 1.05) ** 2 for value in values) / 3)
    half = t.ppf(0.975, 3) * spread * math.sqrt(1.25)
    assert (found.low, found.high) == (pytest.approx(mean - half), pytest.approx(mean + half))
    assert (found.trainings, found.machines) == (4, 2)


def test_two_trainings_give_no_range():
    assert expected_range([1.0, 2.0]) is None
    assert range_of([seen(1.0), seen(2.0, f"{RUN}-s1"), seen(3.0, f"{RUN}-s2", "recall")], RUN, "fid") is None


def test_written_numbers_are_read_again_and_the_later_one_counts(tmp_path: Path):
    path = tmp_path / "expected.csv"
    assert read_seen(path) == []
    assert write_seen(path, [seen(1.0), seen(1.5), seen(1.0, machine="two")]) == 2
    assert read_seen(path) == [seen(1.5), seen(1.0, machine="two")]
    assert write_seen(path, [*read_seen(path), seen(2.0, f"{RUN}-s1")]) == 3


def test_a_damaged_file_is_named(tmp_path: Path):
    path = tmp_path / "expected.csv"
    path.write_text("run,value\na,b\n")
    with pytest.raises(ArtuneError, match=r"expected.csv: not an expected.csv"):
        read_seen(path)


def test_the_numbers_of_a_run_are_its_scores(tmp_path: Path):
    scores = {"base": RUN, "run": f"{RUN}-s2", "versions": {"commit": "abcdef0123"}, "scores": {"fid": 1.23456789}}
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    (found,) = numbers_of(tmp_path, ["fid", "recall"], "a laptop")
    assert found == Seen(RUN, f"{RUN}-s2", "fid", 1.23457, "a laptop", "abcdef0")


def test_a_number_inside_the_range_is_within():
    known = [seen(value, f"{RUN}-s{seed}") for seed, value in enumerate((1.0, 1.2, 0.9, 1.1))]
    told = compare_with_seen(TABLE, [row(fid="1.3")], known)
    assert told.splitlines()[:-1] == [
        "Expected of one training (95 %) in brackets:",
        "                 FID ↓",
        "llamagen_l-ours  1.30 (0.59 to 1.51)",
    ]
    assert told.splitlines()[-1] == (
        "within: 1 of 1 numbers lie in the range of 4 or more trainings with other seeds on 1 machine"
    )


def test_numbers_outside_the_range_are_named_with_what_to_look_at():
    known = [
        seen(value, f"{RUN}-s{seed}", metric)
        for metric in ("fid", "recall")
        for seed, value in enumerate((0.80, 0.82, 0.78))
    ]
    told = compare_with_seen(TABLE, [row(fid="3.0", recall="0.1")], known, "results/mnist").splitlines()[-1]
    assert told.startswith("outside: 2 of 2 numbers lie outside the range of 3 or more trainings")
    assert "FID 3.00 (" in told
    assert "Recall 0.100 (" in told
    assert "PSNR" in told
    assert "results/mnist/pretrained/*/*.log" in told


def test_a_table_that_nobody_recorded_has_no_range():
    assert "no range is known" in compare_with_seen(TABLE, [row(fid="1.0")], [seen(1.0)])


def test_the_file_holds_one_line_per_number(tmp_path: Path):
    path = tmp_path / "expected.csv"
    write_seen(path, [seen(0.123456789, f"{RUN}-s1"), seen(1.0)])
    lines = list(csv.DictReader(path.read_text().splitlines()))
    assert [(line["name"], line["value"]) for line in lines] == [(RUN, "1"), (f"{RUN}-s1", "0.123457")]


def test_a_training_that_two_machines_repeat_to_the_bit_counts_once():
    twice = [seen(1.0), seen(1.0, machine="two"), seen(2.0, f"{RUN}-s1")]
    assert range_of(twice, RUN, "fid") is None
    found = range_of([*twice, seen(3.0, f"{RUN}-s2")], RUN, "fid")
    assert found is not None
    assert (found.trainings, found.machines) == (3, 2)


def test_the_mean_of_trainings_counts_as_the_trainings_behind_it(tmp_path: Path):
    values, further = [1.0, 1.2, 0.8], 1.5
    mean = Seen(RUN, f"{RUN}, seeds 0 to 2", "fid", 1.0, "one", "1234567", 3, 0.2, "README.md")
    path = tmp_path / "expected.csv"
    write_seen(path, [mean, seen(further, machine="two")])
    assert sorted(read_seen(path), key=lambda number: number.value) == [mean, seen(further, machine="two")]
    found = range_of(read_seen(path), RUN, "fid")
    single = expected_range([*values, further], machines=2)
    assert found is not None
    assert single is not None
    assert (found.low, found.high) == (pytest.approx(single.low), pytest.approx(single.high))
    assert (found.trainings, found.machines) == (4, 2)


def test_a_range_of_what_cannot_be_negative_starts_at_0():
    known = [seen(value, f"{RUN}-s{seed}", metric) for metric in ("fid", "kid")
             for seed, value in enumerate((0.1, 0.9, 0.2))]  # fmt: skip
    told = compare_with_seen(TABLE.model_copy(update={"columns": ("fid", "kid")}), [row(fid="0.3", kid="0.1")], known)
    assert "0.30 (0.00 to" in told
    assert "0.1000 (-" in told


def test_a_file_from_before_means_is_read(tmp_path: Path):
    (tmp_path / "e.csv").write_text(f"run,name,metric,value,machine,commit\n{RUN},{RUN},fid,1,one,1234567\n")
    assert read_seen(tmp_path / "e.csv") == [seen(1.0)]


def test_the_committed_numbers_of_mnist_tell_the_range_of_its_table_4():
    known = read_seen(ROOT / "docs/results-mnist/expected.csv")
    rows = list(csv.DictReader((ROOT / "docs/results-mnist/table4.csv").read_text().splitlines()))
    told = compare_with_seen(TABLE, rows, known).splitlines()
    assert told[-1].startswith("within: ")
    assert [line.split()[0] for line in told[2:-1]] == [str(row.run) for row in TABLE.rows]


def test_a_scale_without_such_a_file_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").symlink_to(ROOT / "config")
    (tmp_path / "results/smoke/tables").mkdir(parents=True)
    (tmp_path / "results/smoke/tables/table4.csv").write_text("run,fid\nllamagen_l-ours,1\n")
    assert main(["expected", "table4", "--scale", "smoke"]) == 0
    said = capsys.readouterr()
    assert "no range is known for the scale smoke: there is no docs/results-smoke/expected.csv" in said.out + said.err


def test_means_over_seeds_have_no_range_of_one_training():
    known = [seen(value, f"{RUN}-s{seed}") for seed, value in enumerate((1.0, 1.2, 0.9))]
    assert "this table has the means of 5" in compare_with_seen(TABLE, [row(fid="1.3", seeds="5")], known)


def test_a_table_of_votes_has_no_range(capsys):
    assert main(["expected", "table3", "--scale", "mnist"]) == 2
    assert "table3 holds votes, not scores" in capsys.readouterr().err


def test_one_number_far_outside_is_no_chance(tmp_path: Path):
    """Twenty numbers as they were and one absurd: not within, however few lie outside."""
    names = [name for name in (*TABLE.columns, *TABLE.extra) if name != "fid"]
    known = [seen(1.0 + 0.1 * seed, f"{RUN}-s{seed}", name) for seed in range(4) for name in (*names, "fid")]
    usual = dict.fromkeys(names, "1.1")
    assert compare_with_seen(TABLE, [row(fid="1.6", **usual)], known).splitlines()[-1].startswith("within: ")
    told = compare_with_seen(TABLE, [row(fid="40", **usual)], known).splitlines()[-1]
    assert told.startswith("outside: 1 of ")
    assert "Too far for chance: FID" in told
