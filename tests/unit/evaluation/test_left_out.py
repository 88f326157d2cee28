"""Leave-one-out values that the command ``evaluate`` keeps, and their use by a comparison."""

import numpy as np
import pytest
from project import ROOT
from scored import APART, OFFICIAL, draws, draws_apart, reference, reference_apart
from tiny import tiny_run

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.evaluation import compare as comparing
from artune.evaluation import left_out
from artune.evaluation.evaluate import ScoreFiles, evaluate
from artune.evaluation.left_out import kept, kept_in, scores_left_out
from artune.evaluation.scores import score
from artune.runtime.files import load_npz, save_npz

EXACT = OFFICIAL.model_copy(update={"precision_recall": "exact"})
PAIR = ("llamagen_l-argrpo", "llamagen_l-ours")


@pytest.mark.parametrize("shuffle", [True, False])
def test_they_come_with_the_scores_which_stay_the_same(shuffle):
    protocol, found = EXACT.model_copy(update={"inception_shuffle": shuffle}), {}
    arrays, real = draws(0), reference(1, OFFICIAL)
    with_values = score(arrays, real, protocol, 3, None, found)
    assert with_values == score(arrays, real, protocol, 3)
    expected = scores_left_out(arrays, real, protocol, 3)
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].value == values.value == with_values[name], name
        assert np.array_equal(found[name].left_out, values.left_out), name


@pytest.fixture
def world(tmp_path):
    """Two evaluated runs and their registry."""
    registry = Registry("smoke", root=ROOT / "config")
    registry.evaluation = EXACT
    registry.data = tiny_run().data
    save_npz(tmp_path / "reference.npz", reference(1, OFFICIAL))
    for seed, name in enumerate(PAIR):
        arrays = draws(seed) | {"labels": draws(0)["labels"]}
        save_npz(tmp_path / name / "features.npz", arrays)
        files = ScoreFiles(
            tmp_path / name / "features.npz", tmp_path / "reference.npz", tmp_path / name / "scores.json"
        )
        evaluate(tiny_run(), EXACT, files, {})
    return tmp_path, registry


def compared(world):
    folder, registry = world
    return comparing.compare(registry, [PAIR], folder, folder / "reference.npz")


def count(monkeypatch):
    """The list that gets an entry whenever a comparison computes the values of a run."""
    calls = []

    def counted(*arguments):
        calls.append(1)
        return scores_left_out(*arguments)

    monkeypatch.setattr(comparing, "scores_left_out", counted)
    return calls


def test_a_comparison_takes_the_kept_values_and_computes_the_same_without_them(world, monkeypatch):
    folder, _ = world
    calls = count(monkeypatch)
    from_kept = compared(world)
    assert not calls
    for name in PAIR:
        kept_in(folder / name / "scores.json").unlink()
    assert from_kept.equals(compared(world))
    assert len(calls) == len(PAIR)


@pytest.mark.parametrize("change", ["features", "reference", "protocol", "version", "damage", "cut", "other"])
def test_values_of_other_files_or_settings_and_damaged_ones_are_computed_again(world, monkeypatch, change):
    folder, registry = world
    path = folder / PAIR[1] / "features.npz"
    values = kept_in(folder / PAIR[1] / "scores.json")
    if change == "features":
        arrays = load_npz(path)
        save_npz(path, arrays | {"features": arrays["features"] + 1.0})
    elif change == "reference":
        save_npz(folder / "reference.npz", reference(2, OFFICIAL))
    elif change == "protocol":
        registry.evaluation = EXACT.model_copy(update={"neighbours": 2})
    elif change == "version":
        monkeypatch.setattr(left_out, "RESULTS_VERSION", left_out.RESULTS_VERSION + 1)
    elif change == "damage":
        values.write_bytes(b"not an archive")
    elif change == "cut":
        values.write_bytes(values.read_bytes()[:-100])
    else:
        save_npz(values, {"value": np.zeros(3)})
    calls = count(monkeypatch)
    found = compared(world)
    assert len(calls) == (len(PAIR) if change in ("reference", "protocol", "version") else 1)
    for name in PAIR:
        kept_in(folder / name / "scores.json").unlink()
    assert found.equals(compared(world))


def test_where_precision_is_not_exact_none_are_kept(tmp_path):
    save_npz(tmp_path / "features.npz", draws_apart(0))
    save_npz(tmp_path / "reference.npz", reference_apart(1))
    files = ScoreFiles(tmp_path / "features.npz", tmp_path / "reference.npz", tmp_path / "scores.json")
    assert APART.precision_recall == "adm_half"
    evaluate(tiny_run(), APART, files, {})
    assert not kept_in(files.output).exists()
    assert kept(files.output, files.features, files.reference, APART) == {}


def test_the_features_are_read_and_checked_even_where_values_are_kept(world):
    folder, _ = world
    (folder / PAIR[0] / "features.npz").unlink()
    with pytest.raises(ArtuneError, match=r"features\.npz: no such file"):
        compared(world)
