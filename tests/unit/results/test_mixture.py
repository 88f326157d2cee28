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


def test_rows_of_several_sets_of_networks_stand_together_if_nothing_else_differs():
    registry = Registry("smoke", root=ROOT / "config")
    other = record("a-n1", **registry.evaluation_in(1).networks) | {"networks_seed": 1}
    assert other["networks"]["features"] == "judge-n1"
    check_one_protocol("extra_seeds", [record("a"), other], EVALUATION)
    with pytest.raises(ArtuneError, match=r"networks: .* for a; .* for a-n1"):  # no set of its own is named
        check_one_protocol("table4", [record("a"), {**other, "networks_seed": 0, "evaluation": {}}], EVALUATION)
    swapped = registry.evaluation_in(1).networks | {"features": "inception-n1"}
    with pytest.raises(ArtuneError, match="features: 'judge' for a; 'inception' for a-n1"):
        check_one_protocol("extra_seeds", [record("a"), record("a-n1", **swapped) | {"networks_seed": 1}], EVALUATION)


@pytest.mark.parametrize("labels", ["random", "balanced"])
def test_samples_without_labels_stand_beside_rows_of_any_labels(labels):
    rows = [record("a", labels=labels) | {"labels": labels}, record("foreign") | {"labels": "none"}]
    check_one_protocol("table4", rows, EVALUATION)
    with pytest.raises(ArtuneError, match="neighbours"):
        check_one_protocol("table4", [rows[0], record("foreign", neighbours=5) | {"labels": "none"}], EVALUATION)


BOTH = "scores.json and features.npz"


@pytest.mark.parametrize(
    ("changed", "fields", "said", "files"),
    [
        ({"samples": 32}, {"n": 32}, "samples: 32 for a; 64 for b, c", BOTH),
        ({"seed": 9}, {"evaluation_seed": 9}, "seed: 9 for a; 0 for b, c", BOTH),
        ({"labels": "random"}, {"labels": "random"}, "labels: 'random' for a; 'balanced' for b, c", BOTH),
        ({"features": "inception"}, {}, "features: 'inception' for a; 'judge' for b, c", BOTH),
        ({"reference": "train"}, {"reference": "train"}, "reference: 'train' for a; 'heldout' for b, c", "scores.json"),
        ({"neighbours": 5}, {}, "neighbours: 5 for a; 3 for b, c", "scores.json"),
    ],
    ids=["samples", "seed", "labels", "network", "reference", "neighbours"],
)
def test_only_the_row_that_is_out_of_date_is_to_be_made_again(changed, fields, said, files):
    now = EVALUATION.model_copy(update={"samples": 64, "seed": 0, "labels": "balanced"})
    base = {"samples": 64, "seed": 0, "labels": "balanced"}
    rows = [record("a", **base | changed) | fields, *(record(run, **base) for run in "bc")]
    for row in rows[1:]:
        row |= {"evaluation_seed": 0, "labels": "balanced", "reference": now.reference}
    with pytest.raises(ArtuneError) as caught:
        check_one_protocol("table4", rows, now)
    assert f"({said}); delete {files} of a and give the same command again" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "other", "files"),
    [
        ("n", 32, BOTH),
        ("networks", {"features": "x"}, BOTH),
        ("evaluation_seed", 9, BOTH),
        ("labels", "x", BOTH),
        ("reference", "x", "scores.json"),
    ],
)
def test_fields_of_older_files_are_compared_with_the_setting_behind_them(field, other, files):
    now = {"n": EVALUATION.samples, "networks": EVALUATION.networks, "evaluation_seed": EVALUATION.seed,
           "labels": EVALUATION.labels, "reference": EVALUATION.reference}  # fmt: skip
    rows = [{"run": "a"} | now | {field: other}, {"run": "b"} | now, {"run": "c"} | now]
    with pytest.raises(ArtuneError, match=rf"{field}: .* delete {files} of a and give"):
        check_one_protocol("table4", rows, EVALUATION)


def test_all_rows_are_made_again_if_none_is_up_to_date_or_the_field_is_no_setting():
    rows = [{"run": "a", "n": 5}, {"run": "b", "n": 6}]
    with pytest.raises(ArtuneError, match=r"delete scores\.json and features\.npz of a, b and give"):
        check_one_protocol("table4", rows, EVALUATION)
    rows = [{"run": "a", "image_size": 5}, {"run": "b", "image_size": 6}]
    with pytest.raises(ArtuneError, match=r"image_size: 5 for a; 6 for b.* of a, b and give"):
        check_one_protocol("table4", rows, EVALUATION)


def test_seeds_that_carry_the_name_of_their_run_are_compared_as_well():
    with pytest.raises(ArtuneError, match="neighbours"):
        check_one_protocol("table4", [record("a"), record("a", neighbours=5)], EVALUATION)


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


def test_a_version_that_made_all_of_a_kind_is_told_in_short():
    runs = ("a", "b", "c")
    versions = {"aaaaaaa": [f"scores of {run}" for run in runs], "bbbbbbb": [f"training of {run}" for run in runs]}
    told = "made by different versions of the code (aaaaaaa: all 3 scores; bbbbbbb: all 3 trainings)"
    assert say_versions(versions) == told
    mixed = {"aaaaaaa": ["scores of a", "scores of b", "training of a"], "bbbbbbb": ["scores of c"]}
    assert "aaaaaaa: scores of a, scores of b, training of a; bbbbbbb: scores of c" in say_versions(mixed)
