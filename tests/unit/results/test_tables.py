import csv
import math
import subprocess
import sys

import pytest
from scipy import stats

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.table_text import write_latex, write_markdown
from artune.results.tables import build_table, write_csv

REGISTRY = Registry("mnist")


def record(run: str, seed: int = 0, scale: str = "mnist", n: int = 2000, **scores: float) -> dict:
    scores = {"fid": 1.0, "fid_se": 0.05, "fid_bias_corrected": 0.9, "inception_score": 6.5, "precision": 0.8,
              "precision_se": 0.01, "recall": 0.7, "kid": 0.002, "kid_se": 0.0001, "clip_score": 0.86,
              "clip_score_se": 0.003, "accuracy": 0.9, "fid_reward": 1.3, "fid_reward_se": 0.04,
              "clip_score_reward": 0.88} | scores  # fmt: skip
    return {"run": run, "base": run, "scale": scale, "seed": seed, "n": n, "labels": "random", "cfg": 1.5, "top_k": 0,
            "top_p": 1.0, "temperature": 1.0, "reference": "heldout_1000", "precision_recall": "exact",
            "networks": {"features": "classifier_b", "clip": "clip_2"}, "scores": scores}  # fmt: skip


def table4() -> dict[str, list[dict]]:
    return {
        "llamagen_l-ours": [record("llamagen_l-ours", fid=1.05)],
        "llamagen_l-argrpo": [record("llamagen_l-argrpo", fid=1.83, recall=0.6)],
    }


def test_a_row_holds_value_error_paper_and_difference():
    row = build_table(REGISTRY, "table4", table4()).iloc[1]
    assert row["Model"] == "Ours (CLIPScore + HPSv2)"
    assert (row["fid"], row["fid_se"], row["fid_bias_corrected"], row["fid_paper"]) == (1.05, 0.05, 0.9, 3.83)
    assert row["fid_difference"] == pytest.approx(1.05 - 3.83)
    assert row["fid_difference_in_se"] == pytest.approx((1.05 - 3.83) / 0.05)
    assert math.isnan(row["recall_difference_in_se"])  # with one seed, recall has no standard error
    assert (row["scale"], row["n"], row["seeds"], row["run"]) == ("mnist", 2000, 1, "llamagen_l-ours")
    assert row["networks"] == "features: classifier_b; clip: clip_2"
    assert (row["reference"], row["note"], row["status"]) == ("heldout_1000", REGISTRY.about.note, "ok")


def test_a_row_says_why_it_has_no_bias_corrected_fid():
    scores = table4()
    lacking = scores["llamagen_l-ours"][0]
    del lacking["scores"]["fid_bias_corrected"]
    lacking["missing"] = {"fid_bias_corrected": "too few samples"}
    frame = build_table(REGISTRY, "table4", scores)
    assert math.isnan(frame.iloc[1]["fid_bias_corrected"])
    assert frame.iloc[1]["fid"] == 1.05
    assert frame.iloc[1]["note"] == f"{REGISTRY.about.note}; no fid_bias_corrected: too few samples"
    assert frame.iloc[0]["note"] == REGISTRY.about.note


def test_a_table_with_one_unlabelled_run_is_made():
    scores = table4()
    foreign = scores["llamagen_l-ours"][0]
    foreign["labels"] = "none"
    for name in ("accuracy", "clip_score", "clip_score_se", "clip_score_reward"):
        del foreign["scores"][name]
    frame = build_table(REGISTRY, "table4", scores)
    assert math.isnan(frame.iloc[1]["clip_score"])
    assert list(frame["fid"][:2]) == [1.83, 1.05]


def test_scores_of_the_rewards_own_networks_have_columns_of_their_own():
    row = build_table(REGISTRY, "table4", table4()).iloc[1]
    assert (row["fid_reward"], row["clip_score_reward"]) == (1.3, 0.88)


def test_seeds_become_mean_standard_deviation_and_error_of_the_mean():
    values = [1.0, 1.2, 1.7]
    scores = table4() | {"llamagen_l-ours": [record("llamagen_l-ours", i, fid=v) for i, v in enumerate(values)]}
    frame = build_table(REGISTRY, "table4", scores)
    row = frame.iloc[1]
    mean = sum(values) / 3
    assert row["fid"] == pytest.approx(mean)
    assert row["fid_std"] == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in values) / 2), rel=1e-5)
    assert row["fid_se"] == pytest.approx(0.05 / math.sqrt(3), rel=1e-5)
    assert row["fid_difference_in_se"] == pytest.approx((mean - 3.83) / (row["fid_std"] / math.sqrt(3)), rel=1e-5)
    assert row["seeds"] == 3
    assert math.isnan(frame.iloc[0]["fid_std"])


