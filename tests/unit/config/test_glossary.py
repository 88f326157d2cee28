"""The glossary: one entry per score, from which every list of scores follows."""

import os
import shutil
import subprocess
import sys

import pytest
import torch
from project import ROOT
from scored import APART, OFFICIAL, draws, draws_apart, reference, reference_apart

from artune.config.claims import ScoreTest
from artune.config.glossary import (
    AGAINST,
    BINOMIAL,
    CLAIMABLE,
    COLUMNS,
    COMPARED,
    JACKKNIFE,
    JUDGES,
    MEANINGS,
    METRICS,
    SCORES,
    WHERE_COMPUTED,
    Column,
    Score,
)
from artune.evaluation.left_out import scores_left_out
from artune.evaluation.scores import score, score_against

# Scores in scores.json, in the order of the MLflow keys ``eval/*``.
IN_SCORES_JSON = [
    "fid", "fid_se", "fid_bias_corrected", "kid", "kid_se", "inception_score", "inception_score_se",
    "inception_score_std", "precision", "precision_se", "precision_exact", "precision_adm_half", "recall",
    "recall_exact", "recall_adm_half", "clip_score", "clip_score_se", "accuracy", "fid_reward", "fid_reward_se",
    "clip_score_reward", "clip_score_reward_se", "sfid", "density", "coverage", "cmmd", "cmmd_se", "fd_dinov2",
    "fd_dinov2_se", "fd_efficientnet", "fd_efficientnet_se", "loo_fid_ms", "inception_score_reward",
    "inception_score_reward_se", "precision_reward", "precision_reward_se", "recall_reward", "kid_reward",
    "kid_reward_se", "accuracy_reward", "precision_dinov2", "precision_dinov2_se", "recall_dinov2",
    "kid_efficientnet", "kid_efficientnet_se", "precision_efficientnet", "precision_efficientnet_se",
    "recall_efficientnet",
]  # fmt: skip
SHOWN = {
    "fid": ("FID", -1, 2, 2),
    "inception_score": ("IS", +1, 2, 2),
    "clip_score": ("CLIPScore", +1, 4, 4),
    "precision": ("Precision", +1, 3, 2),
    "recall": ("Recall", +1, 3, 2),
    "fid_reward": ("FID (reward's network)", -1, 2, 2),
    "clip_score_reward": ("CLIPScore (reward's network)", +1, 4, 4),
    "accuracy": ("Accuracy", +1, 3, 3),
    "kid": ("KID", -1, 4, 4),
    "sfid": ("sFID", -1, 2, 2),
    "density": ("Density", +1, 3, 3),
    "coverage": ("Coverage", +1, 3, 3),
    "cmmd": ("CMMD", -1, 3, 3),
    "fd_dinov2": ("FD-DINOv2", -1, 1, 1),
    "fd_efficientnet": ("FD (EfficientNet)", -1, 1, 1),
    "inception_score_reward": ("IS (reward's network)", +1, 2, 2),
    "precision_reward": ("Precision (reward's network)", +1, 3, 2),
    "recall_reward": ("Recall (reward's network)", +1, 3, 2),
    "kid_reward": ("KID (reward's network)", -1, 4, 4),
    "accuracy_reward": ("Accuracy (reward's network)", +1, 3, 3),
    "precision_dinov2": ("Precision (DINOv2)", +1, 3, 2),
    "recall_dinov2": ("Recall (DINOv2)", +1, 3, 2),
    "kid_efficientnet": ("KID (EfficientNet)", -1, 4, 4),
    "precision_efficientnet": ("Precision (EfficientNet)", +1, 3, 2),
    "recall_efficientnet": ("Recall (EfficientNet)", +1, 3, 2),
    "loo_fid_ms": ("LOO-FID time (ms)", -1, 1, 0),
}
WITH_STANDARD_ERROR = {
    "fid",
    "fid_reward",
    "kid",
    "inception_score",
    "precision",
    "clip_score",
    "clip_score_reward",
    "cmmd",
    "fd_dinov2",
    "fd_efficientnet",
    "inception_score_reward",
    "precision_reward",
    "kid_reward",
    "precision_dinov2",
    "kid_efficientnet",
    "precision_efficientnet",
}
ONLY_BINOMIAL = {"recall", "accuracy", "recall_reward", "accuracy_reward", "recall_dinov2", "recall_efficientnet"}
LATER_JUDGES = ("precision_dinov2", "recall_dinov2", "kid_efficientnet", "precision_efficientnet", "recall_efficientnet")  # fmt: skip
DISTANCE = Column("Distance", better=-1, decimals=2, paper_decimals=2)


def test_the_papers_numbers_and_ours_keep_their_names_and_order():
    assert list(MEANINGS) == IN_SCORES_JSON
    assert [key for key in METRICS if key.startswith("eval/")] == [f"eval/{name}" for name in IN_SCORES_JSON]
    papers = [f"paper/{name}" for name in IN_SCORES_JSON if not name.endswith("_se")]
    assert [key for key in METRICS if key.startswith("paper/")] == papers


def test_what_is_shown_claimed_compared_and_judged_is_unchanged():
    found = {name: (one.heading, one.better, one.decimals, one.paper_decimals) for name, one in COLUMNS.items()}
    assert found == SHOWN
    assert {name for name, one in SCORES.items() if one.standard_error} == WITH_STANDARD_ERROR
    assert set(CLAIMABLE) == WITH_STANDARD_ERROR | ONLY_BINOMIAL
    assert {name for name, one in SCORES.items() if one.binomial} == ONLY_BINOMIAL
    judges = ("sfid", "density", "coverage", "cmmd", "fd_dinov2", "fd_efficientnet", *LATER_JUDGES)
    assert judges == JUDGES
    assert ("fid", "kid", "precision", "recall", *judges) == AGAINST
    own = ("inception_score_reward", "precision_reward", "recall_reward", "kid_reward", "accuracy_reward")
    assert (*own, *judges) == WHERE_COMPUTED
    assert COMPARED == ("fid", "kid", "inception_score", "precision", "recall", "clip_score", "accuracy")


