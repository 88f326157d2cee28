"""Rows of different protocols are refused, and rows of different code are named."""

import pytest
from project import ROOT

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.results.mixture import check_one_protocol, code_versions, say_versions

EVALUATION = Registry("smoke", root=ROOT / "config").evaluation


def record(run, code="a" * 64, trained=None, **changed):
    settings = EVALUATION.model_copy(update=changed)
    return {
        "run": run,
        "n": 64,
        "images": "sampled",
        "inception_split": settings.inception_split,
        "networks": settings.networks,
        "evaluation": settings.model_dump(mode="json"),
        "versions": {"commit": "1" * 40, "code": code},
    } | ({"trained_by": {"code": trained, "commit": "1" * 40}} if trained else {})


def test_one_row_of_another_protocol_is_named_with_the_remedy():
    rows = [record("a", inception_split=16), record("b"), record("c")]
    with pytest.raises(ArtuneError) as caught:
        check_one_protocol("table4", rows, EVALUATION)
    assert str(caught.value) == (
        "table4: its rows were scored by different settings (inception_split: 16 for a; 32 for b, c); delete scores.json "
        "of a and give the same command again"
    )


@pytest.mark.parametrize(
    "changed",
    [{"neighbours": 5}, {"features": "inception"}, {"precision_recall": "adm_half"}, {"seed": 3}, {"labels": "random"}],
)
def test_every_setting_that_moves_a_score_counts(changed):
    with pytest.raises(ArtuneError, match="rows were scored by different settings"):
        check_one_protocol("table4", [record("a"), record("b", **changed)], EVALUATION)


def test_one_protocol_passes_even_if_it_is_not_the_present_one():
    check_one_protocol("table4", [record("a", neighbours=5), record("b", neighbours=5)], EVALUATION)
    check_one_protocol("table4", [record("a"), record("b", grid_per_class=3, batch=16)], EVALUATION)  # moves no score
    check_one_protocol("table4", [], EVALUATION)


def test_real_images_may_be_more_or_fewer():
    real = record("real") | {"n": 3600, "images": "train"}
    check_one_protocol("table1", [record("a"), real], EVALUATION)
    with pytest.raises(ArtuneError, match="neighbours"):
        check_one_protocol("table1", [record("a"), real | {"evaluation": {"neighbours": 9}}], EVALUATION)


def test_scores_from_before_a_field_existed_are_compared_by_the_fields_they_have():
    old = {key: value for key, value in record("old").items() if key != "evaluation"}
    check_one_protocol("table4", [record("a"), old], EVALUATION)
    with pytest.raises(ArtuneError, match="inception_split: 32 for a; 99 for old"):
        check_one_protocol("table4", [record("a"), old | {"inception_split": 99}], EVALUATION)


def test_rows_of_one_version_of_the_code_say_nothing():
    assert code_versions([record("a", trained="a" * 64), record("b")]) == {}
    assert say_versions({}) == ""


def test_rows_of_two_versions_say_which_made_what():
    found = code_versions([record("a", trained="b" * 64), record("b")])
    assert found == {"aaaaaaa": ["scores of a", "scores of b"], "bbbbbbb": ["training of a"]}
    assert say_versions(found).startswith("made by different versions of the code (aaaaaaa: scores of a, scores of b;")


def test_files_without_a_digest_of_the_code_are_compared_by_commit():
    old = record("old") | {"versions": {"commit": "2" * 40}}
    assert code_versions([record("a"), old]) == {"1111111": ["scores of a"], "2222222": ["scores of old"]}
