"""Commands of a run: settings, training, samples, scores, export."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from artune.commands.context import device_of, load_networks, registry_of, settings_of

if TYPE_CHECKING:
    import torch

    from artune.config.registry import Registry
    from artune.evaluation.features import Extractor
    from artune.runtime.distributed import World


def run_config(arguments: Namespace) -> str:
    """Resolve a run and write its settings."""
    from artune.runtime.files import write_text

    registry = registry_of(arguments)
    run = registry.resolve(arguments.run)
    write_text(arguments.output, yaml.safe_dump(registry.spec(arguments.run), sort_keys=False))
    return f"{arguments.output}: {run.method} of {run.backbone_name or run.images}"


def train(arguments: Namespace) -> str:
    """Tune a policy."""
    from artune.config.run import read_run
    from artune.config.yaml_layers import read_yaml
    from artune.runtime.distributed import started
    from artune.runtime.lease import lease
    from artune.tracking.mlflow_store import run_tags
    from artune.tracking.provenance import git
    from artune.tracking.run_logger import tracking_uri
    from artune.tuning.train import Inputs
    from artune.tuning.train import train as tune

    device = device_of(arguments)
    run = read_run(arguments.config)
    with lease(arguments.output.parent, "train"), started(device) as world:
        return tune(
            config=arguments.config,
            inputs=Inputs(
                policy=arguments.policy,
                tokenizer=arguments.tokenizer,
                networks={name: arguments.networks / f"{name}.safetensors" for name in run.networks},
                codes=arguments.codes,
                data=arguments.data,
                reference=arguments.reference,
                class_moments=arguments.class_moments,
            ),
            output=arguments.output,
            tracking_uri=tracking_uri(settings_of(arguments).tracking_uri),
            tags=run_tags(registry_of(arguments), read_yaml(arguments.config), git("rev-parse", "HEAD") or "unknown"),
            device=device,
            world=world,
        )


def sample(arguments: Namespace) -> str:
    """Draw the images that a run is scored on."""
    from artune.config.run import read_run
    from artune.evaluation.samples import sample as draw
    from artune.models.policies.checkpoint import load_policy
    from artune.runtime.distributed import started
    from artune.runtime.lease import lease
    from artune.sampling.rollout import load_renderer

    run, device, registry = read_run(arguments.config), device_of(arguments), registry_of(arguments)
    same = arguments.pretrained is None or arguments.pretrained == arguments.policy
    with lease(arguments.output.parent, "sample"), started(device) as world:
        return draw(
            run,
            registry.evaluation,
            load_policy(run.backbone, arguments.policy, device),
            None if same else load_policy(run.backbone, arguments.pretrained, device),
            load_renderer(run, arguments.tokenizer, device),
            [arguments.config, arguments.policy, arguments.tokenizer],
            arguments.output,
            arguments.grid,
            device,
            world,
            _extractor(registry, arguments.networks, device, world),
        )


def _extractor(registry: "Registry", folder: Path | None, device: "torch.device", world: "World") -> "Extractor | None":
    """The evaluation's networks, where all of them are there already: nobody waits for them before the features do."""
    from artune.evaluation.features import Extractor, identity_of

    names = set(registry.evaluation.networks.values())
    if folder is None:
        return None
    there = all((folder / f"{name}.safetensors").exists() for name in names)
    if not world.from_leader(there):  # another job may finish the last one while the processes look
        return None
    identity = identity_of(registry, folder, device)
    networks = load_networks(registry, names, folder, device)
    return Extractor(registry.evaluation, registry.data, networks, device, identity)


def real_samples(arguments: Namespace) -> str:
    """Take real images in the place of samples."""
    from artune.config.run import read_run
    from artune.data.assets import stamped_path
    from artune.evaluation.real_samples import write_real_samples

    run, protocol = read_run(arguments.config), registry_of(arguments).evaluation
    return write_real_samples(run, protocol, stamped_path(arguments.data), arguments.output, arguments.grid)


def features(arguments: Namespace) -> str:
    """Features of a run's samples."""
    from artune.evaluation.features import identity_of, take_up, write_features
    from artune.runtime.distributed import started

    registry, device, folder = registry_of(arguments), device_of(arguments), arguments.networks
    protocol = registry.evaluation
    with started(device) as world:
        if world.from_leader(
            world.leads and take_up(arguments.samples, identity_of(registry, folder, device), arguments.output)
        ):
            return f"{arguments.output}: taken while the images were drawn"
        networks = load_networks(registry, set(protocol.networks.values()), folder, device)
        return write_features(arguments.samples, protocol, registry.data, networks, arguments.output, device, world)


def evaluate(arguments: Namespace) -> str:
    """Score a run."""
    from artune.config.run import read_run
    from artune.data.assets import evaluation_files
    from artune.evaluation.scores import evaluate as score
    from artune.tracking.provenance import provenance

    registry, folder = registry_of(arguments), arguments.references
    return score(
        read_run(arguments.config),
        registry.evaluation,
        arguments.features,
        arguments.reference,
        arguments.timings,
        provenance(device_of(arguments)),
        arguments.output,
        {name: folder / f"{name}.npz" for name in registry.evaluation.references} if folder else {},
        evaluation_files(registry, Path(settings_of(arguments).assets)),
    )


def evaluate_official(arguments: Namespace) -> str:
    """Score a run by TensorFlow's own graph; in the environment that has it."""
    from artune.data.assets import stamped_path
    from artune.evaluation.official_graph import evaluate_official as score

    return score(
        arguments.run,
        arguments.samples,
        arguments.features,
        arguments.scores,
        stamped_path(arguments.data),
        stamped_path(arguments.graph),
        registry_of(arguments).evaluation,
        arguments.output,
    )


def export(arguments: Namespace) -> str:
    """Write a run's policy as others load it."""
    from artune.models.policies.export import export_policy
    from artune.planning.plan import Plan

    plan = Plan(settings_of(arguments).model_dump(), Path("config"))
    config = Path(plan.runs) / arguments.run / "config.yaml"
    return export_policy(config, Path(plan.policy(arguments.run)), arguments.output, arguments.format)
