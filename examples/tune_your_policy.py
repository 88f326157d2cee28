"""Tune a policy of your own by GRPO with LOO-FID and a reward of your own, on a CPU in less than a minute.

An image is a bar on a black ground, 6 x 6 pixels in four grey levels; the two classes are horizontal and vertical. A
token is a pixel. The policy is fitted to dim bars with noise, and then tuned towards bright ones without.
"""

import torch
from torch import nn

import artune

SIDE, LEVELS = 6, 4


def bars(number, level, generator):
    """Class ids [N] and tokens [N, 36] of bars of one grey level, in which 5 % of the pixels are random."""
    class_ids = torch.randint(2, (number,), generator=generator)
    line = nn.functional.one_hot(torch.randint(SIDE, (number,), generator=generator), SIDE) * level
    image = torch.where((class_ids == 0)[:, None, None], line[:, :, None], line[:, None, :])
    noise, random = torch.randint(LEVELS, (2, *image.shape), generator=generator)[0], torch.rand(image.shape)
    return class_ids, torch.where(random < 0.05, noise, image).flatten(1)


class Pairs(artune.Policy):
    """Logits of a token as a sum over the tokens before it: one weight per pair of tokens and levels."""

    codebook_size, classes, tokens = LEVELS, 2, SIDE**2

    def __init__(self):
        super().__init__()
        size = self.tokens * LEVELS
        self.weight, self.bias = nn.Parameter(torch.zeros(size, size)), nn.Embedding(2, size)
        place = torch.arange(size) // LEVELS
        self.register_buffer("earlier", (place[:, None] < place[None, :]).float())

    def forward(self, tokens, class_ids):
        """Tokens [B, t] and class ids [B] -> logits [B, t, 4]; row i sees the class and the tokens before i."""
        size = tokens.shape[1] * LEVELS
        logits = nn.functional.one_hot(tokens, LEVELS).float().flatten(1) @ (self.weight * self.earlier)[:size, :size]
        return (logits + self.bias(class_ids)[:, :size]).unflatten(1, (-1, LEVELS))


def render(tokens):
    """Tokens [B, 36] -> images uint8 [B, 1, 6, 6]."""
    return (tokens * (255 // (LEVELS - 1))).to(torch.uint8).view(-1, 1, SIDE, SIDE)


def features(images):
    """What LOO-FID compares: the pixels, float64 [B, 36] in 0..1. For photographs: artune.InceptionFeatures."""
    return images.double().flatten(1) / 255


torch.manual_seed(0)
torch.set_num_threads(1)  # the tensors are small
policy, draw = Pairs(), torch.Generator().manual_seed(0)
optimizer = torch.optim.Adam(policy.parameters(), 2e-2)
for step in range(400):
    class_ids, tokens = bars(128, 1 + step % 2, draw)
    loss = -artune.token_scores(policy, tokens, class_ids)[0].mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

mean, covariance = artune.feature_moments(features(render(bars(5000, LEVELS - 1, draw)[1])))
reference = artune.ReferenceMoments.from_moments(mean, covariance=covariance, compare="full")
rewards = {
    "loo_fid": artune.LooFidReward(reference, features=lambda batch: features(batch.images)),
    "black": lambda batch: (batch.tokens == 0).float().mean(1),  # any function of a batch
}
weights = {"loo_fid": 100.0, "black": 0.1}
settings = artune.GRPOSettings(iterations=60, prompts=2, group_size=48, learning_rate=2e-3, beta=0.0, weights=weights)
trainer = artune.GRPOTrainer(policy, render, rewards, settings)
for iteration in range(settings.iterations + 1):
    if iteration % 20 == 0:
        tokens = artune.generate(policy, torch.arange(1000) % 2, generator=torch.Generator().manual_seed(1))
        fid = artune.jackknife_fid(features(render(tokens)), mean, covariance)
        print(f"after {iteration} iterations: FID {fid.value:.3f} +- {fid.standard_error:.3f}")
    if iteration < settings.iterations:
        trainer.step(iteration)
