"""Samples from other programs and data sets in other layouts: what is certain is used, the rest is refused in one line."""

import numpy as np
import pytest
import torch
from project import ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.models.encoders.build import build_network
from artune.models.weights.checkpoints import save_module
from artune.runtime.files import load_npz, save_npz

REGISTRY = Registry("smoke", root=ROOT / "config")
N, CLASSES = REGISTRY.evaluation.samples, REGISTRY.data.classes
TRUE = np.arange(N) % CLASSES


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The frozen networks of the smoke scale with random weights."""
    folder = tmp_path_factory.mktemp("networks")
    torch.manual_seed(0)
    for name in set(REGISTRY.evaluation.networks.values()):
        save_module(folder / f"{name}.safetensors", build_network(REGISTRY.networks[name], REGISTRY.data))
    return folder


@pytest.fixture
def features(networks, tmp_path, monkeypatch, capsys):
    """A function that runs `artune features` on samples with other arrays; returns status, arrays and last line."""
    monkeypatch.chdir(ROOT)
    side = REGISTRY.data.image_size
    images = np.random.default_rng(0).integers(0, 256, (N, side, side, 3), dtype=np.uint8)

    def run(stored):
        output = tmp_path / "features.npz"
        output.unlink(missing_ok=True)
        save_npz(tmp_path / "foreign.npz", {"arr_0": images} | stored)
        words = ["features", "--samples", tmp_path / "foreign.npz", "--networks", networks, "--output", output]
        status = main([*map(str, words), "--scale", "smoke", "--device", "cpu", "--threads", "1"])
        text = capsys.readouterr().err
        assert "Traceback" not in text
        return status, load_npz(output) if output.exists() else {}, text.splitlines()[-1]

    return run


CONVERTED = {
    "as uint8": {"labels": TRUE.astype(np.uint8)},
    "as floats that are whole": {"labels": TRUE.astype(np.float32)},
    "as a column [n, 1]": {"labels": TRUE[:, None]},
    "one-hot": {"labels": np.eye(CLASSES)[TRUE]},
    "under the name `arr_1` (ADM's sampler)": {"arr_1": TRUE},
}


@pytest.mark.parametrize("kind", CONVERTED)
def test_labels_of_another_form(features, kind, fault):
    """Samples from another program hold their labels in another form"""
    _, expected, _ = features({"labels": TRUE})
    status, found, _ = features(CONVERTED[kind])
    assert status == 0
    assert set(found) == set(expected)
    assert all(np.array_equal(found[key], expected[key]) for key in expected)
    fault.fault = f"Samples from another program hold their labels {kind}"
    fault.done = f"`artune features` on {N} samples whose labels are stored {kind}"
    fault.happened = "the labels were converted; every feature and every cosine with a prompt is that of int64 labels"
    fault.lost = "nothing"


REFUSED = {
    "count from 1": {"labels": TRUE + 1},
    "hold -1": {"labels": np.where(TRUE == 3, -1, TRUE)},
    "are fewer than the images": {"labels": TRUE[:-1]},
    "are fractions": {"labels": TRUE + 0.5},
    "are text": {"labels": TRUE.astype(str)},
    "are beyond 64 bits": {"labels": np.where(TRUE == 3, 2**64 - 1, TRUE.astype(np.uint64))},
}


@pytest.mark.parametrize("kind", REFUSED)
def test_labels_of_no_certain_meaning(features, kind, fault):
    """Samples from another program have labels that cannot be trusted"""
    status, found, line = features(REFUSED[kind])
    assert status == 2
    assert found == {}
    assert "foreign.npz: labels: " in line
    fault.fault = f"The labels of samples from another program {kind}"
    fault.done = f"`artune features` on {N} samples whose labels {kind}"
    fault.happened = f"before anything is computed: `error: foreign.npz: {line.split('foreign.npz: ')[1]}`"
    fault.lost = "nothing; no score is made with wrong classes"


def test_no_labels(features, fault):
    """Samples from another program have no labels"""
    _, expected, _ = features({"labels": TRUE})
    status, found, line = features({})
    assert status == 0
    assert set(expected) - set(found) == {"labels", "clip", "reward_clip"}
    assert all(np.array_equal(found[key], expected[key]) for key in found)
    assert "has no labels, so there will be no accuracy and no CLIPScore" in line
    fault.done = f"`artune features` on {N} samples without labels"
    fault.happened = "one line says that there will be no accuracy and no CLIPScore; all other features are the same"
    fault.lost = "the two scores that need labels"
