"""What decides the bytes of each file that trainings start from: the settings that its rule uses, and no others.

A rule's ``params`` are its recipe, so that only these settings outdate its output. Two presets whose recipes for a file
are equal share the file. Never imports torch.
"""

from typing import Any

from artune.config.registry import Registry
from artune.config.run import MleRun
from artune.config.yaml_layers import Tree

NOT_IN_DATA = ("prompt", "class_names", "templates", "moment_images")  # keys of section data that no image depends on
READS_TEXT = ("clip", "preference")  # kinds of networks that learn from the prompts
READS_TOKENS = ("preference", "quality")  # kinds of networks that learn from decoded tokens


def data_recipe(registry: Registry) -> Tree:
    """Settings of the images and their labels."""
    return {key: value for key, value in registry.tree["data"].items() if key not in NOT_IN_DATA}


def tokenizer_recipe(registry: Registry, name: str) -> Tree:
    """Settings of a tokenizer, which are the same for every seed."""
    settings = registry.tree["tokenizers"][registry.split_tokenizer(name)[0]]
    return {"tokenizer": settings, "data": data_recipe(registry)}


def codes_recipe(registry: Registry, tokenizer: str) -> Tree:
    """Settings of the token codes of the data set."""
    recipe = tokenizer_recipe(registry, tokenizer)
    if not registry.data.embedded:  # they decide how many crops of an image are encoded
        recipe["sequences"] = code_sequences(registry, tokenizer)
    return recipe


def code_sequences(registry: Registry, tokenizer: str) -> int | None:
    """Token sequences that the longest likelihood continuation on a tokenizer's codes draws; None without one."""
    resolved = (registry.resolve(run) for run in registry.run_names if registry.spec(run)["method"] == "mle")
    drawn = [
        run.mle.iterations * run.mle.batch
        for run in resolved
        if isinstance(run, MleRun) and run.backbone.tokenizer == tokenizer
    ]
    return max(drawn, default=None)


def network_recipe(registry: Registry, name: str) -> Tree:
    """Settings of a frozen network, which are the same in every set."""
    settings = registry.network(name)
    recipe: dict[str, Any] = {"network": registry.tree["networks"][registry.split_network(name)[0]]}
    if settings.train is None:
        return recipe
    recipe["data"] = data_recipe(registry)
    if settings.kind in READS_TEXT:
        recipe["texts"] = [registry.data.prompt, *registry.data.class_names, *registry.data.templates]
    if settings.kind in READS_TOKENS:
        recipe["tokenizer"] = tokenizer_recipe(registry, registry.judged_tokenizer)
    return recipe


def prior_recipe(registry: Registry, prior: str) -> Tree:
    """Settings of a prior, which are the same for every seed; how its images are rounded is no part of it."""
    backbone = registry.tree["backbones"][registry.split_prior(prior)[0]]
    kept = {key: value for key, value in backbone.items() if key != "uint8_rule"}
    return {"backbone": kept, "codes": tokenizer_recipe(registry, backbone["tokenizer"])}


def train_moments_recipe(registry: Registry, network: str) -> Tree:
    """Settings of the training images' moments under a network."""
    recipe = {"network": network_recipe(registry, network), "images": registry.data.moment_images}
    return recipe | ({"data": data_recipe(registry)} if registry.data.embedded else {})


def reference_recipe(registry: Registry, asset: str | None = None) -> Tree:
    """Settings of the moments of the first reference, or of the further reference ``asset``."""
    protocol = registry.evaluation
    names = {protocol.features, *protocol.judges.values()}
    recipe: dict[str, Any] = {"reference": asset or protocol.reference, "judges": protocol.judges}
    recipe |= {"features": protocol.features, "batch": protocol.batch, "data": data_recipe(registry)}
    if asset is None:
        recipe["reward_features"] = protocol.reward_features
        names.add(protocol.reward_features)
    return recipe | {"networks": {name: network_recipe(registry, name) for name in sorted(names)}}


def judge_reference_recipe(registry: Registry, network: str) -> Tree:
    """Settings of the held-out images' features under a judge out of a package."""
    recipe = {"network": network_recipe(registry, network), "data": data_recipe(registry)}
    return recipe | {"batch": registry.evaluation.batch}


def class_moments_recipe(registry: Registry) -> Tree:
    """Settings of the moments of the training images of each class."""
    name = registry.tree["rewards"]["loo_fid"]["network"]
    return {"network": {name: network_recipe(registry, name)}, "data": data_recipe(registry)}
