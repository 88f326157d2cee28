"""The command that scores image files of any origin."""

import os
from argparse import Namespace
from importlib.util import find_spec
from pathlib import Path

from artune.commands.context import Context
from artune.commands.streams import print_result
from artune.errors import not_installed


def score(context: Context, arguments: Namespace) -> str:
    """Score image files of any origin, with error bars."""
    if arguments.mlflow is not None and find_spec("mlflow") is None:  # said before the first image is read
        raise not_installed("--mlflow", "mlflow") or ModuleNotFoundError("mlflow")
    from artune.runtime.progress import say
    from artune.scoring.report import text, write
    from artune.scoring.request import Request
    from artune.scoring.score import Scorer
    from artune.tracking.addresses import shown
    from artune.tracking.provenance import provenance

    context = _official(arguments)
    samples = Path(arguments.samples)
    folder = arguments.cache or samples.parent
    folder = folder if arguments.cache or os.access(folder, os.W_OK) else Path()
    output = arguments.output or folder / f"{samples.absolute().name}.scores.json"
    networks = tuple(arguments.networks or (context.assets,))
    request = Request(
        samples=samples,
        reference=arguments.reference,
        against=arguments.against,
        networks=networks,
        labels=arguments.labels,
        captions=arguments.captions,
        accepted=frozenset(arguments.accept),
        batch=arguments.batch,
        cache=arguments.cache,
    )
    scored = Scorer(request, context.registry, context.device).run()
    write(scored, provenance(context.device), output)
    print_result(text(scored), kept=output)
    if arguments.mlflow is not None:
        from artune.scoring.tracking import log_scores

        uri = arguments.mlflow or context.tracking_uri
        if log_scores(scored, output, uri, arguments.experiment):
            say(f"{shown(uri)}: logged to the experiment {arguments.experiment}")
    found = scored.scores
    return f"{output}, {output.with_suffix('.csv').name}: FID {found['fid']:.4f} +- {found['fid_se']:.4f}"


def _official(arguments: Namespace) -> Context:
    """A context of the imagenet scale on all cores, unless the command line says otherwise."""
    threads = arguments.threads or len(os.sched_getaffinity(0))
    return Context(Namespace(**vars(arguments) | {"scale": arguments.scale or "imagenet", "threads": threads}))