def test_seeds_have_the_error_of_their_mean_and_its_interval_by_students_t():
    values = [1.0, 1.2, 1.7]
    scores = table4() | {"llamagen_l-ours": [record("llamagen_l-ours", i, fid=v) for i, v in enumerate(values)]}
    frame = build_table(REGISTRY, "table4", scores)
    error = stats.sem(values)
    assert frame.iloc[1]["fid_seeds_se"] == pytest.approx(error, rel=1e-5)
    assert frame.iloc[1]["fid_seeds_half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * error, rel=1e-5)
    assert math.isnan(frame.iloc[0]["fid_seeds_half_width"])
    at = list(frame).index("fid_std")
    assert list(frame)[at - 1 : at + 3] == ["fid_se", "fid_std", "fid_seeds_se", "fid_seeds_half_width"]


def test_a_row_under_other_inputs_takes_the_scores_of_these_inputs_only():
    runs = ("llamagen_l-argrpo-t1", "llamagen_l-ours-t1", "llamagen_l-ours-n1")
    scores = {run: [record(run) | {"base": run[:-3]}] for run in runs}
    frame = build_table(REGISTRY, "extra_seeds", scores).set_index("run")
    assert (frame["status"] == "ok").sum() == 3
    assert frame.loc["llamagen_l-ours-t1", "Tokenizer"] == "1"
    assert math.isnan(frame.loc["llamagen_l-ours-t1", "fid_paper"])
    assert frame.loc["llamagen_l-ours", "fid_paper"] == 3.83
    message = "scores of llamagen_l-ours-n1 at scale mnist given for llamagen_l-ours-t1"
    with pytest.raises(ArtuneError, match=message):
        build_table(REGISTRY, "extra_seeds", {"llamagen_l-ours-t1": scores["llamagen_l-ours-n1"]})


def test_the_order_of_seeds_does_not_matter():
    records = [record("llamagen_l-ours", i, fid=1 + 0.1 * i) for i in range(3)]
    forward, backward = (
        build_table(REGISTRY, "table4", {"llamagen_l-ours": order}) for order in (records, records[::-1])
    )
    assert forward.equals(backward)


def test_without_several_seeds_there_is_no_column_of_deviations():
    endings = ("_std", "_seeds_se", "_half_width")
    assert not [name for name in build_table(REGISTRY, "table4", table4()) if name.endswith(endings)]


def test_a_row_without_scores_is_empty_and_says_why(monkeypatch):
    monkeypatch.setattr(REGISTRY, "unavailable", lambda run: "unreleased" if "vapi" in run else None)
    frame = build_table(REGISTRY, "table5", {"llamagen_xl-ours": [record("llamagen_xl-ours")]})
    assert list(frame["status"]) == ["missing", "unreleased", "missing", "missing", "unreleased", "ok"]
    assert math.isnan(frame.iloc[1]["fid"])
    assert frame.iloc[1]["fid_paper"] == 7.65


def test_a_metric_missing_in_one_seed_is_left_empty_rather_than_averaged_over_the_others():
    records = [record("llamagen_l-ours", seed) for seed in range(2)]
    del records[1]["scores"]["recall"]
    row = build_table(REGISTRY, "table4", {"llamagen_l-ours": records}).iloc[1]
    assert math.isnan(row["recall"])
    assert row["fid"] == 1.0


@pytest.mark.parametrize("key", [key for key, table in REGISTRY.tables.items() if table.kind == "scores"])
def test_every_table_has_the_same_bytes_when_written_again(tmp_path, key):
    runs = {row.run: [record(row.run, fid=1 / (3 + at))] for at, row in enumerate(REGISTRY.tables[key].rows)}
    for folder in ("a", "b"):
        frame = build_table(REGISTRY, key, runs if folder == "a" else dict(reversed(runs.items())))
        write_csv(frame, tmp_path / folder / "t.csv")
        write_markdown(frame, REGISTRY, key, tmp_path / folder / "t.md")
        write_latex(frame, REGISTRY, key, tmp_path / folder / "t.tex")
    for kind in ("csv", "md", "tex"):
        assert (tmp_path / f"a/t.{kind}").read_bytes() == (tmp_path / f"b/t.{kind}").read_bytes()


def test_csv_has_plain_numbers_and_empty_cells(tmp_path):
    write_csv(build_table(REGISTRY, "table4", table4()), tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert (rows[0]["fid"], rows[0]["fid_difference"], rows[0]["n"]) == ("1.83", "-4.54", "2000")
    assert (rows[2]["fid"], rows[2]["n"], rows[2]["status"]) == ("", "", "missing")


def test_markdown_sets_the_best_in_bold_and_the_papers_value_beside_it(tmp_path):
    write_markdown(build_table(REGISTRY, "table4", table4()), REGISTRY, "table4", tmp_path / "table4.md")
    text = (tmp_path / "table4.md").read_text(encoding="utf-8")
    assert "| Ours (CLIPScore + HPSv2) | **1.05** ± 0.05 | **3.83** |" in text
    assert "| AR-GRPO (CLIPScore + HPSv2) | 1.83 ± 0.05 | 6.37 |" in text
    assert "| FID ↓ | paper | IS ↑ | paper |" in text
    caption = text.splitlines()[0]
    for part in (
        "Table 4",
        "Scale mnist",
        "not comparable with the paper's numbers",
        "2000 samples",
        "heldout_1000",
        "standard error",
    ):
        assert part in caption
    assert "paper's values" not in caption  # nothing is said of differences to them


def test_differences_to_the_paper_are_printed_where_the_numbers_are_comparable(tmp_path):
    registry = Registry("imagenet")
    scores = {run: [one | {"scale": "imagenet"} for one in found] for run, found in table4().items()}
    for kind, write in (("md", write_markdown), ("tex", write_latex)):
        write(build_table(registry, "table4", scores), registry, "table4", tmp_path / f"t.{kind}")
    text, latex = ((tmp_path / f"t.{kind}").read_text(encoding="utf-8") for kind in ("md", "tex"))
    assert "| Ours (CLIPScore + HPSv2) | **1.05** ± 0.05 | **3.83** (-55.6) |" in text
    assert "| AR-GRPO (CLIPScore + HPSv2) | 1.83 ± 0.05 | 6.37 (-90.8) |" in text
    assert r"\textbf{1.05} $\pm$ 0.05 & \textbf{3.83} (-55.6)" in latex
    assert "here - paper in standard errors of the number here" in text.splitlines()[0]


def test_every_block_has_a_best_of_its_own(tmp_path):
    scores = {row.run: [record(row.run, fid=2.0 + at)] for at, row in enumerate(REGISTRY.tables["table4"].rows)}
    frame = build_table(REGISTRY, "table4", scores)
    write_markdown(frame, REGISTRY, "table4", tmp_path / "t.md")
    write_latex(frame, REGISTRY, "table4", tmp_path / "t.tex")
    text, latex = ((tmp_path / f"t.{kind}").read_text(encoding="utf-8") for kind in ("md", "tex"))
    for best in ("**2.00**", "**4.00**", "**3.83**", "**6.43**"):
        assert best in text
    for other in ("**3.00**", "**5.00**", "**6.37**", "**9.34**"):
        assert other not in text
    assert latex.count(r"\midrule") == 2


def test_a_difference_of_thousands_of_standard_errors_stays_short(tmp_path):
    registry = Registry("imagenet")
    frame = build_table(
        registry, "table4", {"llamagen_l-ours": [record("llamagen_l-ours", scale="imagenet", fid_se=1e-9)]}
    )
    write_markdown(frame, registry, "table4", tmp_path / "t.md")
    assert "| **3.83** (< -100) |" in (tmp_path / "t.md").read_text(encoding="utf-8")


def test_the_note_of_a_scale_stands_in_every_row_and_caption(tmp_path):
    registry = Registry("mnist")
    registry.about = registry.about.model_copy(update={"note": "not comparable with the paper's numbers"})
    frame = build_table(registry, "table4", table4())
    write_markdown(frame, registry, "table4", tmp_path / "table4.md")
    assert set(frame["note"]) == {"not comparable with the paper's numbers"}
    assert "not comparable" in (tmp_path / "table4.md").read_text(encoding="utf-8")


def test_what_must_be_said_of_a_single_run_stands_in_its_row_and_the_caption(tmp_path):
    frame = build_table(REGISTRY, "table5", {})
    noted = frame[frame["note"].str.contains("LPIPS")]
    assert list(noted["run"]) == ["llamagen_xl-vapi-nocfg", "llamagen_xl-vapi"]
    write_markdown(frame, REGISTRY, "table5", tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text(encoding="utf-8").splitlines()[0].count("LPIPS") == 1
    assert not build_table(Registry("imagenet"), "table5", {})["note"].str.contains("LPIPS").any()


def test_markdown_rows_have_as_many_cells_as_their_headings(tmp_path):
    for key, table in REGISTRY.tables.items():
        if table.kind == "scores":
            write_markdown(build_table(REGISTRY, key, {}), REGISTRY, key, tmp_path / f"{key}.md")
            for block in (tmp_path / f"{key}.md").read_text(encoding="utf-8").split("\n\n"):
                widths = {line.count("|") for line in block.splitlines() if line.startswith("|")}
                assert len(widths) <= 1, (key, block)


def test_latex_escapes_what_latex_would_read_as_its_own(tmp_path):
    write_latex(build_table(REGISTRY, "table4", table4()), REGISTRY, "table4", tmp_path / "table4.tex")
    text = (tmp_path / "table4.tex").read_text(encoding="utf-8")
    assert r"Ours (CLIPScore + HPSv2) & \textbf{1.05} $\pm$ 0.05 & \textbf{3.83} &" in text
    assert r"heldout\_1000" in text
    assert text.count(r"\\") == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "imagenet"}, "at scale imagenet given for llamagen_l-ours at scale mnist"),
        ({"base": "llamagen_l-kl2"}, "scores of llamagen_l-kl2"),
        ({"seed": 0}, "a seed is given twice"),
        ({"n": 500}, r"scored by different settings \(n: 2000 for llamagen_l-ours; 500 for llamagen_l-ours\)"),
        (
            {"cfg": 2.0},
            r"its seeds were sampled by different settings \(cfg: .* with 1\.5, .* with 2\.0\); delete scores",
        ),
    ],
)
def test_scores_that_do_not_belong_together_are_refused(change, message):
    records = [record("llamagen_l-ours", 0), record("llamagen_l-ours", 1) | change]
    with pytest.raises(ArtuneError, match=message):
        build_table(REGISTRY, "table4", {"llamagen_l-ours": records})


