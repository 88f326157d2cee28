"""Rewards, networks of the evaluation and advantages at full size on fake CUDA tensors."""

import pytest
import torch
from fake_cuda import CUDA, OnDevice, fake_cuda, on_cuda
from project import ROOT

from artune.config.registry import Registry
from artune.config.run import Network
from artune.models.encoders.build import build_network
from artune.rewards.distribution import DistributionReward
from artune.rewards.reward import build_rewards
from artune.sampling.batch import RolloutBatch
from artune.tuning.grpo import combined_advantages

IMAGENET = Registry("imagenet", root=ROOT / "config")
RUN = IMAGENET.resolve("llamagen_l-ours-maniqa")
MORE = {
    "clip_336": Network(kind="open_clip", architecture="ViT-L-14-336-quickgelu", checkpoint="clip_vit_l_14_336"),
}
NETWORKS = IMAGENET.networks | MORE


def built(name):
    return on_cuda(lambda: build_network(NETWORKS[name], RUN.data))


def batch_of(images):
    pixels = torch.zeros(images, 3, 256, 256, dtype=torch.uint8, device=CUDA)
    ids = torch.zeros(images, dtype=torch.long, device=CUDA)
    return RolloutBatch(ids, ids[:, None].expand(-1, 256), pixels)


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(("reward", "network"), [("clip", "clip"), ("hps", "hps"), ("maniqa", "maniqa")])
def test_a_reward(reward, network, autocast):
    with fake_cuda():
        terms = RUN.rewards.model_copy(update={"terms": (reward,)})
        [scorer] = build_rewards(terms, RUN.data, {network: built(network)})
        with OnDevice(), torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            scores = scorer(batch_of(4))
        assert scores.shape == (4,)
        assert scores.dtype == torch.float32
        assert scores.device.type == "cuda"


@pytest.mark.parametrize("name", ["inception", "inception_torchvision"])
def test_features(name):
    with fake_cuda():
        network = built(name)
        with OnDevice():
            found = network.outputs(batch_of(64).images)
        assert found["features"].shape == (64, 2048)
        assert {value.device.type for value in found.values()} == {"cuda"}


@pytest.mark.parametrize("name", ["dinov2", "clip_336"])
def test_embeddings_of_the_evaluation(name):
    with fake_cuda():
        network = built(name)
        with OnDevice():
            found = network.embed_images(batch_of(64).images)
        assert len(found) == 64
        assert found.device.type == "cuda"


def test_loo_fid_and_advantages():
    rewards, grpo = RUN.rewards, RUN.grpo
    with fake_cuda():
        with OnDevice(answers=[True]):  # the reference is checked once, when it is read
            mu, sigma = torch.zeros(2048), torch.eye(2048)
            reward = DistributionReward(built("inception"), rewards.loo_fid, mu, sigma, CUDA)
        with OnDevice():
            batch = batch_of(144)
            reward.start_from(batch.images)
            features = reward.features(batch)
        with OnDevice(answers=[True, 1.0]) as mode:  # are the features finite, and the FID for the metrics
            values, distance = reward(features)
        assert distance == 1.0
        assert mode.answers == []
        with OnDevice():
            reward.commit()
            scores = {"clip": values.float(), "loo_fid": values.float()}
            advantages, _ = combined_advantages(scores, rewards.weights, grpo.group_size)
        assert advantages.shape == (1, 144)
        assert advantages.device == values.device == CUDA
