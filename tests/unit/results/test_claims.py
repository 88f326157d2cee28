"""The paper's claims: their list, their tests and their verdicts."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from measured import write_results, write_run, write_votes
from scipy import stats

from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning.plan import Plan
from artune.results.claims import judge_claims, write_claims
from artune.results.comparisons import Evidence, compare_all
from artune.results.verdicts import (
    CONTRARY,
    HOLDS,
    PARTLY,
    UNTESTED,
    WITHIN,
    Measure,
    difference_of,
    judge,
    limit_of,
    mean_of,
    median_of,
    overall,
    preference,
)

MNIST, IMAGENET = Registry("mnist"), Registry("imagenet")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Results of the mnist scale in which every run has the same scores."""
    return write_results(MNIST, tmp_path_factory.mktemp("measured"))


def verdicts(results: Path, seeds: int = 1) -> dict[str, str]:
    return {found.id: found.verdict for found in judge_claims(MNIST, results, seeds)}


# -- verdicts


@pytest.mark.parametrize(
    ("difference", "error", "sign", "verdict"),
    [
        (-0.5, 0.2, -1, HOLDS),
        (0.5, 0.2, 1, HOLDS),
        (-0.5, 0.2, 1, CONTRARY),
        (0.39, 0.2, 1, WITHIN),
        (-0.4, 0.2, 1, WITHIN),  # exactly two standard errors are not beyond two
        (0.0, 0.0, 1, WITHIN),
        (9.0, None, 1, WITHIN),  # without a known error nothing is shown
    ],
)
def test_a_claim_holds_beyond_two_standard_errors_on_its_side(difference, error, sign, verdict):
    assert judge(difference, error, sign) == verdict


def test_the_error_of_a_difference_is_that_of_both_measurements():
    difference, error = difference_of([(Measure(5.0, 0.3), Measure(4.0, 0.4))])
    assert (difference, error) == (pytest.approx(1.0), pytest.approx(0.5))
    difference, error = difference_of([(Measure(5.0, 0.3), Measure(4.0, 0.4))], factor=2.0, margin=1.0)
    assert (difference, error) == (pytest.approx(-4.0), pytest.approx((0.3**2 + 0.8**2) ** 0.5))
    assert difference_of([(Measure(5.0), Measure(4.0, 0.4))])[1] is None


def test_over_seeds_the_larger_error_counts_and_seeds_are_paired():
    # The priors of the three seeds differ, their gain does not.
    wide = [(Measure(1.0 + 9 * seed, 0.01), Measure(9.0 * seed, 0.01)) for seed in range(3)]
    assert difference_of(wide) == (pytest.approx(1.0), pytest.approx((6 * 0.01**2) ** 0.5 / 3))
    scattered = [(Measure(value, 0.01), Measure(0.0, 0.01)) for value in (0.0, 1.0, 2.0)]
    assert difference_of(scattered) == (pytest.approx(1.0), pytest.approx(1 / 3**0.5))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_the_scatter_of_few_seeds_counts_as_students_t_says(seeds):
    values = np.random.default_rng(seeds).normal(1.0, 0.3, size=seeds)
    pairs = [(Measure(2.0 * value + 0.1, 1e-4), Measure(value, 1e-4)) for value in values]
    difference, error = difference_of(pairs, margin=0.1)
    limit = limit_of(pairs, margin=0.1)
    low, high = stats.t.interval(0.95, seeds - 1, loc=difference, scale=error)
    assert limit == pytest.approx((high - low) / 2)
    assert judge(difference, error, 1, limit) == (HOLDS if low > 0 else WITHIN)


def test_the_scatter_of_two_seeds_shows_less_than_two_standard_errors_would():
    pairs = [(Measure(value, 0.01), Measure(0.0, 0.01)) for value in (1.0, 2.0)]
    difference, error = difference_of(pairs)
    assert judge(difference, error, 1) == HOLDS
    assert judge(difference, error, 1, limit_of(pairs)) == WITHIN  # 12.7 errors of .5


def test_two_errors_of_the_evaluation_count_at_least_and_alone_with_one_seed():
    one = [(Measure(1.0, 0.3), Measure(0.0, 0.4))]
    assert limit_of(one) == 2 * difference_of(one)[1] == pytest.approx(1.0)
    assert limit_of(one, factor=2.0) == 2 * difference_of(one, factor=2.0)[1]
    alike = [(Measure(1.0, 0.3), Measure(0.0, 0.4)), (Measure(1.001, 0.3), Measure(0.0, 0.4))]
    assert limit_of(alike) == pytest.approx(2 * 0.5 / 2**0.5)
    assert limit_of([(Measure(1.0), Measure(0.0, 0.4))]) is None


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, UNTESTED], HOLDS),
        ([HOLDS, WITHIN], PARTLY),
        ([WITHIN, WITHIN], WITHIN),
        ([HOLDS, HOLDS, CONTRARY], CONTRARY),
        ([UNTESTED], UNTESTED),
        ([], UNTESTED),
    ],
)
def test_one_comparison_to_the_contrary_is_enough_against_a_claim(found, verdict):
    assert overall(found) == verdict


