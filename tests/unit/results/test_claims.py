"""The paper's claims: their list, their tests and their verdicts."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from measured import write_results, write_run, write_votes
from project import ROOT
from scipy import stats

from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.planning.plan import Plan
from artune.results.claims import judge_claims, write_claims
from artune.results.comparisons import Evidence, compare_all
from artune.results.measurers import measurers
from artune.results.verdicts import (
    BOTH,
    CONTRARY,
    FURTHER,
    HOLDS,
    JUDGES,
    PARTLY,
    REWARD,
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

MNIST, FASHION, IMAGENET = Registry("mnist"), Registry("fashion"), Registry("imagenet")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Results of the mnist scale in which every run has the same scores."""
    return write_results(MNIST, tmp_path_factory.mktemp("measured"))


def verdicts(results: Path, seeds: int = 1, side: str = "by_judges") -> dict[str, str]:
    return {found.id: found.verdict(side) for found in judge_claims(MNIST, results, seeds)}


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
        (
            "table2-all",
            "Recall (reward's network) of llamagen_xl-ours-nocfg above that of llamagen_xl-pretrained-nocfg",
        ),
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
        ("network: [inception, clip]", "network: [inception]",
         r"table1-quality: .*network: \[inception\] given, but the paper measures its scores by \[inception, clip\]"),
        ("untested:\n    every:", "network: [clip]\n  untested:\n    every:", r"training-cost: .*network: \[clip\] given, but .* by \[\]"),
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
    own, comparison = list(compare_all(claim, Evidence(MNIST, results, 1)))[2:4]
    assert (own.by, own.network, comparison.by, comparison.network) == (REWARD, "inception", JUDGES, "judge")
    assert own.difference == 0.0
    assert (comparison.difference, comparison.error) == (pytest.approx(-0.3), pytest.approx(0.2))
    assert comparison.verdict == WITHIN
    assert (own.paper, comparison.paper) == ("-5.12 against -0.81", "")


def test_several_seeds_are_judged_by_their_scatter(tmp_path):
    results = write_results(MNIST, tmp_path / "seeds", seeds=3)
    for seed, fid in enumerate((1.0, 1.9, 2.9)):
        write_run(MNIST, results, MNIST.seed_names("llamagen_l-ours", 3)[seed], fid=fid)
    _, comparison = compare_all(MNIST.claims["entropy-helps"], Evidence(MNIST, results, 3))
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
    for side in ("as_paper", "by_judges"):
        assert all(line[f"measured_{side}"] or line[f"reason_{side}"] for line in lines)
    assert {line["parts"] for line in lines} == {"no"}
    assert len(json.loads((tmp_path / "a.json").read_text())) == len(lines)
    networks = {line["id"]: line["network"] for line in lines}
    assert (networks["table1-quality"], networks["kl-fid"], networks["nocfg-cost"]) == (
        "inception clip",
        "inception",
        "",
    )


# -- who measures


def test_a_claim_that_holds_by_the_rewards_network_and_fails_by_the_judge_parts(measured, tmp_path):
    results = shutil.copytree(measured, tmp_path / "parted")
    write_run(MNIST, results, "llamagen_l-fid", fid=3.0, fid_reward=1.0)
    write_run(MNIST, results, "llamagen_l-fid-nokl", fid=3.0, fid_reward=1.0)
    (found,) = [one for one in judge_claims(MNIST, results) if one.id == "fid-only-improves"]
    assert (found.verdict("as_paper"), found.verdict("by_judges"), found.parts) == (HOLDS, CONTRARY, True)
    record = found.record()
    assert "FID (reward's network) of llamagen_l-fid below" in record["measured_as_paper"]
    assert "FID of llamagen_l-fid below" in record["measured_by_judges"]
    line = write_claims(MNIST, results, 1, tmp_path / "claims.csv")
    assert "as the paper measures: " in line
    assert "by judges that no reward saw: " in line
    assert line.endswith("the two differ on 2")
    lines = list(csv.DictReader((tmp_path / "claims.csv").read_text().splitlines()))
    assert [one["id"] for one in lines if one["parts"] == "yes"] == ["fid-only-improves", "fid-only-kl"]


def test_what_no_network_measures_is_judged_once_and_stands_on_both_sides(measured):
    for found in judge_claims(MNIST, measured):
        if found.claim.times or found.claim.curves or found.claim.votes or found.claim.same:
            assert {one.by for one in found.comparisons} == {BOTH}, found.id
            assert found.verdict("as_paper") == found.verdict("by_judges"), found.id
            assert not found.parts


