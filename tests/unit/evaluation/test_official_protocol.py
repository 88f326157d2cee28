"""Five scores of images from the project's functions, against a literal implementation of ADM's protocol."""

import numpy as np
import pytest
import scipy.linalg
import torch
from project import ROOT
from tiny import tiny_run

from artune.config.registry import Registry
from artune.evaluation.features import sample_features
from artune.evaluation.official_scores import five_numbers, half_distances
from artune.evaluation.official_scores import precision_recall as five_precision_recall
from artune.evaluation.protocol import OFFICIAL, protocol
from artune.evaluation.scores import score
from artune.inputs.references import adm_reference
from artune.metrics.precision_recall import precision_recall
from artune.runtime.files import save_npz

PROTOCOL = Registry("imagenet", root=ROOT / "config").evaluation.model_copy(
    update={"samples": 130, "inception_split": 40, "batch": 48, "cmmd": None, "dinov2": None}
)
CPU = torch.device("cpu")
FIVE = ("fid", "sfid", "inception_score", "precision", "recall")


class Graph:
    """A stand-in for Inception that NumPy can reproduce: colours on a grid, and class probabilities from them."""

    def outputs(self, images):
        found = literal_features(images.permute(0, 2, 3, 1).numpy())
        return {name: torch.from_numpy(value) for name, value in found.items()}

    def features(self, images):
        return self.outputs(images)["features"]

    def embed_images(self, images):
        return torch.nn.functional.normalize(self.features(images), dim=1)

    def embed_texts(self, texts):
        return torch.nn.functional.normalize(torch.ones(len(texts), 12), dim=1)


def literal_features(pixels):
    """uint8 [n, 8, 8, 3] -> pool [n, 12], spatial [n, 2 x 2 x 7 in H, W, C order], probabilities [n, 1008]."""
    x = pixels.astype(np.float32) / 32
    pool = np.stack([x[:, r::2, c::2].mean(axis=(1, 2)) for r in range(2) for c in range(2)], axis=1).reshape(
        len(x), 12
    )
    # Nine channels, of which the spatial features keep the first seven.
    channels = np.stack([np.maximum(x[..., c % 3] - c, 0) for c in range(9)], axis=-1)
    spatial = channels[:, ::4, ::4, :7].reshape(len(x), -1)
    weights = np.random.default_rng(7).normal(size=(12, 1008)).astype(np.float32) / 3
    logits = pool @ weights  # without a bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return {
        "features": pool,
        "spatial": spatial,
        "probabilities": exponentials / exponentials.sum(axis=1, keepdims=True),
    }


def pictures(seed, n, gain):
    draw = np.random.default_rng(seed)
    return np.clip(gain * draw.integers(0, 200, (n, 8, 8, 3)) + draw.integers(0, 40, (n, 1, 1, 3)), 0, 255).astype(
        np.uint8
    )


def literal_distance(mu1, sigma1, mu2, sigma2):
    root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    return np.sum((mu1 - mu2) ** 2) + np.trace(sigma1) + np.trace(sigma2) - 2 * np.trace(root).real


def squared(u, v):
    """Squared distance of two features in half precision, (|u|^2 - 2 u.v) + |v|^2, with sums in single precision."""
    half, single = np.float16, np.float32
    norms = [half(sum(single(half(a) * half(a)) for a in w)) for w in (u, v)]
    product = half(np.dot(u.astype(half).astype(single), v.astype(half).astype(single)))
    return max(half(half(norms[0] - half(2) * product) + norms[1]), half(0))


def literal_radii(features, k=3):
    return np.array([sorted(squared(u, v) for v in features)[k] for u in features])


