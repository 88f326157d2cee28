"""Differences of a table's rows to the baseline of their block: in the CSV, in the readable forms, from an older CSV."""

import math
import shutil

import pytest
from project import ROOT
from scipy import stats
from test_tables import record

from artune.commands.cli import main
from artune.config.paper import pairs_of
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.baselines import limit, read_paired
from artune.results.committed import read_table
from artune.results.table_text import write_latex, write_markdown
from artune.results.tables import build_table, write_csv

REGISTRY = Registry("mnist")
BASE, OURS = "llamagen_l-argrpo", "llamagen_l-ours"
PAIRED = {(BASE, OURS, "fid"): (-0.78, 0.05), (BASE, OURS, "recall"): (0.1, 0.06)}


def one_seed(key="table4", **changed):
    rows = REGISTRY.tables[key].rows
    return {row.run: [record(row.run, fid=1.83 - 0.78 * (row.run == OURS), **changed)] for row in rows}


def written(tmp_path, frame, key="table4", registry=REGISTRY):
    write_markdown(frame, registry, key, tmp_path / "t.md")
    write_latex(frame, registry, key, tmp_path / "t.tex")
    return tuple((tmp_path / f"t.{kind}").read_text(encoding="utf-8") for kind in ("md", "tex"))


def test_a_row_of_one_seed_has_the_paired_difference_that_is_given():
    frame = build_table(REGISTRY, "table4", one_seed(), PAIRED).set_index("run")
    row = frame.loc[OURS]
    assert (row["fid_vs_baseline"], row["fid_vs_baseline_se"]) == (-0.78, 0.05)
    assert (row["baseline"], row["baseline_seeds"]) == (BASE, 1)
    assert math.isnan(frame.loc[BASE, "fid_vs_baseline"])
    assert "precision_vs_baseline" not in frame  # no row has one
    at = list(frame).index("fid_vs_baseline")
    assert list(frame)[at - 1 : at + 2] == ["fid_difference_in_se", "fid_vs_baseline", "fid_vs_baseline_se"]


def test_without_a_paired_error_one_seed_has_no_difference(tmp_path):
    frame = build_table(REGISTRY, "table4", one_seed())
    assert not [name for name in frame if "baseline" in name]
    assert "Difference to" not in written(tmp_path, frame)[0]


def test_rows_of_several_seeds_are_compared_seed_by_seed_by_students_t(tmp_path):
    values = {BASE: [1.0, 1.4, 2.1], OURS: [0.8, 1.15, 1.95]}
    given = {run: [record(run, seed, fid=fid) for seed, fid in enumerate(found)] for run, found in values.items()}
    frame = build_table(REGISTRY, "table4", given, PAIRED)  # what is of one seed counts no more
    row = frame.set_index("run").loc[OURS]
    apart = [b - a for a, b in zip(*values.values(), strict=True)]
    assert row["fid_vs_baseline"] == pytest.approx(sum(apart) / 3, rel=1e-5)
    assert row["fid_vs_baseline_se"] == pytest.approx(stats.sem(apart), rel=1e-5)
    assert (row["baseline"], row["baseline_seeds"]) == (BASE, 3)
    text = written(tmp_path, frame)[0]
    assert (
        "mean over 3 seeds ± its standard error, seed by seed; bold: more than 4.3 errors (95 %, Student's t):" in text
    )
    assert "| **-0.20** ± 0.03 |" in text  # 6.9 errors
    assert limit(3) == pytest.approx(stats.t.ppf(0.975, 2))
    assert limit(1) == 2.0


def test_the_readable_forms_show_the_differences_with_those_in_bold_that_exceed_two_errors(tmp_path):
    text, latex = written(tmp_path, build_table(REGISTRY, "table4", one_seed(), PAIRED))
    told = "Difference to AR-GRPO (CLIPScore + HPSv2), ± paired standard error of the evaluation; bold: more than two errors:"
    assert told in text
    grid = text.split(told)[1].split("Beyond")[0].split()
    assert " ".join(grid) == (
        "| Model | FID ↓ | Recall ↑ | | --- | --- | --- | "
        "| Ours (CLIPScore + HPSv2) | **-0.78** ± 0.05 | +0.100 ± 0.060 |"
    )
    assert r"Ours (CLIPScore + HPSv2) & \textbf{-0.78} $\pm$ 0.05 & +0.100 $\pm$ 0.060 \\" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2


def test_every_row_names_what_it_is_compared_with_where_a_table_has_several_baselines(tmp_path):
    paired = {(*pair, "fid"): (0.01, 0.1) for pair in pairs_of(REGISTRY, "table5")}
    text = written(tmp_path, build_table(REGISTRY, "table5", one_seed("table5"), paired), "table5")[0]
    assert "Difference to the row under “compared with”, ±" in text
    assert "| Ours | – | LlamaGen-XL | +0.01 ± 0.10 |" in text
    assert "| Ours | ✓ | LlamaGen-XL, ✓ | +0.01 ± 0.10 |" in text


def test_a_table_may_name_its_baseline_and_numbers_are_told_with_their_heading(tmp_path):
    assert pairs_of(REGISTRY, "table9") == [(OURS, "llamagen_l-pca_diag"), (OURS, "llamagen_l-pca_full")]
    assert {first for first, _ in pairs_of(REGISTRY, "table10")} == {OURS}
    paired = {(*pair, "fid"): (0.01, 0.1) for pair in pairs_of(REGISTRY, "table10")}
    text = written(tmp_path, build_table(REGISTRY, "table10", one_seed("table10"), paired), "table10")[0]
    assert "Difference to KL weight β 3.0, ±" in text


