"""artune: policy-based tuning of autoregressive image models (GRPO with instance- and distribution-level rewards).

The public names are those of :data:`PUBLIC`, as ``artune.NAME``; docs/library.md goes through them. From version 0.2.0
on they follow semantic versioning: what a program gets from them changes only with a new major number, and until 1.0
with a new minor one. Everything else, every module of this package included, may change with any version, and the
command line and the files have rules of their own (CHANGELOG.md). A name is loaded when it is first used, so that
``import artune`` costs nothing and never imports torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from artune.config.methods import Entropy as Entropy
    from artune.config.run import Backbone as Backbone
    from artune.config.run import Sampling as Sampling
    from artune.config.run import Tokenizer as Tokenizer
    from artune.errors import ArtuneError as ArtuneError
    from artune.metrics.cmmd import cmmd as cmmd
    from artune.metrics.density_coverage import density_coverage as density_coverage
    from artune.metrics.fid import JackknifeFID as JackknifeFID
    from artune.metrics.fid import feature_moments as feature_moments
    from artune.metrics.fid import frechet_distance as frechet_distance
    from artune.metrics.fid import jackknife_fid as jackknife_fid
    from artune.metrics.inception_score import inception_score as inception_score
    from artune.metrics.kid import kid as kid
    from artune.metrics.precision_recall import precision_recall as precision_recall
    from artune.models.encoders.inception_features import InceptionFeatures as InceptionFeatures
    from artune.models.policies.checkpoint import load_policy as load_policy
    from artune.models.policies.checkpoint import save_policy as save_policy
    from artune.models.policies.llamagen import LlamaGen as LlamaGen
    from artune.models.policies.policy import Policy as Policy
    from artune.models.tokenizers.build import load_tokenizer as load_tokenizer
    from artune.rewards.loo_fid import LooFidResult as LooFidResult
    from artune.rewards.loo_fid import loo_fid_reward as loo_fid_reward
    from artune.rewards.moments import FeatureMoments as FeatureMoments
    from artune.rewards.moments import ReferenceMoments as ReferenceMoments
    from artune.rewards.running_loo_fid import LooFidReward as LooFidReward
    from artune.sampling.batch import RolloutBatch as RolloutBatch
    from artune.sampling.forced import step_logits as step_logits
    from artune.sampling.generate import generate as generate
    from artune.tuning.entropy import EntropyController as EntropyController
    from artune.tuning.entropy import token_entropy as token_entropy
    from artune.tuning.grpo import combined_advantages as combined_advantages
    from artune.tuning.grpo import group_advantages as group_advantages
    from artune.tuning.grpo import grpo_loss as grpo_loss
    from artune.tuning.grpo import kl_penalty as kl_penalty
    from artune.tuning.grpo_trainer import GRPOTrainer as GRPOTrainer
    from artune.tuning.objective import token_scores as token_scores
    from artune.tuning.settings import GRPOSettings as GRPOSettings

__version__ = "0.2.0"
RESULTS_VERSION = 3  # raised by every change that moves a number; recorded in each scores file

# Public name -> the module that defines it. A test holds it against the imports above, which are for type checkers.
PUBLIC = {
    # the reward
    "loo_fid_reward": "rewards.loo_fid",
    "LooFidReward": "rewards.running_loo_fid",
    "LooFidResult": "rewards.loo_fid",
    "FeatureMoments": "rewards.moments",
    "ReferenceMoments": "rewards.moments",
    "InceptionFeatures": "models.encoders.inception_features",
    # GRPO
    "group_advantages": "tuning.grpo",
    "combined_advantages": "tuning.grpo",
    "grpo_loss": "tuning.grpo",
    "kl_penalty": "tuning.grpo",
    "token_entropy": "tuning.entropy",
    "EntropyController": "tuning.entropy",
    "GRPOTrainer": "tuning.grpo_trainer",
    "GRPOSettings": "tuning.settings",
    "Entropy": "config.methods",
    "RolloutBatch": "sampling.batch",
    # policies and tokenizers
    "Policy": "models.policies.policy",
    "LlamaGen": "models.policies.llamagen",
    "load_policy": "models.policies.checkpoint",
    "save_policy": "models.policies.checkpoint",
    "load_tokenizer": "models.tokenizers.build",
    "Backbone": "config.run",
    "Tokenizer": "config.run",
    "Sampling": "config.run",
    "generate": "sampling.generate",
    "step_logits": "sampling.forced",
    "token_scores": "tuning.objective",
    # scores
    "frechet_distance": "metrics.fid",
    "feature_moments": "metrics.fid",
    "jackknife_fid": "metrics.fid",
    "JackknifeFID": "metrics.fid",
    "kid": "metrics.kid",
    "cmmd": "metrics.cmmd",
    "inception_score": "metrics.inception_score",
    "precision_recall": "metrics.precision_recall",
    "density_coverage": "metrics.density_coverage",
    # errors
    "ArtuneError": "errors",
}
__all__ = [*PUBLIC]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'artune' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"artune.{PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