def test_every_number_that_is_computed_has_an_entry_and_every_entry_is_computed():
    """Only the time of the LOO-FID reward is not a score: it comes from the timings of the training."""
    found = score(draws_apart(0), reference_apart(1), APART, 3)
    assert {*found, "loo_fid_ms"} == set(MEANINGS)


def test_what_a_reference_decides_is_marked_so():
    ours, real = (
        {key: torch.from_numpy(value) for key, value in arrays.items()}
        for arrays in (draws_apart(0), reference_apart(1))
    )
    assert {name for name in score_against(ours, real, APART) if name in SCORES} == set(AGAINST)


def test_what_is_compared_is_marked_so():
    assert set(scores_left_out(draws(0), reference(1, OFFICIAL), OFFICIAL, 3)) == set(COMPARED)


def test_no_number_has_two_entries():
    numbers = sum(1 + bool(one.standard_error) + len(one.beside) for one in SCORES.values())
    assert len(MEANINGS) == numbers


def test_an_entry_must_say_how_it_is_shown_and_whether_it_has_a_standard_error():
    for given in ({"column": DISTANCE}, {"standard_error": None}):
        with pytest.raises(TypeError, match="missing"):
            Score("a distance", **given)
    with pytest.raises(TypeError, match="missing"):
        Column("Distance", better=-1, decimals=2)


@pytest.mark.parametrize(
    ("marks", "message"),
    [
        ({"standard_error": BINOMIAL, "binomial": True}, "give one of them"),
        ({"standard_error": None, "judge": True}, "needs against_reference"),
        ({"standard_error": None, "others": ("cmmd",)}, "needs role"),
        ({"standard_error": JACKKNIFE, "beside": {"se": "standard error"}}, "follows from standard_error"),
    ],
)
def test_an_entry_that_contradicts_itself_is_named(marks, message):
    with pytest.raises(ValueError, match=rf"^Distance: .*{message}"):
        Score("a distance", DISTANCE, **marks)
    with pytest.raises(ValueError, match="give \\+1 or -1"):
        Column("Distance", better=0, decimals=2, paper_decimals=2)


def test_a_claim_may_name_no_score_without_an_error():
    with pytest.raises(ValueError, match="metric: unknown"):
        ScoreTest(left="a", right="b", lower=("sfid",))


NEW_ENTRY = """SCORES: dict[str, Score] = {
    "novelty": Score(
        "share of samples that resemble no training image",
        Column("Novelty", better=+1, decimals=3, paper_decimals=1),
        standard_error=BINOMIAL,
        against_reference=True,
        judge=True,
        compared=True,
    ),
"""
USE_IT = """
import sys
from artune.config.claims import ScoreTest
from artune.config.glossary import AGAINST, COMPARED, JUDGES, METRICS
from artune.config.registry import Registry
from artune.config.tables import Row, Table
from artune.results.comparisons import score_of
from artune.results.table_text import write_markdown
from artune.results.tables import build_table
from artune.tracking.run_page import describe_experiment, describe_run

registry = Registry("smoke", root=sys.argv[1])
row = Row(labels=("Ours",), run="llamagen_l-ours", paper=(0.5,))
registry.tables["novel"] = Table(title="Novelty", labels=("Method",), columns=("novelty",), rows=(row,))
frame = build_table(registry, "novel", {})
assert list(frame)[:5] == ["Method", "novelty", "novelty_se", "novelty_paper", "novelty_difference"], list(frame)
write_markdown(frame, registry, "novel", sys.argv[2])
assert "Novelty ↑" in open(sys.argv[2], encoding="utf-8").read()
ScoreTest(left="llamagen_l-ours", right="llamagen_l-argrpo", higher=("novelty",))
assert score_of({"scores": {"novelty": 0.5, "novelty_se": 0.1}, "n": 4}, "novelty").error == 0.1
assert all("novelty" in names for names in (AGAINST, COMPARED, JUDGES))
assert METRICS["eval/novelty"] == "final samples: share of samples that resemble no training image"
assert METRICS["eval/novelty_se"] == "final samples: standard error of novelty (binomial)"
assert METRICS["paper/novelty"] == "the paper's value: share of samples that resemble no training image"
assert "paper/novelty_se" not in METRICS
assert "| `eval/novelty` |" in describe_experiment(registry)
page = describe_run(registry, registry.spec("llamagen_l-ours"), {"n": 4, "scores": {"novelty": 0.25, "novelty_se": 0.1}})
assert "| Novelty ↑ | 0.250 ± 0.100 | 0.5 |" in page, page
"""


def test_a_new_score_is_one_entry(tmp_path):
    """Column, error, claim, comparison and MLflow meaning of a score that is added to the glossary only."""
    shutil.copytree(ROOT / "src/artune", tmp_path / "artune", ignore=shutil.ignore_patterns("__pycache__"))
    glossary = tmp_path / "artune/config/glossary.py"
    text = glossary.read_text(encoding="utf-8")
    first = NEW_ENTRY.splitlines(keepends=True)[0]
    assert first in text
    glossary.write_text(text.replace(first, NEW_ENTRY), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", USE_IT, str(ROOT / "config"), str(tmp_path / "novel.md")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