def test_a_baseline_that_is_no_row_is_refused(tmp_path):
    shutil.copytree(ROOT / "config", tmp_path / "config")
    path = tmp_path / "config/tables.yaml"
    path.write_text(path.read_text().replace("  baseline: llamagen_l-ours ", "  baseline: llamagen_l-kl2 "))
    with pytest.raises(ArtuneError, match="table9: baseline: llamagen_l-kl2 is the run of no row"):
        Registry("mnist", root=tmp_path / "config")


def test_a_column_for_which_the_paper_has_no_value_has_no_column_of_the_papers(tmp_path):
    frame = build_table(REGISTRY, "extra_real", one_seed("extra_real"))
    assert not [name for name in frame if "paper" in name or "difference" in name]
    text, latex = written(tmp_path, frame, "extra_real")
    assert "paper |" not in text
    assert "| Images | FID ↓ | IS ↑ |" in text
    assert "& paper" not in latex
    transfer = build_table(REGISTRY, "extra_transfer", one_seed("extra_transfer"))
    assert "fid_paper" in transfer
    assert "fid_reward_paper" not in transfer


def test_the_readable_forms_are_the_same_from_the_csv(tmp_path, capsys):
    given = {run: [one | {"reference": "heldout"} for one in found] for run, found in one_seed().items()}
    frame = build_table(REGISTRY, "table4", given, PAIRED)
    made = written(tmp_path, frame)
    write_csv(frame, tmp_path / "table4.csv")
    assert main(["table", "table4", "--scale", "mnist", "--csv", str(tmp_path / "table4.csv")]) == 0
    assert tuple((tmp_path / f"table4.{kind}").read_text() for kind in ("md", "tex")) == made
    words = ["table", "table4", "--scale", "mnist"]
    assert main([*words, "--csv", "a.csv", "--output", str(tmp_path / "b.csv")]) == 2
    assert "leave out --runs and --output" in capsys.readouterr().err
    assert main(words) == 2
    assert "give --runs and --output, or --csv" in capsys.readouterr().err
    assert main(["table", "table3", "--scale", "mnist", "--csv", str(tmp_path / "table4.csv")]) == 2
    assert "table3: holds votes" in capsys.readouterr().err


def test_an_older_csv_of_one_seed_gets_errors_in_quadrature_and_says_so(tmp_path):
    write_csv(build_table(REGISTRY, "table4", one_seed()), tmp_path / "t.csv")
    frame = read_table(REGISTRY, "table4", tmp_path / "t.csv")
    row = frame.set_index("run").loc[OURS]
    assert row["fid_vs_baseline"] == pytest.approx(-0.78)
    assert row["fid_vs_baseline_se"] == pytest.approx(math.hypot(0.05, 0.05))
    assert row["recall_vs_baseline_se"] == pytest.approx(math.sqrt(2 * 0.7 * 0.3 / 2000))  # binomial
    assert "± errors of both rows in quadrature (paired ones need the samples" in written(tmp_path, frame)[0]


def test_an_older_csv_of_several_seeds_takes_the_differences_that_lie_beside_it(tmp_path):
    given = {run: [record(run, seed) for seed in range(3)] for run in (BASE, OURS)}
    frame = build_table(REGISTRY, "table4", given)
    old = frame[[name for name in frame if "baseline" not in name]]
    write_csv(old, tmp_path / "t.csv")
    assert "baseline" not in read_table(REGISTRY, "table4", tmp_path / "t.csv")
    (tmp_path / "t.seeds.csv").write_text(f"first,second,metric,mean,se,seeds\n{BASE},{OURS},fid,-0.5,0.1,3\n")
    found = read_table(REGISTRY, "table4", tmp_path / "t.csv")
    assert list(found.set_index("run").loc[OURS, ["fid_vs_baseline", "fid_vs_baseline_se"]]) == [-0.5, 0.1]
    assert "| **-0.50** ± 0.10 |" in written(tmp_path, found)[0]


def test_the_committed_tables_are_those_of_their_csv(tmp_path):
    for key in ("table4", "table9", "extra_cfg"):
        frame = read_table(REGISTRY, key, ROOT / f"docs/results-mnist/{key}.csv")
        for kind, text in zip(("md", "tex"), written(tmp_path, frame, key), strict=True):
            assert text == (ROOT / f"docs/results-mnist/{key}.{kind}").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "not the CSV of table4 as config/tables.yaml has it"),
        ("", "not the CSV of a table"),
        (None, "not the CSV of a table"),
    ],
)
def test_a_file_that_is_no_such_table_is_one_line(tmp_path, text, message):
    path = tmp_path / "t.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ArtuneError, match=message):
        read_table(REGISTRY, "table4", path)


def test_the_differences_of_one_seed_are_read_and_another_file_is_named(tmp_path):
    path = tmp_path / "t.compare.csv"
    path.write_text(f"first,second,metric,difference,se,seeds\n{BASE},{OURS},fid,-0.5,0.1,1\n{BASE},{OURS},kid,1,1,3\n")
    assert read_paired(path) == {(BASE, OURS, "fid"): (-0.5, 0.1)}
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ArtuneError, match=r"t\.compare\.csv: not a file of artune compare --table"):
        read_paired(path)
