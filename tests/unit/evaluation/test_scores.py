"""Scores of a run: those that each protocol adds, and their independence of the order of the samples."""

import json

import numpy as np
import pytest
import torch
from project import ROOT
from scored import OFFICIAL, Network, Spatial, draws, reference
from tiny import tiny_run

from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.evaluation.features import sample_features
from artune.evaluation.scores import ScoreFiles, evaluate, score
from artune.metrics.cmmd import cmmd
from artune.metrics.density_coverage import density_coverage
from artune.metrics.fid import feature_moments, frechet_distance
from artune.runtime.files import save_npz

MNIST = Registry("smoke", root=ROOT / "config").evaluation.model_copy(update={"inception_split": 30})
ADDED = {"sfid", "density", "coverage", "cmmd", "cmmd_se", "fd_dinov2", "fd_dinov2_se"}


def test_the_official_protocol_adds_its_judges_and_changes_nothing_else():
    official = score(draws(0), reference(1, OFFICIAL), OFFICIAL, 3)
    plain_protocol = OFFICIAL.model_copy(update={"density_neighbours": None, "cmmd": None, "dinov2": None})
    arrays = draws(0)
    del arrays["spatial"], arrays["cmmd"], arrays["dinov2"]
    plain = score(arrays, reference(1, OFFICIAL), plain_protocol, 3)
    assert set(official) - set(plain) == ADDED
    assert plain == {key: official[key] for key in plain}


def test_the_judges_are_the_metrics_of_their_names():
    arrays, real = draws(0), reference(1, OFFICIAL)
    found = score(arrays, real, OFFICIAL, 3)
    judged = f"heldout/{OFFICIAL.features}"
    tensors = {key: torch.from_numpy(value) for key, value in (arrays | real).items()}
    moments = feature_moments(tensors["spatial"])
    assert found["sfid"] == frechet_distance(*moments, tensors[f"{judged}/mu_s"], tensors[f"{judged}/sigma_s"])
    spread = density_coverage(tensors[f"{judged}/features"], tensors["features"], k=5)
    assert (found["density"], found["coverage"]) == (spread.density, spread.coverage)
    judge = cmmd(tensors[f"heldout/{OFFICIAL.cmmd}/embeddings"], tensors["cmmd"])
    assert (found["cmmd"], found["cmmd_se"]) == (judge.value, judge.standard_error)
    moments = feature_moments(tensors[f"heldout/{OFFICIAL.dinov2}/embeddings"])
    assert found["fd_dinov2"] == pytest.approx(frechet_distance(*feature_moments(tensors["dinov2"]), *moments))
    assert found["fd_dinov2_se"] > 0


def test_a_file_sorted_by_class_keeps_its_inception_score_under_the_official_protocol_only():
    arrays, real = draws(0), reference(1, OFFICIAL)
    whole = score(arrays, real, OFFICIAL.model_copy(update={"inception_split": 90}), 3)["inception_score"]
    shuffled = score(arrays, real, OFFICIAL, 3)["inception_score"]
    assert shuffled == score(arrays, real, OFFICIAL, 3)["inception_score"]
    in_order = score(arrays, real, OFFICIAL.model_copy(update={"inception_shuffle": False}), 3)["inception_score"]
    assert in_order == pytest.approx(1.0)  # every chunk holds one class
    assert whole > 1.9
    assert shuffled == pytest.approx(whole, rel=0.05)
    assert not MNIST.inception_shuffle


@pytest.mark.parametrize("judge", [Network, Spatial])
def test_spatial_features_are_kept_where_the_network_has_them(tmp_path, judge):
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 3), dtype=np.uint8)
    save_npz(tmp_path / "samples.npz", {"arr_0": images, "labels": np.arange(90) % 4})
    networks = dict.fromkeys(OFFICIAL.networks.values(), Network()) | {OFFICIAL.features: judge()}
    data = tiny_run().data
    found = sample_features(tmp_path / "samples.npz", OFFICIAL.model_copy(update={"batch": 40}), data, networks, "cpu")
    assert set(found) == {"labels", "features", "probabilities", "clip", "cmmd", "dinov2"} | (
        {"spatial"} if judge is Spatial else set()
    )
    assert np.allclose(found["features"], images.mean((1, 2)), atol=1e-4)
    if judge is Spatial:
        assert np.array_equal(found["spatial"], images[:, :2, 0, 0])


def written(tmp_path, further):
    save_npz(tmp_path / "features.npz", draws(0))
    paths = {"reference": reference(1, OFFICIAL), "imagenet_val": further}
    for name, arrays in paths.items():
        save_npz(tmp_path / f"{name}.npz", arrays)
    files = ScoreFiles(
        tmp_path / "features.npz",
        tmp_path / "reference.npz",
        tmp_path / "scores.json",
        references={"imagenet_val": tmp_path / "imagenet_val.npz"},
    )
    evaluate(tiny_run(), OFFICIAL, files, {}, {"adm_virtual": {"file": "v.npz", "sha256": "0" * 64}})
    return json.loads((tmp_path / "scores.json").read_text())


def test_every_reference_is_named_with_its_scores(tmp_path):
    found = written(tmp_path, reference(2, OFFICIAL))
    assert found["reference"] == "adm_virtual"
    assert list(found["references"]) == ["imagenet_val"]
    for key in ("fid", "fid_se", "sfid", "kid", "precision", "recall", "density", "cmmd", "fd_dinov2"):
        assert found["references"]["imagenet_val"][key] != found["scores"][key], key
    assert "inception_score" not in found["references"]["imagenet_val"]  # IS uses no reference
    assert found["files"] == {"adm_virtual": {"file": "v.npz", "sha256": "0" * 64}}


def test_a_further_reference_that_is_broken_is_one_line(tmp_path):
    broken = reference(2, OFFICIAL)
    broken[f"heldout/{OFFICIAL.features}/mu"] = np.full(6, np.nan)
    with pytest.raises(ArtuneError, match=r"imagenet_val\.npz: fid.* is not finite"):
        written(tmp_path, broken)
