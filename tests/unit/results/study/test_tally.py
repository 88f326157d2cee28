"""Counting of votes, against published numbers and numbers computed by hand."""

import csv
import json
import math
from contextlib import closing

import pytest
from study_pairs import make_study

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.study.store import VoteStore
from artune.results.study.table import NO_VOTES, build_study_table
from artune.results.study.tally import krippendorff_alpha, sign_test, tally_row, tally_votes, verdict
from artune.results.table_text import write_latex, write_markdown
from artune.results.tables import write_csv

REGISTRY = Registry("mnist")
# Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, example C: 4 observers, 12 units, 0 = missing.
OBSERVERS = (
    "1 2 3 3 2 1 4 1 2 0 0 0",
    "1 2 3 3 2 2 4 1 2 5 0 3",
    "0 3 3 3 2 3 4 2 2 5 1 0",
    "1 2 3 3 2 4 4 1 2 5 1 0",
)


def test_alpha_is_the_published_one_with_missing_values():
    rows = [line.split() for line in OBSERVERS]
    units = [[value for value in unit if value != "0"] for unit in zip(*rows, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_the_published_one_of_two_observers():
    # Krippendorff (2011), example B: nominal, two observers, no missing values; 0.692.
    meg, owen = (
        ["a", "a", "b", "b", "d", "c", "c", "c", "e", "d", "d", "a"],
        ["b", "a", "b", "b", "b", "c", "c", "c", "e", "d", "d", "d"],
    )
    assert krippendorff_alpha(list(zip(meg, owen, strict=True))) == pytest.approx(0.692, abs=5e-4)


def test_alpha_at_its_limits():
    assert krippendorff_alpha([["a", "a"], ["b", "b", "b"]]) == 1.0
    assert krippendorff_alpha([["a", "b"]] * 50) == pytest.approx(1 - 99 * 100 / 5000)
    assert krippendorff_alpha([["a"], ["b"], []]) is None  # no unit has two values
    assert krippendorff_alpha([["a", "a"], ["a", "a"]]) is None  # all values are the same


def test_the_sign_test_is_exact():
    test = sign_test(8, 2)
    assert test.p == pytest.approx(2 * (1 + 10 + 45) / 1024)  # 56 of 1024 outcomes on either side
    assert (test.share, test.low, test.high) == pytest.approx((0.8, 0.4439, 0.9748), abs=1e-4)  # Clopper-Pearson tables
    assert sign_test(5, 5).p == 1.0
    assert sign_test(0, 0).p is None


def test_the_papers_own_counts_are_tested_too():
    frame = build_study_table(REGISTRY, "table3", None)
    columns = (frame[name].tolist() for name in ("ours_paper", "pretrained_paper", "p_paper"))
    for ours, pretrained, p in zip(*columns, strict=True):
        total = ours + pretrained
        tail = sum(math.comb(total, at) for at in range(pretrained + 1))  # exact, in whole numbers
        assert p == pytest.approx(2 * tail / 2**total, rel=1e-6)
    assert frame["p_paper"][0] > 0.3  # the paper's own counts do not decide realism with CFG
    assert frame["share_paper"].tolist() == pytest.approx([117 / 219, 135 / 229, 318 / 467, 291 / 474])


@pytest.mark.parametrize(
    ("votes", "result"),
    [
        (["ours"], "ours"),
        (["tie"], "tie"),
        (["ours", "pretrained"], "tie"),
        (["ours", "tie"], "ours"),
        (["pretrained", "pretrained", "ours"], "pretrained"),
        (["tie", "tie", "ours"], "ours"),
    ],
)
def test_a_pair_counts_once_for_the_side_that_more_prefer(votes, result):
    assert verdict(votes) == result


def test_a_row_counts_pairs_and_votes():
    votes = {"a": ["ours", "ours"], "b": ["tie"], "c": ["pretrained", "ours", "pretrained"]}
    row = tally_row(votes, {"a": [0, 1], "b": [0], "c": [0, 1, 2]})
    assert (row["ours"], row["tie"], row["pretrained"]) == (1, 1, 1)
    assert row["votes"] == {"ours": 3, "tie": 1, "pretrained": 2}
    assert (row["raters"], row["alpha_pairs"], row["p"]) == (3, 2, 1.0)


@pytest.fixture
def voted(tmp_path):
    """A folder with the votes of three raters: one always for ours, one always against, one who never looks."""
    study = make_study(tmp_path / "pairs.zip", pairs=8, checks=8, check_every=2, settings=("CFG", "No CFG"))
    with closing(VoteStore(tmp_path / "votes.sqlite", study).database):
        store = VoteStore(tmp_path / "votes.sqlite", study)
        for prefers in ("ours", "pretrained", None):
            rater = store.rater(store.register())
            session = store.session(rater)
            while session.waiting:
                shown = session.waiting[0]
                wanted = "real" if shown.item.kind == "check" else prefers
                pressed = "tie" if prefers is None else "left" if shown.left == wanted else "right"
                session = store.vote(rater, shown.position, pressed, 2.0)
                if prefers == "pretrained" and session.done > 30:
                    break
        store.close()
    return tmp_path


def test_raters_who_fail_the_checks_are_left_out_and_both_counts_are_given(voted):
    tally = tally_votes(voted / "votes.sqlite")
    assert [line["flagged"] for line in tally["raters"]] == [False, False, True]
    assert [line["right"] == line["checks"] > 0 for line in tally["raters"]] == [True, True, False]
    assert tally["pairs"] == {setting: {"Realism": 8, "Ref. Match": 8} for setting in ("CFG", "No CFG")}
    rows = [row for tasks in tally["rows"].values() for row in tasks.values()]
    everyone = [row for tasks in tally["everyone"].values() for row in tasks.values()]
    assert sum(row["votes"]["tie"] for row in rows) == 0
    assert sum(row["votes"]["tie"] for row in everyone) == 32
    assert sum(row["ours"] + row["tie"] + row["pretrained"] for row in rows) == 32
    assert tally_votes(voted / "votes.sqlite", "include")["rows"] == tally["everyone"]


def test_table_3_shows_counts_tests_agreement_and_the_paper(voted, tmp_path):
    tally = tally_votes(voted / "votes.sqlite")
    frame = build_study_table(REGISTRY, "table3", json.loads(json.dumps(tally)))
    assert (frame["status"] == "ok").all()
    assert frame["pairs"].tolist() == frame["pairs_drawn"].tolist() == [8, 8, 8, 8]
    assert frame["ours_everyone"].notna().all()
    row = frame.iloc[0]
    found = tally["rows"]["CFG"]["Realism"]
    assert (row["ours"], row["votes"], row["raters"]) == (str(found["ours"]), sum(found["votes"].values()), 2)
    write_markdown(frame, REGISTRY, "table3", tmp_path / "t.md")
    write_latex(frame, REGISTRY, "table3", tmp_path / "t.tex")
    text = (tmp_path / "t.md").read_text()
    assert f"| CFG | Realism | {found['ours']} | 117 | {found['tie']} | 41 | {found['pretrained']} | 102 |" in text
    assert f"{found['share']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" in text
    assert "mnist" in text.splitlines()[0]
    for block in text.split("\n\n"):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) <= 1


def test_table_3_without_votes_says_so_and_shows_no_number_of_ours(tmp_path):
    frame = build_study_table(REGISTRY, "table3", tally_votes(tmp_path / "nothing.sqlite"))
    assert {cell for column in ("ours", "tie", "pretrained") for cell in frame[column]} == {NO_VOTES}
    assert frame[["share", "low", "high", "p", "alpha"]].isna().all(axis=None)
    assert (frame[["pairs", "votes", "raters"]] == 0).all(axis=None)
    assert frame["ours_paper"].tolist() == [117, 135, 318, 291]
    write_csv(frame, tmp_path / "t.csv")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert (rows[0]["ours"], rows[0]["share"], rows[0]["status"]) == (NO_VOTES, "", "no-votes")
    write_markdown(frame, REGISTRY, "table3", tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text().count(NO_VOTES) == 13  # 12 cells and the caption


def test_table_3_says_so_when_nobody_looked(voted, tmp_path):
    tally = tally_votes(voted / "votes.sqlite") | {"rows": {}}
    frame = build_study_table(REGISTRY, "table3", tally)
    assert {cell for column in ("ours", "tie", "pretrained") for cell in frame[column]} == {"none that counts"}
    write_markdown(frame, REGISTRY, "table3", tmp_path / "t.md")
    assert NO_VOTES not in (tmp_path / "t.md").read_text()


JUDGED = {
    "judge": "clip_judge",
    "study": "abc",
    "rows": {"CFG": {"Realism": {"ours": 150, "tie": 0, "pretrained": 110}}},
}


def test_the_automatic_judge_has_columns_of_its_own_and_never_becomes_a_vote(tmp_path):
    frame = build_study_table(REGISTRY, "table3", None, JUDGED)
    assert frame.iloc[0][["judge_ours", "judge_tie", "judge_pretrained", "judge"]].tolist() == [
        150,
        0,
        110,
        "clip_judge",
    ]
    assert set(frame["ours"]) == {NO_VOTES}
    assert frame["votes"].sum() == 0
    write_markdown(frame, REGISTRY, "table3", tmp_path / "t.md")
    text = (tmp_path / "t.md").read_text()
    assert "Automatic judge (clip_judge, a network that no reward used; not people)" in text
    assert text.index("Automatic judge") < text.index("| CFG | Realism | 150 | 0 | 110 |")


def test_a_judge_of_other_pairs_than_the_votes_are_on_is_left_out(voted):
    tally = tally_votes(voted / "votes.sqlite")
    assert build_study_table(REGISTRY, "table3", tally, JUDGED)["judge"].isna().all()
    same = build_study_table(REGISTRY, "table3", tally, JUDGED | {"study": tally["study"]})
    assert same.iloc[0]["judge_ours"] == 150
    assert math.isnan(float(same["judge_ours"].astype("float64").iloc[1]))


def test_votes_for_an_unknown_task_are_refused():
    with pytest.raises(ArtuneError, match="CFG / Beauty"):
        build_study_table(REGISTRY, "table3", {"everyone": {"CFG": {"Beauty": {"ours": 1}}}})


def test_a_choice_that_nobody_can_make_is_refused(voted):
    with closing(
        VoteStore(
            voted / "votes.sqlite",
            make_study(voted / "pairs.zip", pairs=8, checks=8, check_every=2, settings=("CFG", "No CFG")),
        ).database
    ) as database:
        database.execute("UPDATE votes SET choice = 'mine' WHERE position = 0 AND rater = 0")
    with pytest.raises(ArtuneError, match="unknown choice 'mine'"):
        tally_votes(voted / "votes.sqlite")


def test_the_command_of_two_words_counts_and_prints_table_3(voted, capsys):
    arguments = ["--votes", str(voted / "votes.sqlite"), "--output", str(voted / "tally.json"), "--scale", "mnist"]
    assert main(["study", "tally", *arguments]) == 0
    printed = capsys.readouterr()
    assert "3 raters; failed the attention checks and left out: 2" in printed.out
    assert "CFG / Ref. Match" in printed.out
    assert json.loads((voted / "tally.json").read_text())["rows"]
    assert main(["study_tally", "--flagged", "include", *arguments]) == 0
    assert "counted nevertheless: 2" in capsys.readouterr().out
    assert main(["study", "tally", "--votes", str(voted / "none"), *arguments[2:]]) == 0
    assert capsys.readouterr().out == "no votes yet\n"
