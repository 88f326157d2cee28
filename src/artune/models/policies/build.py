"""Builds a policy from the settings of its backbone."""

import torch

from artune.config.run import Backbone
from artune.errors import ArtuneError
from artune.models.policies.llamagen import LlamaGen
from artune.models.policies.vqgan_gpt import VQGANGPT


def build_policy(
    config: "Backbone", generator: torch.Generator | None = None, heads: int | None = None
) -> LlamaGen | VQGANGPT:
    """A freshly initialised policy of ``config.family``, in float32 on the CPU.

    Args:
        config: settings of the backbone.
        generator: CPU generator of the initial weights; None draws from the global one.
        heads: number of heads that a checkpoint states; None uses the backbone's.

    Raises:
        ArtuneError: an unknown family, or sizes that do not fit together.
    """
    sizes = {name: getattr(config, name) for name in ("dim", "layers", "heads", "codebook_size", "classes", "tokens")}
    sizes["heads"] = heads or sizes["heads"]
    builders = {
        "llamagen": lambda: LlamaGen(**sizes, ffn_multiple_of=config.ffn_multiple_of, generator=generator),
        "vqgan": lambda: VQGANGPT(**sizes, generator=generator),
    }
    if config.family not in builders:
        raise ArtuneError(f"backbone family {config.family!r} is unknown; choose from {', '.join(builders)}")
    return builders[config.family]()