def test_a_further_judge_is_shown_and_decides_nothing(tmp_path):
    results = write_results(FASHION, tmp_path / "fashion")
    third = {"fd_efficientnet": 9.0, "fd_efficientnet_se": 0.1}
    for run in ("llamagen_l-entropy0", "llamagen_l-ours"):
        write_run(FASHION, results, run, **third)
    write_run(FASHION, results, "llamagen_l-ours", **third | {"fd_efficientnet": 2.0})
    (found,) = [one for one in judge_claims(FASHION, results) if one.id == "entropy-helps"]
    assert [(one.by, one.network, one.verdict) for one in found.comparisons] == [
        (REWARD, "inception", WITHIN), (JUDGES, "judge", WITHIN), (FURTHER, "efficientnet_lite0", HOLDS),
    ]  # fmt: skip
    assert found.comparisons[2].what.startswith("FD (EfficientNet) of llamagen_l-ours below")
    assert found.verdict("by_judges") == found.verdict("as_paper") == WITHIN
    assert "EfficientNet" not in found.record()["measured_by_judges"]


def test_scores_that_are_not_there_are_not_tested_on_their_side_alone(measured, tmp_path):
    results = shutil.copytree(measured, tmp_path / "older")
    for file in results.glob("runs/*/scores.json"):
        record = json.loads(file.read_text())
        del record["scores"]["recall_reward"]
        file.write_text(json.dumps(record))
    (found,) = [one for one in judge_claims(MNIST, results) if one.id == "argrpo-recall"]
    assert (found.verdict("as_paper"), found.verdict("by_judges")) == (UNTESTED, WITHIN)
    assert not found.parts
    assert found.record()["reason_as_paper"] == "Recall (reward's network) is not measured at this scale"
    assert found.record()["reason_by_judges"] == ""
    # What only one side tested does not make them part: here all that differs is recall.
    write_run(MNIST, results, "llamagen_l-ours-nocfg", fid=1.0, fid_reward=1.0, recall=0.5)
    file = results / "runs/llamagen_l-ours-nocfg/scores.json"
    record = json.loads(file.read_text())
    del record["scores"]["recall_reward"]
    file.write_text(json.dumps(record))
    (found,) = [one for one in judge_claims(MNIST, results) if one.id == "table2-all"]
    assert (found.verdict("as_paper"), found.verdict("by_judges"), found.parts) == (PARTLY, CONTRARY, False)


def test_at_the_papers_scale_the_metrics_network_is_the_rewards_and_dinov2_and_cmmd_judge_fid():
    def ways(metric):
        return [(way.by, way.score, way.network) for way in measurers(metric, IMAGENET.evaluation) if not way.reason]

    assert ways("fid") == [
        (REWARD, "fid", "inception"), (JUDGES, "fd_dinov2", "dinov2"), (JUDGES, "cmmd", "clip_judge"),
    ]  # fmt: skip
    assert ways("precision") == [(REWARD, "precision", "inception"), (JUDGES, "precision_dinov2", "dinov2")]
    assert ways("recall") == [(REWARD, "recall", "inception"), (JUDGES, "recall_dinov2", "dinov2")]
    for metric, network in (("inception_score", "inception"), ("clip_score", "clip")):
        assert ways(metric) == [(REWARD, metric, network)]
        nobody = measurers(metric, IMAGENET.evaluation)[1]
        assert (nobody.by, "nobody but the reward's own network" in nobody.reason) == (JUDGES, True)


def test_at_an_embedded_scale_the_scales_own_judge_decides_and_the_stand_ins_are_the_papers():
    def ways(metric, registry):
        return [(way.by, way.score) for way in measurers(metric, registry.evaluation)]

    for metric in ("fid", "inception_score", "precision", "recall", "kid", "accuracy", "clip_score"):
        assert ways(metric, MNIST) == [(REWARD, f"{metric}_reward"), (JUDGES, metric)]
    assert ways("recall", FASHION)[2:] == [(FURTHER, "recall_efficientnet")]
    assert ways("loo_fid_ms", MNIST) == [(BOTH, "loo_fid_ms")]


def test_at_the_papers_scale_every_claim_with_tests_is_tested_but_what_a_person_must_see():
    skipped = [key for key, claim in IMAGENET.claims.items() if claim.why_not("imagenet")]
    assert skipped == ["training-cost", "qualitative-structure"]


def test_runs_of_unequal_numbers_of_seeds_are_compared_on_the_seeds_of_both(tmp_path):
    root = shutil.copytree(ROOT / "config", tmp_path / "config")
    path = root / "scales/mnist.yaml"
    path.write_text(path.read_text().replace("about:\n", "about:\n  seeds: {others: 1, llamagen_l-ours: 3}\n", 1))
    limited = Registry("mnist", root=root)
    results = write_results(limited, tmp_path / "results", seeds=3)
    found = {judged.id: judged for judged in judge_claims(limited, results, 3)}
    (times,) = found["covariance-native-time"].comparisons  # ours has three seeds, the other run one
    assert times.verdict != UNTESTED
    assert all(one.verdict != UNTESTED for one in found["argrpo-recall"].comparisons if one.by == JUDGES)