def test_measures_of_curves_seconds_and_votes_carry_their_errors():
    assert median_of([1.0, 1.1, 0.9, 1.0, 50.0]).value == 1.0
    assert median_of([1.0, 1.1, 0.9, 1.0, 50.0]).error < 0.1
    alternating, drifting = mean_of([0.0, 1.0] * 20), mean_of([0.0] * 20 + [1.0] * 20)
    assert drifting.error > 3 * alternating.error  # correlated neighbours count as fewer observations
    votes = preference(ours=318, tie=103, pretrained=149)
    assert votes.value == pytest.approx(169 / 570)
    assert votes.error == pytest.approx(((467 / 570 - (169 / 570) ** 2) / 570) ** 0.5)


# -- the list of claims


def test_every_table_figure_2_and_both_sections_have_claims():
    where = " ".join(claim.where for claim in MNIST.claims.values())
    for number in range(1, 13):
        assert f"Table {number}" in where, number
    assert "Figure 2" in where
    assert {claim.section for claim in MNIST.claims.values()} >= {"4", "5"}
    assert len(MNIST.claims) >= 30


def test_every_score_that_a_claim_names_is_a_cell_of_a_table():
    cells = {
        (row.run, metric)
        for table in MNIST.tables.values()
        for row in table.rows
        for metric in (*table.columns, *table.extra)
    }
    for key, claim in MNIST.claims.items():
        for test in claim.scores:
            for run in (run for side in (test.left, test.right) for run in side.split(" - ")):
                for metric in (*test.lower, *test.higher):
                    assert (run, metric) in cells, (key, run, metric)


