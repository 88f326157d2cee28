"""Differences of a table's rows seed by seed, against scipy's paired test."""

import math
import shutil

import numpy as np
import pytest
from project import ROOT
from scipy import stats
from test_tables import record

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.seed_differences import seed_differences, write_differences
from artune.results.tables import write_csv
from artune.runtime.files import write_json

REGISTRY = Registry("mnist")
RUNS = ("llamagen_l-argrpo", "llamagen_l-ours", "llamagen_l-argrpo-maniqa", "llamagen_l-ours-maniqa")


def scores(seeds=3, **changed):
    """Scores of Table 4: what a seed does to both rows of a block is larger than what tells them apart."""
    draw = np.random.default_rng(0)
    shared = draw.normal(size=seeds)
    return {
        run: [record(run, seed, fid=5 + shared[seed] + 0.1 * draw.normal() - at, **changed) for seed in range(seeds)]
        for at, run in enumerate(RUNS)
    }


@pytest.mark.parametrize("seeds", [2, 5])
def test_a_line_is_the_paired_test_of_a_row_against_the_first_of_its_block(seeds):
    given = scores(seeds)
    frame = seed_differences(REGISTRY, "table4", given)
    fid = frame[frame["metric"] == "fid"].set_index(["first", "second"])
    assert list(fid.index) == [RUNS[:2], RUNS[2:]]
    for pair, line in fid.iterrows():
        first, second = ([one["scores"]["fid"] for one in given[run]] for run in pair)
        apart = np.subtract(second, first)
        test = stats.ttest_rel(second, first)
        np.testing.assert_allclose([line[f"difference_s{seed}"] for seed in range(seeds)], apart)
        assert line["mean"] == pytest.approx(apart.mean())
        assert line["se"] == pytest.approx(stats.sem(apart))
        assert line["half_width"] == pytest.approx(stats.t.ppf(0.975, seeds - 1) * stats.sem(apart))
        assert (line["t"], line["p"]) == (pytest.approx(test.statistic), pytest.approx(test.pvalue))
        assert (line["seeds"], line["scale"]) == (seeds, "mnist")


def test_every_column_that_has_values_for_every_seed_has_a_line():
    given = scores()
    del given["llamagen_l-ours"][1]["scores"]["kid"]
    frame = seed_differences(REGISTRY, "table4", given)
    table = REGISTRY.tables["table4"]
    assert list(frame["metric"][frame["first"] == RUNS[2]]) == [*table.columns, *table.extra]
    assert set(table.extra) - set(frame["metric"][frame["first"] == RUNS[0]]) == {"kid"}


def test_equal_differences_have_no_t(tmp_path):
    frame = seed_differences(REGISTRY, "table4", scores())
    line = frame[frame["metric"] == "recall"].iloc[0]
    assert (line["mean"], line["se"], line["p"]) == (0.0, 0.0, 1.0)
    assert math.isnan(line["t"])
    write_differences(frame, REGISTRY, "table4", tmp_path / "t.md")
    assert (
        "| Recall ↑ | +0.000 | +0.000 | +0.000 | +0.000 ± 0.000 | ± 0.000 | – | 1 |" in (tmp_path / "t.md").read_text()
    )


def test_the_readable_form_names_the_rows_and_says_what_the_columns_are(tmp_path):
    frame = seed_differences(REGISTRY, "table4", scores())
    write_differences(frame, REGISTRY, "table4", tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert "**Table 4, seed by seed." in text
    assert "not comparable with the paper's numbers" in text
    assert "over 3 seeds" in text
    assert "2 degrees of freedom" in text
    assert "\nOurs (CLIPScore + HPSv2), less AR-GRPO (CLIPScore + HPSv2):\n" in text
    assert "| Score | seed 0 | seed 1 | seed 2 | mean | 95% | t | p |" in text
    assert text.count("| FID ↓ |") == 2


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("extra_real", lambda given: given, "extra_real: has no two rows of scores to compare at the mnist scale"),
        ("table3", lambda given: given, "table3: has no two rows of scores"),
        ("table4", lambda given: {run: found[:1] for run, found in given.items()},
         r"llamagen_l-argrpo with seeds \[0\], llamagen_l-ours with seeds \[0\]; give both the same two seeds or more"),
        ("table4", lambda given: given | {RUNS[1]: given[RUNS[1]][:2]}, r"llamagen_l-ours with seeds \[0, 1\]"),
        ("table4", lambda given: given | {RUNS[1]: given[RUNS[0]]}, "scores of llamagen_l-argrpo"),
        ("table4", lambda given: given | {RUNS[1]: [one | {"n": 7} for one in given[RUNS[1]]]}, "different settings"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_seed_by_seed_is_one_line(key, change, message):
    with pytest.raises(ArtuneError, match=message):
        seed_differences(REGISTRY, key, change(scores()))


def test_the_command_reads_the_runs_of_every_seed_and_writes_both_forms(tmp_path, capsys):
    for run, found in scores().items():
        for seed, one in enumerate(found):
            write_json(tmp_path / f"runs/{run}{f'-s{seed}' if seed else ''}/scores.json", one)
    output = tmp_path / "table4.seeds.csv"
    words = [
        "seed_differences",
        "table4",
        "--runs",
        str(tmp_path / "runs"),
        "--scale",
        "mnist",
        "--output",
        str(output),
    ]
    assert main([*words, "--seeds", "3"]) == 0
    write_csv(seed_differences(REGISTRY, "table4", scores()), tmp_path / "same.csv")
    assert output.read_bytes() == (tmp_path / "same.csv").read_bytes()
    assert (tmp_path / "table4.seeds.md").exists()
    assert main([*words, "--seeds", "1"]) == 2
    assert "give both the same two seeds or more" in capsys.readouterr().err.splitlines()[-1]


def test_a_pair_that_the_scale_repeats_no_further_is_left_out(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/scales/mnist.yaml"
    limits = "  seeds: {llamagen_l-ours-maniqa: 1, llamagen_l-ours: 2}\n"
    path.write_text(path.read_text().replace("about:\n", f"about:\n{limits}", 1))
    limited, given = Registry("mnist", root=tmp_path / "config"), scores()
    assert limited.seed_names("llamagen_l-ours", 3) == ["llamagen_l-ours", "llamagen_l-ours-s1"]
    assert limited.seed_names("llamagen_l-ours-t1", 3) == ["llamagen_l-ours-t1", "llamagen_l-ours-t1-s1"]
    assert len(limited.seed_names("llamagen_l-argrpo", 3)) == 3
    given = {run: found[: len(limited.seed_names(run, 3))] for run, found in given.items()}
    frame = seed_differences(limited, "table4", given)
    assert set(frame["second"]) == {"llamagen_l-ours"}
    assert set(frame["seeds"]) == {2}
