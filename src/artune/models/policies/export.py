"""Exports tuned policies in the formats of other programs."""

from pathlib import Path

import torch

from artune.config.run import Backbone, PolicyRun, read_policy_run
from artune.config.sizes import decoded_size
from artune.errors import ArtuneError
from artune.models.policies.checkpoint import load_policy, save_policy
from artune.runtime.files import replacing, sha256, write_json

# Names that LlamaGen's sampling script knows (--gpt-model): (dim, layers, heads) -> name.
SIZES = {
    (768, 12, 12): "GPT-B",
    (1024, 24, 16): "GPT-L",
    (1280, 36, 20): "GPT-XL",
    (1536, 48, 24): "GPT-XXL",
    (3200, 24, 32): "GPT-3B",
}


def export_policy(config: Path, weights: Path, folder: Path, format: str = "llamagen") -> str:
    """Write a run's policy in the format of LlamaGen's own sampling script, and as safetensors beside it.

    ``{run}.pt`` holds ``{"model": state dict}`` with the official names in float32; no weight depends on the
    resolution, so ``{run}.json`` states the ``--image-size`` to pass and the sampling settings of the run.

    Args:
        config: the run's config.yaml.
        weights: the run's policy.safetensors, or any layout that
            :func:`artune.models.weights.checkpoints.load_into` reads.
        folder: folder to write to.
        format: name of the format; only llamagen exists.

    Raises:
        ArtuneError: another format, a policy that LlamaGen's script has no model for, or weights that do not fit.
    """
    run = read_policy_run(config)
    if format != "llamagen":
        raise ArtuneError(f"--format: unknown {format!r}; the only format is llamagen")
    if run.backbone.family != "llamagen":
        raise ArtuneError(
            f"export {run.name}: a {run.backbone.family} policy, which LlamaGen's script cannot load; "
            f"its weights already have the official names: use {weights}"
        )
    policy = load_policy(weights, run.backbone)
    checkpoint, plain = folder / f"{run.name}.pt", folder / f"{run.name}.safetensors"
    state = {name: tensor.detach().clone() for name, tensor in policy.state_dict().items()}
    try:
        with replacing(checkpoint) as temporary:
            torch.save({"model": state}, temporary)
    except RuntimeError as error:  # torch's zip writer raises it on a full disk
        raise ArtuneError(f"{checkpoint}: cannot be written ({str(error).splitlines()[0]}); make room") from error
    save_policy(plain, policy, {"run": run.name, "backbone": run.backbone_name})
    write_json(folder / f"{run.name}.json", card(run, {path.name: sha256(path) for path in (checkpoint, plain)}))
    return f"{checkpoint}: {len(state)} tensors, {sum(tensor.numel() for tensor in state.values()):,} parameters"


def card(run: PolicyRun, digests: dict[str, str]) -> dict:
    """Settings with which a user of the exported files samples as the run did."""
    return {
        "run": run.name,
        "scale": run.scale,
        "gpt_model": llamagen_name(run.backbone),
        "image_size": decoded_size(run.backbone, run.tokenizer),
        "image_size_eval": run.data.image_size,
        "sampling": run.sampling.model_dump(),
        "tokenizer": run.tokenizer.checkpoint,
        "sha256": digests,
    }


def llamagen_name(backbone: Backbone) -> str | None:
    """The name of the backbone's sizes in LlamaGen's scripts; None if the scripts have no such model."""
    return SIZES.get((backbone.dim, backbone.layers, backbone.heads))
