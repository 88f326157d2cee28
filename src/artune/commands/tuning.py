"""Commands that resolve, train and export a run."""

from argparse import Namespace
from pathlib import Path

import yaml

from artune.commands.context import Context, files_of


def run_config(context: Context, arguments: Namespace) -> str:
    """Resolve a run and write its settings."""
    from artune.config.run import RealRun
    from artune.runtime.files import write_text

    registry = context.registry
    run = registry.resolve(arguments.run)
    write_text(arguments.output, yaml.safe_dump(registry.spec(arguments.run), sort_keys=False))
    return f"{arguments.output}: {run.method} of {run.images if isinstance(run, RealRun) else run.backbone_name}"


def train(context: Context, arguments: Namespace) -> str:
    """Tune a policy."""
    from artune.config.run import read_policy_run
    from artune.config.seeds import cut_seeds
    from artune.planning.sources import Sources
    from artune.runtime.distributed import started
    from artune.runtime.lease import lease
    from artune.tracking.mlflow_store import live_record
    from artune.tracking.run_facts import data_of
    from artune.tracking.source_code import present_code
    from artune.tuning.train import Inputs
    from artune.tuning.train import train as tune

    device, sources = context.device, Sources(context.registry)
    run = read_policy_run(arguments.config)
    data = data_of(sources.scale, sources.images(), sources.reference_moments(cut_seeds(run.name)[1].networks))
    with lease(arguments.output.parent, "train"), started(device) as world:
        return tune(
            config=arguments.config,
            inputs=Inputs(
                policy=arguments.policy,
                tokenizer=arguments.tokenizer,
                networks=files_of(run.networks, arguments.networks, ".safetensors", "--networks"),
                codes=arguments.codes,
                data=arguments.data,
                reference=arguments.reference,
                second_reference=arguments.second_reference,
                class_moments=arguments.class_moments,
            ),
            output=arguments.output,
            record=live_record(context.tracking_uri, context.registry, arguments.config, present_code(), data),
            device=device,
            world=world,
            present=context.registry.spec(run.name) if run.base in context.registry.run_names else None,
            shares=sources.shares if run.base in sources.snapshot_runs else (),
        )


def export(context: Context, arguments: Namespace) -> str:
    """Write a run's policy in the format of another project."""
    from artune.models.policies.export import export_policy
    from artune.planning.plan import Plan

    plan = Plan(context.settings.model_dump(), context.registry.root)
    config = Path(plan.runs) / arguments.run / "config.yaml"
    return export_policy(config, Path(plan.policy(arguments.run)), arguments.output, arguments.format)