def literal_five(real, moments, fake, order, split):
    """The five scores by the specification and ADM's evaluator.

    Args:
        real: features [n, D] of the reference images.
        moments: mean and covariance of the pooled (mu, sigma) and the spatial features (mu_s, sigma_s) as stored.
        fake: outputs of :func:`literal_features` for the samples.
        order: permutation of the samples for the Inception score.
        split: samples per chunk of the Inception score.
    """
    mean, covariance = fake["features"].mean(axis=0), np.cov(fake["features"], rowvar=False)
    spatial_mean, spatial_covariance = fake["spatial"].mean(axis=0), np.cov(fake["spatial"], rowvar=False)
    shuffled, scores = fake["probabilities"][order], []
    for begin in range(0, len(shuffled), split):
        part = shuffled[begin : begin + split]
        kl = part * (np.log(part) - np.log(part.mean(axis=0)[None]))
        scores.append(np.exp(kl.sum(axis=1).mean()))
    near = np.array([[squared(u, v) for v in fake["features"]] for u in real])
    return {
        "fid": literal_distance(mean, covariance, moments["mu"], moments["sigma"]),
        "sfid": literal_distance(spatial_mean, spatial_covariance, moments["mu_s"], moments["sigma_s"]),
        "inception_score": np.mean(scores),
        "precision": (near <= literal_radii(real)[:, None]).any(axis=0).mean(),
        "recall": (near <= literal_radii(fake["features"])[None]).any(axis=1).mean(),
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with an ADM reference file as released and the samples of a run as ``sample`` writes them."""
    folder = tmp_path_factory.mktemp("official")
    real, training, fake = pictures(0, 110, 1.0), literal_features(pictures(1, 400, 1.0)), pictures(2, 130, 1.05)
    moments = {}
    for suffix, name in (("", "features"), ("_s", "spatial")):
        moments |= {f"mu{suffix}": training[name].mean(0), f"sigma{suffix}": np.cov(training[name], rowvar=False)}
    np.savez(folder / "VIRTUAL.npz", arr_0=real, **moments)
    save_npz(folder / "samples.npz", {"arr_0": fake, "labels": np.arange(130) % 4})
    return folder, real, moments, fake


@pytest.fixture(scope="module")
def arrays(world):
    folder, *_ = world
    networks = dict.fromkeys(PROTOCOL.networks.values(), Graph())
    data = tiny_run().data
    return (
        sample_features(folder / "samples.npz", PROTOCOL, data, networks, CPU),
        adm_reference(folder / "VIRTUAL.npz", Graph(), CPU, batch=50),
    )


def test_images_to_five_numbers_equals_the_literal_protocol(world, arrays):
    _, real, moments, fake = world
    order = np.random.RandomState(PROTOCOL.seed).permutation(len(fake))
    expected = literal_five(literal_features(real)["features"], moments, literal_features(fake), order, 40)
    found = score(*arrays, PROTOCOL, classes=4)
    for name in FIVE:
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    assert 0.2 < expected["precision"] < 1
    assert 0.2 < expected["recall"] < 1
    assert found["precision"] == found["precision_adm_half"]


def test_the_numbers_of_the_official_environment_are_the_same(world, arrays):
    features, reference = arrays
    _, _, moments, fake = world
    order = np.random.RandomState(PROTOCOL.seed).permutation(len(fake))
    real = {"features": reference["heldout/inception/features"], **moments}
    ours = score(features, reference, PROTOCOL, classes=4)
    for block in (7, 10_000):
        found = five_numbers(features, real, inception_split=40, order=order, block=block)
        assert found == pytest.approx({name: ours[name] for name in FIVE}, rel=1e-6)


def test_half_distances_that_overflow_are_made_again_in_single():
    u = 300 * np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = ((u[:, None] - u[None]) ** 2).sum(-1)
    np.testing.assert_allclose(half_distances(u, u), expected, rtol=1e-4, atol=1)


def test_a_row_is_official_only_under_the_official_protocol():
    run = tiny_run(data={"source": "imagenet", "image_size": 256})
    files = {"adm_virtual": {"file": "v.npz", "sha256": "0" * 64}}
    official = PROTOCOL.model_copy(update={"inception_split": 5000})
    assert protocol(run, official, 50_000, files) == "official"
    assert protocol(run, official, 10_000, files) == "n 10000, not 50000"
    changes = {"precision_recall": "exact", "reference": "imagenet_val", "neighbours": 5, "classifier": "judge"}
    for name, value in changes.items():
        changed = official.model_copy(update={name: value})
        assert protocol(run, changed, 50_000, files) == f"{name} {value}, not {OFFICIAL[name]}"
    unknown = {"inception": {"file": "w.pth", "sha256": None}}
    assert protocol(run, official, 50_000, unknown) == "digest of inception unknown"
    assert protocol(tiny_run(), official, 50_000, files) == "smoke scale"


def test_half_precision_is_rounded_in_the_official_order():
    """Where distances are coarse, exchanging u and v changes the value of (|u|^2 - 2 u.v) + |v|^2."""
    draw = np.random.default_rng(5)
    reference, samples = (draw.normal(8, 0.5, (400, 256)).astype(np.float32) for _ in range(2))
    expected = five_precision_recall(reference, samples, k=3, block=10_000)
    found = precision_recall(torch.from_numpy(reference), torch.from_numpy(samples), precision="adm_half")
    exchanged = five_precision_recall(samples, reference, k=3, block=10_000)[::-1]
    assert (found.precision, found.recall) == expected != exchanged