def test_the_papers_own_numbers_bear_its_claims_out_but_for_one(measured):
    """The sentence about Table 2 says that all metrics improve, but XL's recall falls there from 0.74 to 0.68."""
    evidence = Evidence(MNIST, measured, 1)
    against = [
        (key, comparison.what)
        for key, claim in MNIST.claims.items()
        for comparison in compare_all(claim, evidence)
        if comparison.paper_agrees is False
    ]
    assert against == [
        ("table2-all", "Recall of llamagen_xl-ours-nocfg above that of llamagen_xl-pretrained-nocfg"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("left: llamagen_l-ours,  right: llamagen_l-pretrained,  lower", "left: llamagen_l-our,  right: llamagen_l-pretrained,  lower",
         r"claims\.yaml: table1-quality: unknown run 'llamagen_l-our'"),
        ("lower: [fid], higher: [inception_score, clip", "lower: [fidd], higher: [inception_score, clip",
         r"table1-quality: scores\.0: .*metric: unknown 'fidd'"),
        ("lower: [fid], higher: [inception_score, clip", "lower: [sfid], higher: [inception_score, clip", r"unknown 'sfid'"),
        ("falls: [fid/ema]", "falls: [fid/emma]", r"dynamics-fid: curves\.0: .*curve: unknown 'fid/emma'"),
        ("stage: time/generate", "stage: time/generation", r"nocfg-cost: times\.0: .*stage: unknown 'time/generation'"),
        ("{setting: CFG, task: Realism}", "{setting: CFG, task: Beauty}", r"human-cfg: votes: CFG / Beauty is not a row"),
        ("untested:\n    every:", "untested:\n    mnist:", r"training-cost: .*untested\.every"),
        ("below: 0.6,", "", r"nocfg-cost: times\.0: .*either below or above"),
        ("where: Table 1\n", "wear: Table 1\n", r"table1-quality: "),
    ],
)  # fmt: skip
def test_a_slip_in_the_claims_is_one_line_that_names_file_and_key(old, new, message, tmp_path):
    root = tmp_path / "config"
    shutil.copytree("config", root)
    text = (root / "claims.yaml").read_text(encoding="utf-8")
    assert old in text
    (root / "claims.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(ArtuneError, match=message) as caught:
        Registry("mnist", root=root)
    assert "\n" not in str(caught.value)


# -- claims judged from files


def test_equal_runs_show_nothing_and_curves_and_settings_are_read(measured):
    found = verdicts(measured)
    assert found["argrpo-fid"] == found["kl-fid"] == WITHIN
    # It is shown that the recall of L and XL falls by at most .03, but not that the recall of B falls.
    assert found["table1-recall"] == PARTLY
    assert found["dynamics-reward"] == found["dynamics-fid"] == HOLDS
    assert found["dynamics-entropy"] == WITHIN
    assert found["same-settings"] == HOLDS
    assert found["nocfg-cost"] == CONTRARY  # both take the same seconds; the claim is at most 0.6 of them
    assert found["loo-fid-iteration"] == HOLDS
    assert found["training-cost"] == found["qualitative-structure"] == UNTESTED


def test_a_better_run_makes_its_claims_hold_and_a_worse_one_refutes_them(measured, tmp_path):
    results = shutil.copytree(measured, tmp_path / "better")
    write_run(MNIST, results, "llamagen_l-ours", fid=1.0, recall=0.9)
    write_run(MNIST, results, "llamagen_l-ours-maniqa", fid=1.0, recall=0.9)
    found = verdicts(results)
    assert found["argrpo-fid"] == found["argrpo-recall"] == HOLDS
    assert found["argrpo-tradeoff"] == WITHIN
    write_run(MNIST, results, "llamagen_l-ours-maniqa", fid=3.0)
    assert verdicts(results)["argrpo-fid"] == CONTRARY


def test_a_difference_of_differences_has_the_errors_of_all_four(measured, tmp_path):
    results = shutil.copytree(measured, tmp_path / "gain")
    write_run(MNIST, results, "llamagen_l-ours-nocfg", fid=1.7)
    claim = MNIST.claims["nocfg-larger-gain"]
    comparison = list(compare_all(claim, Evidence(MNIST, results, 1)))[1]
    assert (comparison.difference, comparison.error) == (pytest.approx(-0.3), pytest.approx(0.2))
    assert comparison.verdict == WITHIN
    assert comparison.paper == "-5.12 against -0.81"


def test_several_seeds_are_judged_by_their_scatter(tmp_path):
    results = write_results(MNIST, tmp_path / "seeds", seeds=3)
    for seed, fid in enumerate((1.0, 1.9, 2.9)):
        write_run(MNIST, results, MNIST.seed_names("llamagen_l-ours", 3)[seed], fid=fid)
    comparison = next(compare_all(MNIST.claims["entropy-helps"], Evidence(MNIST, results, 3)))
    assert comparison.verdict == WITHIN  # -0.07 +- 0.08 by the evaluations alone, +- 0.55 by the seeds
    assert comparison.error == pytest.approx(0.549, abs=0.01)


def test_votes_are_judged_and_without_them_the_claim_is_not_tested(measured, tmp_path):
    results = shutil.copytree(measured, tmp_path / "voted")
    assert verdicts(results)["human-nocfg"] == UNTESTED
    counts = {
        "CFG": {"Realism": (100, 20, 100), "Ref. Match": (120, 20, 80)},
        "No CFG": {"Realism": (318, 103, 149), "Ref. Match": (291, 96, 183)},
    }
    rows = {
        setting: {
            task: dict(zip(("ours", "tie", "pretrained"), found, strict=True)) | {"votes": {}, "raters": 9}
            for task, found in tasks.items()
        }
        for setting, tasks in counts.items()
    }
    write_votes(MNIST, results, {"rows": rows, "everyone": rows})
    found = verdicts(results)
    assert found["human-cfg"] == PARTLY
    assert found["human-nocfg"] in (HOLDS, PARTLY)


def test_the_plan_names_every_file_that_the_verdicts_are_read_from(measured, tmp_path):
    plan = Plan(read_yaml(Path("config/config.yaml")), Path("config"))
    results = tmp_path / "only"
    for file in plan.claims():
        target = results / Path(file).relative_to(plan.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(measured / Path(file).relative_to(plan.folder), target)
    assert verdicts(results) == verdicts(measured)


def test_a_missing_file_is_named(measured, tmp_path):
    results = shutil.copytree(measured, tmp_path / "torn")
    (results / "runs/llamagen_l-argrpo/scores.json").unlink()
    with pytest.raises(ArtuneError, match=r"llamagen_l-argrpo/scores\.json: no such file"):
        verdicts(results)


def test_claims_are_one_line_each_with_scale_and_note_and_the_same_bytes_every_time(measured, tmp_path):
    for name in ("a", "b"):
        write_claims(MNIST, measured, 1, tmp_path / f"{name}.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    lines = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [line["id"] for line in lines] == list(MNIST.claims)
    assert {line["scale"] for line in lines} == {"mnist"}
    assert all("not comparable" in line["note"] for line in lines)
    assert all(line["measured"] or line["reason"] for line in lines)
    assert len(json.loads((tmp_path / "a.json").read_text())) == len(lines)


def test_at_the_papers_scale_every_claim_with_tests_is_tested_but_what_a_person_must_see():
    skipped = [key for key, claim in IMAGENET.claims.items() if claim.why_not("imagenet")]
    assert skipped == ["training-cost", "qualitative-structure"]
