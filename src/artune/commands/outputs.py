"""Commands that make tables, figures and the tracking store, and those for people."""

from argparse import Namespace
from pathlib import Path

from artune.commands.context import device_of, entry, registry_of, settings_of
from artune.config.registry import SEED_SUFFIX


def table(arguments: Namespace) -> str:
    """Write a table as CSV, and as Markdown beside it."""
    from artune.config.paper import find_table
    from artune.runtime.files import read_json
    from artune.table_text import write_latex, write_markdown
    from artune.tables import build_table, write_csv

    registry, seeds = registry_of(arguments), settings_of(arguments).seeds
    layout = find_table(registry, arguments.table)
    if layout.kind == "study":
        from artune.study.table import build_study_table

        judged = read_json(arguments.judge) if arguments.judge else None
        frame = build_study_table(registry, arguments.table, read_json(arguments.tally), judged)
    else:
        runs = [row.run for row in layout.rows if row.run and not registry.unavailable(row.run)]
        scores = {
            run: [read_json(arguments.runs / name / "scores.json") for name in registry.seed_names(run, seeds)]
            for run in runs
        }
        frame = build_table(registry, arguments.table, scores)
    write_markdown(frame, registry, arguments.table, arguments.output.with_suffix(".md"))
    write_latex(frame, registry, arguments.table, arguments.output.with_suffix(".tex"))
    write_csv(frame, arguments.output)
    return f"{arguments.output}: {len(frame)} rows, seeds {seeds}"


def compare(arguments: Namespace) -> str:
    """Compare two runs, or a table's rows with the first of their block."""
    from artune.config.paper import find_table
    from artune.errors import ArtuneError
    from artune.evaluation.compare import compare as differences
    from artune.evaluation.compare import pairs_of
    from artune.tables import write_csv

    registry, seeds = registry_of(arguments), arguments.seeds or 1
    device_of(arguments)
    if (len(arguments.pair) == 2) == (arguments.table is not None) or len(arguments.pair) not in (0, 2):
        raise ArtuneError("compare: name two runs, or a table with --table")
    for name in arguments.pair:
        registry.split_seed(name)
    pairs = [tuple(arguments.pair)]
    if arguments.table:
        if find_table(registry, arguments.table).kind != "scores":
            raise ArtuneError(f"compare: {arguments.table} holds votes, not scores")
        pairs, seeds = pairs_of(registry, arguments.table), settings_of(arguments).seeds
    folder = Path("results") / registry.scale
    runs, reference = arguments.runs or folder / "runs", arguments.reference or folder / "reference.npz"
    frame = differences(registry, pairs, runs, reference, seeds)
    print(frame.drop(columns=["scale", "note"]).to_string(index=False, float_format="{:.4g}".format))  # noqa: T201
    if arguments.output:
        write_csv(frame, arguments.output)
    found = int((frame["p_holm"] < 0.05).sum())
    return f"{arguments.output or 'compared'}: {found} of {len(frame)} differences at p < 0.05 after Holm's correction"


def figure(arguments: Namespace) -> str:
    """Draw a figure as PDF, and as PNG beside it."""
    from artune.figures.draw import draw_figure

    smoothing = arguments.smoothing or settings_of(arguments).figure2.smoothing
    return draw_figure(
        registry_of(arguments), arguments.figure, arguments.results, arguments.output, smoothing, arguments.compare
    )


def figure_samples(arguments: Namespace) -> str:
    """Images of the classes that a figure shows."""
    from artune.config.run import read_run
    from artune.data.prompts import class_names
    from artune.figures.samples import choose_classes
    from artune.models.policies.checkpoint import load_policy
    from artune.runtime.files import save_npz
    from artune.sampling.grids import grid_images
    from artune.sampling.rollout import load_renderer

    registry, device = registry_of(arguments), device_of(arguments)
    chosen = entry(registry.figures, arguments.figure, "figure")
    run = read_run(arguments.config)
    ids = choose_classes(chosen, class_names(run.data), strict=run.data.source == "imagenet").ids
    images = grid_images(
        run,
        ids,
        chosen.per_class,
        chosen.seed,
        load_policy(run.backbone, arguments.policy, device),
        load_renderer(run, arguments.tokenizer, device),
        device,
    )
    save_npz(arguments.output, {"images": images})
    return f"{arguments.output}: {len(ids)} classes of {run.name}"


