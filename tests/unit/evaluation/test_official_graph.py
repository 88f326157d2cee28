"""The command evaluate_official with a stand-in for TensorFlow's graph and distances, and TensorFlow's distances.

TensorFlow itself runs in the last tests and in those of the imagenet world, if it is available.
"""

import json
import os
import subprocess

import numpy as np
import pytest
from project import OFFICIAL, ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.evaluation import official_graph
from artune.evaluation.official_graph import evaluate_official
from artune.evaluation.official_scores import NAMES, five_numbers, half_distances, precision_recall
from artune.runtime.files import save_npz, write_json

PROTOCOL = Registry("imagenet", root=ROOT / "config").evaluation.model_copy(update={"inception_split": 10})
N = 30


class Graph:
    """A stand-in for the graph, with outputs computed from the pixels."""

    def __init__(self, path):
        assert path.name == "classify_image_graph_def.pb"

    def describe(self, batches):
        pixels = np.concatenate(list(batches)).reshape(-1, 12).astype(np.float32) / 64
        weights = np.exp(pixels[:, :5])
        return {
            "features": pixels,
            "spatial": pixels[:, 3:8],
            "probabilities": weights / weights.sum(axis=1, keepdims=True),
        }


class OtherDistances:
    """A stand-in for TensorFlow's distances: those between the two sets are far larger than in the port's model."""

    def __call__(self, u, v):
        return half_distances(u, v) + (1000 if len(u) != len(v) else 0)


@pytest.fixture
def files(tmp_path):
    """A folder with samples, their features and scores by the port, ADM's file and a graph; the scores by the graph."""
    draw = np.random.default_rng(0)
    images, real = (
        draw.integers(0, 256, (N, 2, 2, 3), dtype=np.uint8),
        draw.integers(0, 256, (20, 2, 2, 3), dtype=np.uint8),
    )
    save_npz(tmp_path / "samples.npz", {"arr_0": images, "labels": np.zeros(N, int)})
    graph = tmp_path / "classify_image_graph_def.pb"
    graph.write_bytes(b"graph")
    ours, theirs = Graph(graph).describe([images]), Graph(graph).describe([real])
    moments = {}
    for suffix, name in (("", "features"), ("_s", "spatial")):
        moments |= {f"mu{suffix}": theirs[name].mean(0), f"sigma{suffix}": np.cov(theirs[name], rowvar=False)}
    save_npz(tmp_path / "v.npz", {"arr_0": real, **moments})
    save_npz(tmp_path / "features.npz", {name: 1.001 * value for name, value in ours.items()})
    scores = dict.fromkeys(NAMES, 2.0) | {"precision_adm_half": 0.5, "recall_adm_half": 0.25}
    write_json(tmp_path / "scores.json", {"n": N, "protocol": "n 30, not 50000", "scores": scores})
    order = np.random.RandomState(PROTOCOL.seed).permutation(N)
    numbers = five_numbers(ours, theirs | moments, inception_split=10, order=order, distances=OtherDistances())
    return tmp_path, numbers, precision_recall(theirs["features"], ours["features"], k=3, block=10_000)


def run(folder):
    names = ("samples.npz", "features.npz", "scores.json", "v.npz", "classify_image_graph_def.pb")
    line = evaluate_official("a-run", *(folder / name for name in names), PROTOCOL, folder / "official.json")
    return line, json.loads((folder / "official.json").read_text())


