"""Features that several processes compute together, one of which is far behind the others."""

import time

import numpy as np
from processes import outcomes
from tiny import tiny_run

from artune.config.registry import Registry
from artune.evaluation import features
from artune.runtime.files import save_npz

PROTOCOL = Registry("imagenet").evaluation.model_copy(update={"samples": 30, "batch": 4})


class Late:
    """An extractor of mean colours that takes process 3 ``seconds`` for its first batch."""

    seconds = 0.0

    def __init__(self, *rest):
        self.left = [Late.seconds]

    def __call__(self, images, ids, before=False):
        time.sleep(self.left.pop() if self.left else 0.0)
        return {"features": images.float().mean((1, 2)), "probabilities": ids.float()[:, None]}


def extracted(world, samples, late):
    Late.seconds = late if world.rank == 3 else 0.0
    features.Extractor = Late  # this process ends with the test
    return features.sample_features(samples, PROTOCOL, tiny_run().data, {}, "cpu", world)


def test_a_process_that_is_several_timeouts_late_loses_nothing(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (30, 4, 4, 3), dtype=np.uint8)
    save_npz(tmp_path / "samples.npz", {"arr_0": images, "labels": np.arange(30) % 4})
    for found, trace in outcomes(4, extracted, tmp_path / "samples.npz", 4.0, timeout=1):
        assert trace is None, trace
        assert np.allclose(found["features"], images.mean((1, 2)), atol=1e-4)
        assert found["probabilities"][:, 0].tolist() == (np.arange(30) % 4).tolist()
