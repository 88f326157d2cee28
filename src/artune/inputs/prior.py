"""Trains a prior: the pretrained policy of a run, fitted to the tokens of real images by maximum likelihood."""

from pathlib import Path

import torch
from torch import Tensor

from artune.config.run import Backbone
from artune.errors import ArtuneError
from artune.inputs.fit import fit
from artune.inputs.likelihood import heldout_loss, likelihood_loss
from artune.inputs.token_codes import load_codes
from artune.models.policies.build import build_policy
from artune.models.policies.checkpoint import save_policy
from artune.runtime.seeds import draw_indices, generator_for, seed_for


def pretrain(backbone: Backbone, codes_path: Path | str, out_path: Path | str, seed: int) -> str:
    """Fit a new policy to the training tokens and write it.

    Args:
        backbone: sizes and ``train``.
        codes_path: npz file that :func:`artune.inputs.token_codes.write_codes` wrote.
        out_path: safetensors file to write.
        seed: seed of the initial weights, the batches and the class dropout.

    Returns:
        One line with the validation cross-entropy in nats per token.

    Raises:
        ArtuneError: no ``train`` settings, tokens that do not fit the policy, or a loss that is not finite.
    """
    if backbone.train is None:
        raise ArtuneError("backbones: train is missing; this policy is loaded, not trained")
    settings = backbone.train
    tokens, labels = load_codes(codes_path, "train", backbone.classes)
    if tokens.shape[1] != backbone.tokens or int(tokens.max()) >= backbone.codebook_size:
        raise ArtuneError(
            f"{codes_path}: {tokens.shape[1]} tokens per image up to id {int(tokens.max())}, but the backbone has "
            f"tokens {backbone.tokens} and codebook_size {backbone.codebook_size}"
        )
    policy = build_policy(backbone, generator_for(seed, "prior weights"))
    generator = generator_for(seed, "prior batches")

    def loss(step: int) -> tuple[Tensor, str]:
        chosen = draw_indices(settings.batch, len(tokens), generator)
        return likelihood_loss(
            policy,
            tokens[chosen],
            labels[chosen],
            class_dropout=settings.class_dropout,
            dropout=settings.dropout,
            generator=generator,
        ), ""

    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "prior dropout"))  # torch's dropout takes no generator
        fit("prior", policy.parameters(), settings, loss)
    validation = heldout_loss(policy, *load_codes(codes_path, "validation", backbone.classes))
    save_policy(out_path, policy, {"seed": str(seed), "validation_cross_entropy": f"{validation:.4f}"})
    parameters = sum(parameter.numel() for parameter in policy.parameters())
    return f"prior  validation cross-entropy {validation:.3f} nats per token, {parameters:,} parameters"
