"""Commands for the samples of a run: drawing, features, scores, comparisons."""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from artune.commands.context import Context, files_of
from artune.commands.streams import print_result
from artune.config.seeds import cut_seeds

if TYPE_CHECKING:
    from artune.config.run import Evaluation
    from artune.evaluation.features import Extractor
    from artune.runtime.distributed import World


def sample(context: Context, arguments: Namespace) -> str:
    """Draw the images that a run is scored on."""
    from artune.config.run import read_policy_run
    from artune.evaluation.samples import SampleFiles
    from artune.evaluation.samples import sample as draw
    from artune.models.policies.checkpoint import load_policy
    from artune.runtime.distributed import started
    from artune.runtime.lease import lease
    from artune.sampling.rollout import load_renderer

    run, device, registry = read_policy_run(arguments.config), context.device, context.registry
    protocol = registry.evaluation_in(run.networks_seed)
    sources = [arguments.config, arguments.policy, arguments.tokenizer]
    same = arguments.pretrained is None or arguments.pretrained == arguments.policy
    with lease(arguments.output.parent, "sample"), started(device) as world:
        return draw(
            run,
            protocol,
            load_policy(arguments.policy, run.backbone, device),
            None if same else load_policy(arguments.pretrained, run.backbone, device),
            load_renderer(run, arguments.tokenizer, device),
            SampleFiles(sources, arguments.output, arguments.grid),
            device,
            world,
            _extractor(context, protocol, arguments.networks, world),
        )


def _extractor(
    context: Context, protocol: "Evaluation", given: list[Path] | None, world: "World"
) -> "Extractor | None":
    """Extractor of the evaluation's features, or None if a network's file is still missing: sampling does not wait."""
    from artune.evaluation.features import Extractor, identity_of

    registry, device = context.registry, context.device
    names = set(protocol.networks.values())
    if given is None:
        return None
    files = files_of(context.filed(names), given, ".safetensors", "--networks")
    there = all(path.exists() for path in files.values())
    if not world.from_leader(there):  # another job may finish the last file while the processes look
        return None
    identity = identity_of(registry, protocol, files, device)
    networks = context.networks(names, given)
    return Extractor(protocol, registry.data, networks, device, identity)


def real_samples(context: Context, arguments: Namespace) -> str:
    """Take real images in place of samples."""
    from artune.config.run import RealRun, read_run
    from artune.data.stamps import used_path
    from artune.errors import ArtuneError
    from artune.evaluation.real_samples import write_real_samples
    from artune.runtime.lease import lease

    run, protocol = read_run(arguments.config), context.registry.evaluation
    if not isinstance(run, RealRun):
        raise ArtuneError(f"{arguments.config}: method {run.method} draws its samples; real_samples is for method real")
    images = used_path(context.registry, context.assets, arguments.data)
    with lease(arguments.output.parent, "real_samples"):
        return write_real_samples(run, protocol, images, arguments.output, arguments.grid)


def features(context: Context, arguments: Namespace) -> str:
    """Features of a run's samples."""
    from artune.evaluation.features import identity_of, take_up, write_features
    from artune.runtime.distributed import started
    from artune.runtime.lease import lease

    registry, device = context.registry, context.device
    protocol = context.evaluation_of(arguments.networks)
    files = files_of(context.filed(protocol.networks.values()), arguments.networks, ".safetensors", "--networks")
    with lease(arguments.output.parent, "features"), started(device) as world:
        if world.from_leader(
            world.leads and take_up(arguments.samples, identity_of(registry, protocol, files, device), arguments.output)
        ):
            return f"{arguments.output}: computed while the images were drawn"
        networks = context.networks(protocol.networks.values(), arguments.networks)
        return write_features(arguments.samples, protocol, registry.data, networks, arguments.output, device, world)


def judge_reference(context: Context, arguments: Namespace) -> str:
    """Features of the held-out images under a judge out of an optional package."""
    from artune.inputs.references import write_judge_reference

    name = arguments.name
    network = context.networks([name], []).get(name)
    batch, k = context.registry.evaluation.batch, context.registry.evaluation.neighbours
    return write_judge_reference(arguments.data, name, network, batch, arguments.output, context.device, k)


def evaluate(context: Context, arguments: Namespace) -> str:
    """Score a run."""
    from artune.config.run import read_run
    from artune.data.assets import evaluation_files
    from artune.evaluation.evaluate import ScoreFiles
    from artune.evaluation.evaluate import evaluate as score
    from artune.planning.sources import Sources
    from artune.tracking.provenance import provenance

    registry, given = context.registry, arguments.references
    references = files_of(registry.evaluation.references, given, ".npz", "--references") if given else {}
    third = [registry.evaluation.efficientnet] if registry.evaluation.efficientnet else []
    judged = list(files_of(third, given, ".npz", "--references").values())
    files = ScoreFiles(
        arguments.features, arguments.reference, arguments.output, arguments.timings, references, *judged
    )
    outside = evaluation_files(registry, context.assets, Path(Sources(registry).stamps))
    run = read_run(arguments.config)
    return score(run, registry.evaluation_in(run.networks_seed), files, provenance(context.prepare()), outside)


def evaluate_official(context: Context, arguments: Namespace) -> str:
    """Score a run by TensorFlow's own graph, in the environment that has TensorFlow."""
    from artune.data.stamps import used_path
    from artune.evaluation.official_graph import evaluate_official as score

    return score(
        arguments.run,
        arguments.samples,
        arguments.features,
        arguments.scores,
        used_path(context.registry, context.assets, arguments.data),
        used_path(context.registry, context.assets, arguments.graph),
        context.registry.evaluation,
        arguments.output,
    )


def compare(context: Context, arguments: Namespace) -> str:
    """Compare two runs, or a table's rows with the baseline of their block."""
    from artune.config.paper import find_table, pairs_of
    from artune.errors import ArtuneError
    from artune.evaluation.compare import compare as differences
    from artune.planning.sources import Sources
    from artune.results.tables import write_csv

    registry, seeds = context.registry, arguments.seeds or 1
    context.prepare()
    if (len(arguments.pair) == 2) == (arguments.table is not None) or len(arguments.pair) not in (0, 2):
        raise ArtuneError("compare: name two runs, or a table with --table")
    for name in arguments.pair:
        registry.spec(name)  # refuses an unknown run, and seeds that it cannot have
    pairs = [tuple(arguments.pair)]
    if arguments.table:
        if find_table(registry, arguments.table).kind != "scores":
            raise ArtuneError(f"compare: {arguments.table} holds votes, not scores")
        pairs = pairs_of(registry, arguments.table)
        seeds = registry.tables[arguments.table].repetitions(context.settings.seeds)
    sources = Sources(registry)
    given = {cut_seeds(path.stem)[1].networks: path for path in arguments.reference or ()}
    sets = sorted({sources.set_of(run) for pair in pairs for run in pair})
    references = {number: given.get(number) or Path(sources.reference_moments(number)) for number in sets}
    references |= dict.fromkeys(sets, *given.values()) if len(given) == len(sets) == 1 else {}
    frame = differences(registry, pairs, arguments.runs or Path(sources.runs), references, seeds)
    if arguments.output:
        write_csv(frame, arguments.output)
    text = frame.drop(columns=["scale", "note"]).to_string(index=False, float_format="{:.4g}".format)
    print_result(text, kept=arguments.output)
    found = int((frame["p_holm"] < 0.05).sum())
    return f"{arguments.output or 'compared'}: {found} of {len(frame)} differences at p < 0.05 after Holm's correction"
