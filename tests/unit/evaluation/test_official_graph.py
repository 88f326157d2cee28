"""The command evaluate_official with a stand-in for TensorFlow's graph.

The graph itself runs in the tests of the imagenet world, if it is available.
"""

import json

import numpy as np
import pytest
from project import ROOT

from artune.commands.cli import main
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.evaluation import official_graph
from artune.evaluation.official_graph import evaluate_official
from artune.evaluation.official_scores import NAMES, five_numbers
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
    return tmp_path, five_numbers(ours, theirs | moments, inception_split=10, order=order)


def run(folder):
    names = ("samples.npz", "features.npz", "scores.json", "v.npz", "classify_image_graph_def.pb")
    line = evaluate_official("a-run", *(folder / name for name in names), PROTOCOL, folder / "official.json")
    return line, json.loads((folder / "official.json").read_text())


def test_both_sets_of_numbers_and_their_differences_are_written(files, monkeypatch):
    folder, expected = files
    monkeypatch.setattr(official_graph, "Graph", Graph)
    monkeypatch.setattr(official_graph.importlib.metadata, "version", lambda name: "1")
    line, found = run(folder)
    assert found["graph"] == pytest.approx(expected)
    assert found["port"] == {"fid": 2.0, "sfid": 2.0, "inception_score": 2.0, "precision": 0.5, "recall": 0.25}
    assert found["difference"]["recall"] == pytest.approx(0.25 - expected["recall"])
    assert found["deviation"] == pytest.approx(dict.fromkeys(("features", "spatial", "probabilities"), 1e-3), rel=1e-3)
    assert (found["run"], found["n"], found["protocol"]) == ("a-run", N, "n 30, not 50000")
    assert "by the graph, 2.000 by the port" in line


def test_files_of_different_runs_are_refused(files, monkeypatch):
    folder, _ = files
    monkeypatch.setattr(official_graph, "Graph", Graph)
    write_json(folder / "scores.json", {"n": 7, "scores": {}})
    with pytest.raises(ArtuneError, match=r"30 images, but .*scores.json has 7; sample and score a-run again"):
        run(folder)


def test_without_tensorflow_one_line_says_how_to_get_it(files, monkeypatch, capsys):
    folder, _ = files
    monkeypatch.chdir(ROOT)
    paths = {"samples": "samples.npz", "features": "features.npz", "scores": "scores.json", "data": "v.npz"}
    options = [part for name, path in paths.items() for part in (f"--{name}", str(folder / path))]
    options += ["--graph", str(folder / "classify_image_graph_def.pb"), "--output", str(folder / "official.json")]
    assert main(["evaluate_official", "a-run", *options, "--scale", "imagenet"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "`make official`" in lines[0]
