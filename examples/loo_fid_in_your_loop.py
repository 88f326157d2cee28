"""The LOO-FID reward in a plain REINFORCE loop: a generator that is no autoregressive policy, on a CPU in seconds.

The generator draws points x = m(z) + s(z) e from noise z and e; the real data are two moons. REINFORCE needs only the
log-probability of x given z and one number per point, the reward.
"""

import math

import torch
from torch import nn

import artune


def moons(number, generator):
    """Points [N, 2] of two interleaved half circles."""
    angle = math.pi * torch.rand(number, generator=generator)
    upper = torch.rand(number, generator=generator) < 0.5
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return torch.stack((x, y), 1) + 0.05 * torch.randn(number, 2, generator=generator)


def features(points):
    """What LOO-FID compares: smooth functions of the points, float64 [N, 16]. For images: artune.InceptionFeatures."""
    waves = torch.randn(2, 16, generator=torch.Generator().manual_seed(2)) * 1.5
    return torch.sin(points @ waves + torch.arange(16)).double()


torch.manual_seed(0)
torch.set_num_threads(1)  # the tensors are small
draw = torch.Generator().manual_seed(0)
mean, covariance = artune.feature_moments(features(moons(20_000, draw)))
reference = artune.ReferenceMoments.from_moments(mean, covariance=covariance, compare="full")
reward = artune.LooFidReward(reference, features=features, alpha=0.5)  # keeps its moments between the calls

generator = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 4))
optimizer = torch.optim.Adam(generator.parameters(), 3e-3)
for step in range(601):
    center, log_scale = generator(torch.randn(256, 4)).chunk(2, dim=1)
    density = torch.distributions.Normal(center, (log_scale - 1).clamp(-3, 1).exp())
    points = density.sample()
    rewards = reward(points).float()  # [256]: how much each point lowers the FID
    advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
    loss = -(advantages * density.log_prob(points).sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 200 == 0:
        print(f"step {step}: FID {reward.fid:.4f}")