def test_both_sets_of_numbers_and_their_differences_are_written(files, monkeypatch):
    folder, expected, model = files
    monkeypatch.setattr(official_graph, "Graph", Graph)
    monkeypatch.setattr(official_graph, "HalfDistances", OtherDistances)
    monkeypatch.setattr(official_graph.importlib.metadata, "version", lambda name: "1")
    line, found = run(folder)
    assert found["graph"] == pytest.approx(expected)
    assert (found["rounding_model"]["precision"], found["rounding_model"]["recall"]) == model
    assert model != (expected["precision"], expected["recall"])  # the distances decide
    assert found["port"] == {"fid": 2.0, "sfid": 2.0, "inception_score": 2.0, "precision": 0.5, "recall": 0.25}
    assert found["difference"]["recall"] == pytest.approx(0.25 - expected["recall"])
    assert found["deviation"] == pytest.approx(dict.fromkeys(("features", "spatial", "probabilities"), 1e-3), rel=1e-3)
    assert (found["run"], found["n"], found["protocol"]) == ("a-run", N, "n 30, not 50000")
    assert "by the graph, 2.000 by the port" in line


def test_files_of_different_runs_are_refused(files, monkeypatch):
    folder, *_ = files
    monkeypatch.setattr(official_graph, "Graph", Graph)
    write_json(folder / "scores.json", {"n": 7, "scores": {}})
    with pytest.raises(ArtuneError, match=r"30 images, but .*scores.json has 7; sample and score a-run again"):
        run(folder)


def test_without_tensorflow_one_line_says_how_to_get_it(files, monkeypatch, capsys):
    folder, *_ = files
    monkeypatch.chdir(ROOT)
    paths = {"samples": "samples.npz", "features": "features.npz", "scores": "scores.json", "data": "v.npz"}
    options = [part for name, path in paths.items() for part in (f"--{name}", str(folder / path))]
    options += ["--graph", str(folder / "classify_image_graph_def.pb"), "--output", str(folder / "official.json")]
    assert main(["evaluate_official", "a-run", *options, "--scale", "imagenet"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "`make official`" in lines[0]


BY_TENSORFLOW = """
import sys
import numpy as np
from artune.evaluation.official_graph import HalfDistances
given = np.load(sys.argv[1])
distances = HalfDistances()
np.savez(sys.argv[2], **{name: distances(given[name], given["other"]) for name in given.files})
"""


@pytest.fixture(scope="module")
def by_tensorflow(tmp_path_factory):
    """Inception-like features and some that overflow in half precision, and TensorFlow's distances to the former."""
    folder = tmp_path_factory.mktemp("tensorflow")
    draw = np.random.default_rng(0)
    mix = draw.gamma(0.6, 0.7, (64, 2048))
    one, other = (
        (draw.gamma(1.0, 0.02, (n, 64)) @ mix + 0.5 * draw.gamma(0.5, 0.3, (n, 2048))).astype(np.float32)
        for n in (300, 200)
    )
    given = {"one": one, "other": other, "large": 50 * one[:20]}
    np.savez(folder / "given.npz", **given)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [OFFICIAL, "-c", BY_TENSORFLOW, str(folder / "given.npz"), str(folder / "found.npz")]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    with np.load(folder / "found.npz") as found:
        return given, dict(found)


@pytest.mark.skipif(OFFICIAL is None, reason="no TensorFlow; `make official` sets up .venv-official with it")
def test_tensorflows_distances_are_near_those_of_the_rounding_model(by_tensorflow):
    given, found = by_tensorflow
    model = half_distances(given["one"], given["other"])
    assert found["one"].dtype == np.float32
    assert np.array_equal(found["one"], found["one"].astype(np.float16))  # half precision
    norms = np.square(given["one"]).sum(axis=1).max()
    assert np.abs(found["one"] - model).max() <= 4 * np.spacing(np.float16(norms))
    assert (found["other"].diagonal() <= 2 * np.spacing(np.float16(norms))).all()


@pytest.mark.skipif(OFFICIAL is None, reason="no TensorFlow; `make official` sets up .venv-official with it")
def test_tensorflows_distances_that_overflow_are_made_again_in_single(by_tensorflow):
    given, found = by_tensorflow
    exact = ((given["large"][:, None].astype(float) - given["other"][None]) ** 2).sum(-1)
    np.testing.assert_allclose(found["large"], exact, rtol=1e-4)
    assert found["large"].max() > 65504  # the largest number in half precision
