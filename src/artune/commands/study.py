"""Commands of the human study: samples, pairs, page, judge, counting."""

from argparse import Namespace
from pathlib import Path

from artune.commands.context import device_of, load_networks, registry_of, settings_of


def _folder(arguments: Namespace) -> Path:
    """Where the study of a scale lies, for a person who names no path."""
    return Path("results") / settings_of(arguments).scale / "study"


def study_samples(arguments: Namespace) -> str:
    """A run's images of the study's pairs."""
    from artune.config.run import read_run
    from artune.models.policies.checkpoint import load_policy
    from artune.sampling.rollout import load_renderer
    from artune.study.make import write_study_samples

    registry, device, run = registry_of(arguments), device_of(arguments), read_run(arguments.config)
    return write_study_samples(
        run,
        registry.study,
        load_policy(run.backbone, arguments.policy, device),
        load_renderer(run, arguments.tokenizer, device),
        registry.evaluation.batch,
        arguments.output,
        device,
    )


def study_make(arguments: Namespace) -> str:
    """Draw the pairs and write them to a file."""
    from artune.data.assets import stamped_path
    from artune.planning.plan import Plan
    from artune.study.make import make_pairs

    folder = _folder(arguments)
    data = arguments.data or Path(Plan(settings_of(arguments).model_dump(), Path("config")).study_images())
    samples, output = arguments.samples or folder / "samples", arguments.output or folder / "pairs.zip"
    return make_pairs(registry_of(arguments), samples, stamped_path(data), output)


def study_serve(arguments: Namespace) -> str:
    """Serve the page that people rate on."""
    from artune.study.serve import serve

    folder = _folder(arguments)
    pairs, votes = arguments.pairs or folder / "pairs.zip", arguments.votes or folder / "votes.sqlite"
    return serve(pairs, votes, arguments.host, arguments.port)


def study_judge(arguments: Namespace) -> str:
    """What the automatic judge prefers in every pair."""
    from artune.errors import ArtuneError
    from artune.study.judge import judge_pairs

    registry, device = registry_of(arguments), device_of(arguments)
    name = registry.study.judge
    if name is None:
        raise ArtuneError("config/study.yaml: judge: null; name a network to have a judge")
    for _, tuned in (setting.runs for setting in registry.study.settings.values()):
        if name in registry.resolve(tuned).networks:
            raise ArtuneError(f"config/study.yaml: judge: {name} was a reward of {tuned}; name a network that was none")
    network = load_networks(registry, {name}, arguments.networks, device)[name]
    return judge_pairs(arguments.pairs, name, network, registry.evaluation, arguments.output, device)


def study_tally(arguments: Namespace) -> str:
    """Count the votes of the human study."""
    from artune.study.tally import describe_tally, write_tally

    folder = _folder(arguments)
    output = arguments.output or folder / "tally.json"
    tally = write_tally(arguments.votes or folder / "votes.sqlite", output, arguments.flagged)
    print(describe_tally(tally))  # noqa: T201
    total = sum(line["votes"] for line in tally["raters"])
    return f"{output}: {total or 'no'} votes"
