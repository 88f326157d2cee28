"""The published scores of ADM's own samples. Needs the public files (about 12 GB), and an hour without a GPU."""

import os
from pathlib import Path

import pytest
import torch
from project import ROOT

from artune.config.registry import Registry
from artune.config.run import Network
from artune.evaluation.scores import score_against
from artune.inputs.references import adm_reference
from artune.metrics.inception_score import inception_score
from artune.models.encoders.build import load_network
from artune.runtime.files import npz_rows

ASSETS = Path(os.environ.get("ARTUNE_ASSETS", ROOT / "data/assets"))
REGISTRY = Registry("imagenet", root=ROOT / "config")
FILES = [ASSETS / REGISTRY.assets[key].file for key in ("adm_virtual", "adm_samples", "inception")]
ABSENT = [path.name for path in FILES if not path.exists()]
PUBLISHED = {  # value and accepted distance, which allows for the official evaluator's half precision
    "fid": (3.94256, 0.003),
    "sfid": (6.14043, 0.003),
    "inception_score": (215.837, 0.2),
    "precision": (0.8265, 0.001),
    "recall": (0.5309, 0.001),
}


def outputs_of(path, network, device, batch=128):
    """Features, spatial features and class probabilities of all images of an npz, in file order."""
    parts = []
    for rows in npz_rows(path, "arr_0", batch):
        outputs = network.outputs(torch.from_numpy(rows.copy()).permute(0, 3, 1, 2).to(device))
        parts.append({name: value.cpu() for name, value in outputs.items()})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.skipif(bool(ABSENT), reason=f"{ASSETS} lacks {', '.join(ABSENT)} (ARTUNE_ASSETS names another folder)")
def test_adms_samples_have_their_published_scores():
    virtual, samples, weights = FILES
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = load_network(
        weights, Network(kind="inception", architecture="inception-v3-compat"), REGISTRY.data, device
    )
    real = {key: torch.from_numpy(value) for key, value in adm_reference(virtual, network, device).items()}
    ours = outputs_of(samples, network, device)
    protocol = REGISTRY.evaluation.model_copy(update={"cmmd": None, "dinov2": None, "density_neighbours": None})
    scores = score_against(ours, real, protocol)
    scores["inception_score"], _ = inception_score(ours["probabilities"], protocol.inception_split)
    assert protocol.precision_recall == "adm_half"
    assert protocol.inception_split == 5000
    for name, (value, distance) in PUBLISHED.items():
        assert scores[name] == pytest.approx(value, abs=distance), name
