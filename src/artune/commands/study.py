"""Commands for the human study: samples, pairs, page, judge, counting."""

from argparse import Namespace
from pathlib import Path

from artune.commands.context import Context
from artune.commands.streams import print_result
from artune.runtime.places import destination


def _folder(context: Context) -> Path:
    """Default folder of the study at a scale and preset."""
    return Path("results") / context.registry.results_name / "study"


def study_samples(context: Context, arguments: Namespace) -> str:
    """Draw a run's images for the study's pairs."""
    from artune.config.run import read_policy_run
    from artune.models.policies.checkpoint import load_policy
    from artune.results.study.make import write_study_samples
    from artune.sampling.rollout import load_renderer

    registry, device, run = context.registry, context.device, read_policy_run(arguments.config)
    return write_study_samples(
        run,
        registry.study,
        load_policy(arguments.policy, run.backbone, device),
        load_renderer(run, arguments.tokenizer, device),
        registry.evaluation.batch,
        arguments.output,
        device,
    )


def study_make(context: Context, arguments: Namespace) -> str:
    """Draw the pairs and write them to a file."""
    from artune.data.stamps import used_path
    from artune.planning.plan import Plan
    from artune.results.study.make import make_pairs

    folder = _folder(context)
    output = destination(arguments.output or folder / "pairs.zip")
    data = arguments.data or Path(Plan(context.settings.model_dump(), context.registry.root).study_images())
    samples = arguments.samples or folder / "samples"
    return make_pairs(context.registry, samples, used_path(context.registry, context.assets, data), output)


def study_serve(context: Context, arguments: Namespace) -> str:
    """Serve the page on which people rate the pairs."""
    from artune.errors import ArtuneError
    from artune.results.study.serve import Told, serve

    folder, page = _folder(context), context.registry.study.page
    if (missing := page.missing()) and not arguments.trial:
        raise ArtuneError(
            f"config/study.yaml: page: {', '.join(missing)}: not given, but raters read it first; fill it in, "
            "or look at the page with --trial"
        )
    pairs, votes = arguments.pairs or folder / "pairs.zip", arguments.votes or folder / "votes.sqlite"
    told = Told(page=page, classes=context.registry.data.class_names)
    return serve(pairs, votes, arguments.host, arguments.port, told=told)


def study_judge(context: Context, arguments: Namespace) -> str:
    """Write which image of every pair the automatic judge prefers."""
    from artune.errors import ArtuneError
    from artune.results.study.judge import judge_pairs

    registry, device = context.registry, context.device
    name = registry.study.judge
    if name is None:
        raise ArtuneError("config/study.yaml: judge: null; name a network to have a judge")
    for _, tuned in (setting.runs for setting in registry.study.settings.values()):
        if name in registry.resolve(tuned).networks:
            raise ArtuneError(f"config/study.yaml: judge: {name} was a reward of {tuned}; name a network that was not")
    network = context.networks({name}, arguments.networks)[name]
    return judge_pairs(arguments.pairs, name, network, registry.evaluation, arguments.output, device)


def study_tally(context: Context, arguments: Namespace) -> str:
    """Count the votes of the human study."""
    from artune.results.study.tally import describe_tally, write_tally

    folder = _folder(context)
    output = destination(arguments.output or folder / "tally.json")
    tally = write_tally(arguments.votes or folder / "votes.sqlite", output, arguments.flagged)
    print_result(describe_tally(tally), kept=output)
    total = sum(line["votes"] for line in tally["raters"])
    return f"{output}: {total or 'no'} votes"
