"""Metrics and the LOO-FID reward against arrays made by the reference implementations (tests/parity/data/metrics)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from artune.metrics.fid import feature_moments, frechet_distance, jackknife_fid
from artune.metrics.inception_score import inception_score
from artune.metrics.precision_recall import neighbour_radii, precision_recall
from artune.rewards.loo_fid import loo_fid_reward
from artune.rewards.moments import ReferenceMoments

DATA = Path(__file__).parent / "data" / "metrics"


def load(name: str) -> dict[str, torch.Tensor]:
    with np.load(DATA / f"{name}.npz") as arrays:
        return {
            key: torch.from_numpy(np.asarray(value)) if value.dtype.kind != "U" else str(value)
            for key, value in arrays.items()
        }


@pytest.mark.parametrize("case", ["plain", "both_singular"])
def test_fid_equals_the_official_evaluator(case):
    data = load("frechet")
    value = frechet_distance(*feature_moments(data[f"{case}/ref"]), *feature_moments(data[f"{case}/samples"]))
    for name in ("adm", "pytorch_fid", "torch_fidelity", "float64_exact"):
        assert value == pytest.approx(float(data[f"{case}/{name}"]), abs=1e-6), name


@pytest.mark.parametrize("split", [5000, 500, 130])
def test_inception_score_equals_the_official_evaluator(split):
    data = load("inception_score")
    mean, _ = inception_score(data["probs/p"], split)
    assert mean == pytest.approx(float(data[f"probs/adm_split{split}"]), rel=1e-5)


def test_inception_score_of_class_sorted_samples_collapses_as_officially():
    data = load("inception_score")
    mean, _ = inception_score(data["probs/p"][data["probs/order_by_argmax"]], 130)
    assert mean == pytest.approx(float(data["probs/adm_split130_sorted"]), rel=1e-5)


def test_standard_deviation_of_inception_score_equals_torch_fidelity_on_the_same_chunks():
    data = load("inception_score")
    probs = torch.softmax(torch.log(data["probs/p"].double()), dim=1)
    shuffled = probs[torch.from_numpy(np.random.RandomState(2020).permutation(len(probs)))]
    mean_std = data["probs/torch_fidelity_mean_std"].tolist()
    assert inception_score(shuffled, len(probs) // 10) == pytest.approx(mean_std, rel=1e-5)


@pytest.mark.parametrize("case", ["plain", "fp16_coarse"])
def test_exact_precision_and_recall_equal_brute_force(case):
    data = load("precision_recall")
    reference, samples = data[f"{case}/ref"], data[f"{case}/samples"]
    got = precision_recall(reference, samples, block=int(data[f"{case}/block"]))
    assert got.precision == pytest.approx(float(data[f"{case}/exact_precision"]), abs=1 / len(samples))
    assert got.recall == pytest.approx(float(data[f"{case}/exact_recall"]), abs=1 / len(reference))
    assert got.precision == pytest.approx(float(data[f"{case}/torch_fidelity_precision"]), abs=1 / len(samples))
    assert got.recall == pytest.approx(float(data[f"{case}/torch_fidelity_recall"]), abs=1 / len(reference))
    torch.testing.assert_close(neighbour_radii(samples, 3), data[f"{case}/exact_sample_radii"])
    torch.testing.assert_close(neighbour_radii(reference, 3), data[f"{case}/exact_ref_radii"])


@pytest.mark.parametrize("case", ["plain", "fp16_coarse"])
def test_half_precision_and_recall_follow_the_official_evaluator(case):
    data = load("precision_recall")
    reference, samples = data[f"{case}/ref"], data[f"{case}/samples"]
    got = precision_recall(reference, samples, precision="adm_half", block=int(data[f"{case}/block"]))
    for name, value in (("precision", got.precision), ("recall", got.recall)):
        assert value == pytest.approx(float(data[f"{case}/half_{name}"]), abs=0.003)
        assert value == pytest.approx(float(data[f"{case}/adm_{name}"]), abs=0.005)
    for name, features in (("ref", reference), ("sample", samples)):
        radii = neighbour_radii(features, 3, precision="adm_half")
        rounded_otherwise = radii != data[f"{case}/half_{name}_radii"]  # differences from the order of float32 sums
        assert rounded_otherwise.double().mean() < 1e-3
        official = data[f"{case}/adm_{name}_radii"]  # radii from sums that TensorFlow accumulates in half precision
        assert (radii - official).abs().max() < 0.015 * official.mean()


@pytest.mark.parametrize(
    ("kind", "case", "steps"),
    [
        ("diag", "batch", 1),
        ("diag", "ema_first", 4),
        ("diag", "tiny_variance", 3),
        ("full", "batch", 1),
        ("full", "singular_ema", 2),
    ],
)
def test_loo_fid_equals_brute_force_over_several_steps(kind, case, steps):
    data = {
        key.removeprefix(f"{case}/"): value for key, value in load(f"loofid_{kind}").items() if key.startswith(case)
    }
    spread = {"deviation": data["sd_r"]} if kind == "diag" else {"covariance": data["S_r"]}
    reference = ReferenceMoments.from_moments(data["mu_r"], **spread, compare=kind)
    alpha, epsilon = data["alpha_eps"].tolist()
    tolerance = 1e-7 if kind == "diag" else 1e-6
    state = None
    for step in range(steps):
        start = {"first": "first_batch"}[data.get("init", "first")]
        result = loo_fid_reward(data[f"x{step}"], state, reference, alpha=alpha, epsilon=epsilon, start=start)
        state = result.state
        expected = data[f"reward{step}"]
        assert (result.rewards - expected).abs().max() <= tolerance * expected.abs().max()
        assert result.fid == pytest.approx(float(data[f"fid{step}"]), rel=1e-9)
        mean = data[f"mu{step + 1}"]
        covariance = data[f"m2{step + 1}"] - mean.square() if kind == "diag" else data[f"S{step + 1}"]
        torch.testing.assert_close(state.mean, mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(state.covariance, covariance, rtol=1e-9, atol=1e-12)


def test_jackknife_equals_brute_force():
    data = load("jackknife")
    got = jackknife_fid(data["60x8/samples"], data["60x8/mu_r"], data["60x8/S_r"])
    assert got.value == pytest.approx(float(data["60x8/fid"]), rel=1e-6)
    assert got.standard_error == pytest.approx(float(data["60x8/se"]), rel=1e-6)
    assert got.bias_corrected == pytest.approx(float(data["60x8/debiased"]), rel=1e-6)


def test_distances_without_one_sample_equal_brute_force():
    data = {key.removeprefix("60x8/"): value for key, value in load("jackknife").items()}
    for left_out, expected in enumerate(data["loo_fids"].tolist()):
        others = torch.cat([data["samples"][:left_out], data["samples"][left_out + 1 :]])
        assert frechet_distance(data["mu_r"], data["S_r"], *feature_moments(others)) == pytest.approx(
            expected, rel=1e-6
        )