def costs(arguments: Namespace) -> str:
    """Seconds of every stage beside the paper's."""
    from artune.planning.costs import write_costs

    return write_costs(registry_of(arguments), arguments.timings, arguments.output)


def mlflow_store(arguments: Namespace) -> str:
    """Create the tracking store."""
    from artune.runtime.files import write_json
    from artune.tracking.mlflow_store import init_store
    from artune.tracking.run_logger import tracking_uri

    uri = tracking_uri(settings_of(arguments).tracking_uri)
    ready = init_store(uri)
    write_json(arguments.output, {"ready": ready})
    return f"{uri}: {'ready' if ready else 'not reachable; metrics.jsonl stays the record'}"


def mlflow_log(arguments: Namespace) -> str:
    """Bring the tracking store up to date with a table's runs."""
    from artune.config.paper import find_table
    from artune.runtime.files import write_json
    from artune.tracking.mlflow_store import upsert
    from artune.tracking.run_logger import tracking_uri

    settings, registry = settings_of(arguments), registry_of(arguments)
    rows = find_table(registry, arguments.table).rows
    runs = [row.run for row in rows if row.run and not registry.unavailable(row.run)]
    names = [name for run in runs for name in registry.seed_names(run, settings.seeds)]
    uri = tracking_uri(settings.tracking_uri)
    logged = upsert(uri, registry, [arguments.runs / name for name in names])
    write_json(arguments.output, {"runs": names, "logged": logged})
    return f"{uri}: {len(names)} runs {'up to date' if logged else 'not logged; the store did not answer'}"


def mlflow(arguments: Namespace) -> str:
    """Rebuild the tracking store from the files of all finished runs."""
    from artune.tracking.mlflow_store import upsert
    from artune.tracking.run_logger import tracking_uri

    registry = registry_of(arguments)
    uri = tracking_uri(settings_of(arguments).tracking_uri)
    folders = sorted(path.parent for path in arguments.runs.glob("*/scores.json"))
    known = [folder for folder in folders if SEED_SUFFIX.sub("", folder.name) in registry.run_names]
    logged = upsert(uri, registry, known)
    return f"{uri}: {len(known)} runs {'up to date' if logged else 'not logged; the store did not answer'}"


def show(arguments: Namespace) -> str:
    """Print a run's settings and the layer that set each."""
    registry = registry_of(arguments)
    registry.resolve(arguments.run)
    for key, (value, where) in registry.origins(arguments.run).items():
        print(f"{key:38} {value!s:28} {where}")  # noqa: T201
    return f"{arguments.run} at the {registry.scale} scale"


def bench(arguments: Namespace) -> str:
    """Time a part of the method."""
    from artune.bench import format_table, run_benchmark
    from artune.bench_request import Request
    from artune.runtime.files import write_json
    from artune.tracking.provenance import provenance

    sizes = {name: getattr(arguments, name) for name in ("backbone", "images", "tokens", "repeats", "output")}
    request = Request(registry_of(arguments), device_of(arguments), **sizes)
    rows = run_benchmark(arguments.target, request)
    print(format_table(rows))  # noqa: T201
    if arguments.output is None:
        return f"{len(rows)} cases"
    if arguments.target != "iteration" or arguments.output.suffix != ".jsonl":  # then it is what a training leaves
        about = {"target": arguments.target, "scale": request.registry.scale, "backbone": request.backbone}
        about |= {"weights": arguments.weights, "provenance": provenance(request.device)}
        write_json(arguments.output, about | {"rows": rows})
    return f"{arguments.output}: {len(rows)} cases"


def selfcheck(arguments: Namespace) -> str:
    """Build and run the paper's networks at full size on random weights."""
    import torch

    from artune.bench import format_table
    from artune.config.registry import Registry
    from artune.selfcheck import Machine, selfcheck

    machine = Machine(device_of(arguments), getattr(torch, arguments.dtype))
    registry = Registry("imagenet", settings_of(arguments).preset)  # whatever scale is configured
    rows, line = selfcheck(registry, arguments.backbone, machine, arguments.output)
    print(format_table([row.__dict__ for row in rows]))  # noqa: T201
    return line