def test_an_unknown_table_is_one_line():
    with pytest.raises(ArtuneError, match="unknown table 'table13'"):
        build_table(REGISTRY, "table13", {})


def test_tables_are_built_without_torch():
    script = (
        "import sys; from artune.config.registry import Registry; from artune.results.tables import build_table\n"
        "import artune.results.table_text, artune.results.study.serve, artune.tracking.run_logger, artune.tracking.mlflow_store\n"
        "build_table(Registry('imagenet'), 'table1', {}); sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def official(run: str, **further: float) -> dict:
    found = record(run, scale="imagenet", n=50000, sfid=6.1, density=1.1, coverage=0.9, cmmd=0.5, cmmd_se=0.01)
    against = {"fid": 2.5, "fid_se": 0.02, "precision": 0.7, "recall": 0.6, "sfid": 5.0, "cmmd": 0.4} | further
    return found | {"references": {"imagenet_val": against}}


def test_the_official_evaluation_shows_its_judges_and_every_further_reference(tmp_path):
    registry = Registry("imagenet")
    scores = {
        "llamagen_l-ours": [official("llamagen_l-ours")],
        "llamagen_l-argrpo": [official("llamagen_l-argrpo", fid=3.5)],
    }
    frame = build_table(registry, "table4", scores)
    ours = frame.set_index("run").loc["llamagen_l-ours"]
    assert (ours["sfid"], ours["coverage"], ours["cmmd_se"]) == (6.1, 0.9, 0.01)
    assert (ours["fid"], ours["fid_imagenet_val"], ours["fid_imagenet_val_se"]) == (1.0, 2.5, 0.02)
    assert "inception_score_imagenet_val" not in frame  # the Inception score uses no reference
    assert math.isnan(frame.set_index("run").loc["llamagen_l-ours-maniqa", "fid_imagenet_val"])
    write_markdown(frame, registry, "table4", tmp_path / "t.md")
    first, beyond, second = (tmp_path / "t.md").read_text().split(":\n\n")
    assert "imagenet_val" not in first
    assert "sFID ↓" in beyond
    assert "| **2.50** ± 0.02 |" in second
    assert "| 3.50 ± 0.02 |" in second


def test_other_scales_tables_have_no_such_columns():
    assert not [name for name in build_table(REGISTRY, "table4", table4()) if "sfid" in name or "imagenet" in name]
