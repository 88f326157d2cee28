"""Policies, tokenizers, networks and trainers with random weights."""

from collections.abc import Mapping

import torch
from torch import nn

from artune.bench.measure import Request
from artune.config.run import Backbone, Data, GrpoRun, Network, PolicyRun
from artune.config.sizes import decoded_size
from artune.models.encoders.build import build_network
from artune.models.policies.build import build_policy
from artune.models.policies.policy import Policy
from artune.models.tokenizers.build import build_tokenizer
from artune.models.tokenizers.vq import VQ
from artune.models.tokenizers.vqgan import VQGAN
from artune.rewards.distribution import DistributionReward
from artune.rewards.reward import build_rewards
from artune.runtime.seeds import generator_for
from artune.sampling.batch import RolloutBatch
from artune.sampling.rollout import Renderer, make_renderer
from artune.tuning.grpo_trainer import GRPOTrainer


def random_policy(backbone: Backbone, device: torch.device) -> Policy:
    """A policy with random weights, made on ``device``, and no parameter that is all zero."""
    with torch.device(device), torch.no_grad():
        policy = build_policy(backbone, torch.Generator(device).manual_seed(0))
        for parameter in policy.parameters():
            if not parameter.any():
                parameter.normal_(std=0.02, generator=torch.Generator(device).manual_seed(1))
    return policy.to(device)


def random_renderer(run: PolicyRun, device: torch.device, dtype: torch.dtype = torch.float32) -> Renderer:
    """The run's decoder with random weights."""
    side = decoded_size(run.backbone, run.tokenizer)
    return make_renderer(random_tokenizer(run, device), side, run.data.image_size, run.backbone.uint8_rule, dtype)


def random_tokenizer(run: PolicyRun, device: torch.device) -> VQ | VQGAN:
    """The run's frozen tokenizer with random weights, made on ``device``."""
    with torch.device(device):
        tokenizer = build_tokenizer(run.tokenizer, decoded_size(run.backbone, run.tokenizer))
    return tokenizer.to(device).requires_grad_(False)


def random_networks(names: Mapping[str, Network], data: Data, device: torch.device) -> dict[str, nn.Module]:
    """Frozen networks with random weights, by name, made on ``device``, because a CPU takes long to fill ViT-H."""
    with torch.device(device):
        return {
            name: build_network(settings, data).to(device).eval().requires_grad_(False)
            for name, settings in names.items()
        }


def random_batch(request: Request) -> RolloutBatch:
    """A batch of random tokens, with the classes in turn and without images."""
    draw, shape = generator_for("bench"), (request.batch, request.run.backbone.tokens)
    tokens = torch.randint(request.run.backbone.codebook_size, shape, generator=draw).to(request.device)
    ids = torch.arange(request.batch, device=request.device) % request.run.data.classes
    return RolloutBatch(ids, tokens, torch.empty(0, device=request.device))


def random_trainer(run: GrpoRun, device: torch.device) -> GRPOTrainer:
    """The run's trainer with random weights and a reference of standard normal features."""
    torch.manual_seed(0)
    policy = random_policy(run.backbone, device)
    render = random_renderer(run, device, getattr(torch, run.grpo.decode_dtype))
    networks = random_networks(run.networks, run.data, device)
    rewards = build_rewards(run.rewards, run.data, networks)
    loo_fid = random_loo_fid(run, networks, device)
    return GRPOTrainer(policy, render, rewards, run, [loo_fid] if loo_fid else [], device)


def random_loo_fid(run: GrpoRun, networks: dict[str, nn.Module], device: torch.device) -> DistributionReward | None:
    """The run's LOO-FID reward with a reference of standard normal features; None for a run without it."""
    if "loo_fid" not in run.rewards.terms:
        return None
    network, side = networks[run.rewards.loo_fid.network], run.data.image_size
    width = network.features(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=device)).shape[1]
    return DistributionReward(network, run.rewards.loo_fid, torch.zeros(width), torch.eye(width), device)
