"""``artune score`` beside torch-fidelity on the same images, and beside recorded numbers of the reference programs."""

import numpy as np
import pytest
import torch
from parity_arrays import DATA
from project import ROOT
from scorer import Call, as_folder, as_npz, pixels

from artune.models.encoders.inception import Inception
from artune.models.weights.checkpoints import save_module

METRICS = DATA / "metrics"
N = 12  # images of 64 pixels, which Inception resizes


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("case", ["plain", "both_singular"])
@pytest.mark.parametrize("layout", ["features", "moments"])
def test_fid_of_features_equals_all_reference_programs(capsys, tmp_path, case, layout):
    with np.load(METRICS / "frechet.npz") as arrays:
        real, ours = arrays[f"{case}/ref"], arrays[f"{case}/samples"]
        expected = {name: float(arrays[f"{case}/{name}"]) for name in ("adm", "pytorch_fid", "torch_fidelity")}
    np.savez(tmp_path / "a.npz", features=ours)
    moments = {"mu": real.mean(axis=0), "sigma": np.cov(real, rowvar=False)}  # as pytorch-fid saves them
    np.savez(tmp_path / "b.npz", **(moments if layout == "moments" else {"features": real}))
    done = Call(capsys, tmp_path / "a.npz", tmp_path / "b.npz")
    assert done.status == 0, done.err
    for name, value in expected.items():
        assert done.scores["fid"] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("case", ["plain", "fp16_coarse"])
def test_precision_and_recall_of_features_equal_the_reference_programs(capsys, tmp_path, case):
    with np.load(METRICS / "precision_recall.npz") as arrays:
        data = {key.removeprefix(f"{case}/"): arrays[key] for key in arrays.files if key.startswith(case)}
    np.savez(tmp_path / "a.npz", features=data["samples"])
    np.savez(tmp_path / "b.npz", features=data["ref"])
    scores = Call(capsys, tmp_path / "a.npz", tmp_path / "b.npz").scores
    for name, count in (("precision", len(data["samples"])), ("recall", len(data["ref"]))):
        for kind in ("exact", "torch_fidelity"):
            assert scores[f"{name}_exact"] == pytest.approx(float(data[f"{kind}_{name}"]), abs=1 / count)
        assert scores[f"{name}_adm_half"] == pytest.approx(float(data[f"half_{name}"]), abs=0.003)
        assert scores[f"{name}_adm_half"] == pytest.approx(float(data[f"adm_{name}"]), abs=0.005)


@pytest.mark.parametrize("split", [5000, 500])
def test_the_inception_score_equals_the_official_evaluator(capsys, tmp_path, split):
    with np.load(METRICS / "inception_score.npz") as arrays:
        probabilities, expected = arrays["probs/p"], float(arrays[f"probs/adm_split{split}"])
    probabilities = probabilities[: len(probabilities) if split == 5000 else None]
    features = np.random.default_rng(0).normal(size=(len(probabilities), 4))
    np.savez(tmp_path / "a.npz", features=features, probabilities=probabilities)
    np.savez(tmp_path / "b.npz", features=features + 1)
    if split == 5000:  # one chunk, so that the shuffle of the scale does not matter
        scores = Call(capsys, tmp_path / "a.npz", tmp_path / "b.npz", scale="imagenet").scores
        assert scores["inception_score"] == pytest.approx(expected, rel=1e-5)
    else:
        assert len(probabilities) > split


@pytest.fixture(scope="module")
def inception(tmp_path_factory):
    """An Inception with random weights: in torch-fidelity's file, and in the file of the rule ``network``."""
    folder = tmp_path_factory.mktemp("inception")
    torch.manual_seed(0)
    network = Inception().eval()
    torch.save(network.state_dict(), folder / "weights.pth")
    save_module(folder / "inception.safetensors", network)
    return folder


def test_scores_of_images_equal_torch_fidelitys(capsys, tmp_path, inception):
    calculate_metrics = pytest.importorskip("torch_fidelity").calculate_metrics
    ours, real = pixels(1, n=N, side=64), pixels(3, n=N, side=64)
    samples, reference = as_folder(tmp_path / "a", ours), as_folder(tmp_path / "b", real)
    found = calculate_metrics(
        input1=str(samples),
        input2=str(reference),
        cuda=False,
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        isc_splits=1,
        kid_subsets=1,
        kid_subset_size=N,
        feature_extractor="inception-v3-compat",
        save_cpu_ram=True,
        feature_extractor_weights_path=str(inception / "weights.pth"),
        cache=False,
        verbose=False,
    )
    by_folder = Call(capsys, samples, reference, networks=inception, scale="imagenet")
    assert by_folder.status == 0, by_folder.err
    scores = by_folder.scores
    assert scores["inception_score"] == pytest.approx(found["inception_score_mean"], rel=1e-5)
    assert scores["kid"] == pytest.approx(found["kernel_inception_distance_mean"], rel=1e-4)
    assert scores["precision_exact"] == pytest.approx(found["precision"], abs=1 / N)
    assert scores["recall_exact"] == pytest.approx(found["recall"], abs=1 / N)
    # 12 images of 2,048 features: theirs adds the roots of 2,000 eigenvalues that are rounding errors
    assert scores["fid"] == pytest.approx(found["frechet_inception_distance"], rel=1e-4)
    assert "of at most 11, so FID is far too high" in by_folder.out
    by_npz = Call(
        capsys,
        as_npz(tmp_path / "a.npz", ours),
        as_npz(tmp_path / "b.npz", real),
        networks=inception,
        scale="imagenet",
    )
    assert by_npz.scores == pytest.approx(scores, rel=1e-9)
    assert {"sfid", "density", "coverage"} <= scores.keys()


def test_moments_and_fid_of_pytorch_fid_are_taken_as_they_are(capsys, tmp_path):
    theirs = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid is not installed")
    draw = np.random.default_rng(0)
    real, ours = draw.normal(size=(300, 32)), draw.normal(0.3, 1.1, size=(200, 32))
    mu, sigma = real.mean(axis=0), np.cov(real, rowvar=False)
    np.savez_compressed(tmp_path / "b.npz", mu=mu, sigma=sigma)
    np.savez(tmp_path / "a.npz", features=ours)
    expected = theirs.calculate_frechet_distance(ours.mean(axis=0), np.cov(ours, rowvar=False), mu, sigma)
    assert Call(capsys, tmp_path / "a.npz", tmp_path / "b.npz").scores["fid"] == pytest.approx(expected, abs=1e-6)
