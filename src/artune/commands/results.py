"""Commands that write tables, figures, costs, claims and the report."""

from argparse import Namespace
from pathlib import Path

from artune.commands.context import Context, entry
from artune.errors import ArtuneError, no_such_file


def table(context: Context, arguments: Namespace) -> str:
    """Write a table as CSV, and as Markdown and LaTeX beside it; or the latter two from its CSV."""
    from artune.config.paper import available_runs, find_table
    from artune.results.baselines import read_paired
    from artune.results.committed import read_table
    from artune.results.table_text import write_latex, write_markdown
    from artune.results.tables import build_table, read_scores, write_csv
    from artune.runtime.files import read_json

    registry = context.registry
    layout = find_table(registry, arguments.table)
    if arguments.csv:
        if arguments.runs or arguments.output:
            raise ArtuneError("table: --csv writes beside that file and reads no runs; leave out --runs and --output")
        frame = read_table(registry, arguments.table, arguments.csv)
        write_markdown(frame, registry, arguments.table, arguments.csv.with_suffix(".md"))
        write_latex(frame, registry, arguments.table, arguments.csv.with_suffix(".tex"))
        return f"{arguments.csv.with_suffix('.md')}: {len(frame)} rows of {arguments.csv}"
    if not (arguments.runs and arguments.output):
        raise ArtuneError("table: give --runs and --output, or --csv of a table that is there")
    seeds = layout.repetitions(context.settings.seeds)
    if layout.kind == "study":
        from artune.results.study.table import build_study_table

        judged = read_json(arguments.judge) if arguments.judge else None
        frame = build_study_table(registry, arguments.table, read_json(arguments.tally), judged)
    else:
        scores = {
            run: [read_scores(arguments.runs / name) for name in registry.seed_names(run, seeds)]
            for run in available_runs(registry, layout.rows)
        }
        paired = read_paired(arguments.differences) if arguments.differences else None
        frame = build_table(registry, arguments.table, scores, paired)
    write_markdown(frame, registry, arguments.table, arguments.output.with_suffix(".md"))
    write_latex(frame, registry, arguments.table, arguments.output.with_suffix(".tex"))
    write_csv(frame, arguments.output)
    return f"{arguments.output}: {len(frame)} rows, seeds {seeds}"


def seed_differences(context: Context, arguments: Namespace) -> str:
    """Write the differences of a table's rows seed by seed as CSV, and as Markdown beside it."""
    from artune.config.paper import available_runs, find_table
    from artune.results.seed_differences import seed_differences as differences
    from artune.results.seed_differences import write_differences
    from artune.results.tables import read_scores, write_csv

    registry = context.registry
    layout = find_table(registry, arguments.table)
    seeds = layout.repetitions(context.settings.seeds)
    scores = {
        run: [read_scores(arguments.runs / name) for name in registry.seed_names(run, seeds)]
        for run in available_runs(registry, layout.rows)
    }
    frame = differences(registry, arguments.table, scores)
    write_differences(frame, registry, arguments.table, arguments.output.with_suffix(".md"))
    write_csv(frame, arguments.output)
    return f"{arguments.output}: {len(frame)} differences, seeds {seeds}"


def figure(context: Context, arguments: Namespace) -> str:
    """Draw a figure as PDF, as PNG beside it, and write its caption beside them."""
    from artune.results.figures.draw import draw_figure

    settings, files = context.settings, (arguments.results, arguments.output)
    smoothing = arguments.smoothing or settings.figure2.smoothing
    return draw_figure(context.registry, arguments.figure, *files, smoothing, arguments.compare, settings.seeds)


def figure_samples(context: Context, arguments: Namespace) -> str:
    """Draw images of the classes that a figure shows."""
    from artune.config.run import read_policy_run
    from artune.data.prompts import class_names
    from artune.models.policies.checkpoint import load_policy
    from artune.results.figures.samples import choose_classes
    from artune.runtime.files import save_npz
    from artune.sampling.generate import Sampler
    from artune.sampling.grids import grid_images
    from artune.sampling.rollout import load_renderer

    registry, device = context.registry, context.device
    chosen = entry(registry.figures, arguments.figure, "figure")
    run = read_policy_run(arguments.config)
    ids = choose_classes(chosen, class_names(run.data))
    sampler = Sampler(load_policy(arguments.policy, run.backbone, device), run.sampling)
    render = load_renderer(run, arguments.tokenizer, device)
    images = grid_images(sampler, render, ids, chosen.per_class, chosen.seed, device)
    save_npz(arguments.output, {"images": images})
    return f"{arguments.output}: {len(ids)} classes of {run.name}"


def costs(context: Context, arguments: Namespace) -> str:
    """Write the seconds per stage beside the paper's."""
    from artune.planning.costs import write_costs

    return write_costs(context.registry, arguments.timings, arguments.output)


TARGETS = ("tables", "figures", "report")  # targets of users; the graph shows the rules behind them


def claims(context: Context, arguments: Namespace) -> str:
    """Judge the paper's claims by the measurements."""
    from artune.results.claims import write_claims
    from artune.results.committed import write_table_claims

    if not (arguments.results / "runs").is_dir() and any(arguments.results.glob("table*.csv")):  # docs/results-mnist
        return write_table_claims(context.registry, arguments.results, arguments.output)
    return write_claims(context.registry, arguments.results, context.settings.seeds, arguments.output)


def expected(context: Context, arguments: Namespace) -> str:
    """Print a table beside the range of other seeds and machines, or add this machine's numbers to that range."""
    import csv
    import sys

    from artune.config.paper import find_table
    from artune.planning.sources import Sources
    from artune.results.expected import add_seen, compare_with_seen, read_seen

    registry, key = context.registry, arguments.table
    sources, layout = Sources(registry), find_table(registry, key)
    if layout.kind != "scores":
        raise ArtuneError(f"expected: {key} holds votes, not scores; name a table of scores")
    seen = arguments.output or Path(f"docs/results-{registry.results_name}/expected.csv")
    if arguments.machine:
        return add_seen(seen, layout, arguments.runs or Path(sources.runs), arguments.machine)
    path = Path(sources.folder) / "tables" / f"{key}.csv"
    if not path.exists():
        raise no_such_file(path)
    if not seen.exists():
        return f"no range is known for the scale {registry.results_name}: there is no {seen} (docs/tables.md)"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    *lines, verdict = compare_with_seen(layout, rows, read_seen(seen), sources.folder).splitlines()
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return verdict


def rulegraph(context: Context, arguments: Namespace) -> str:
    """Write Snakemake's graph of rules."""
    from artune.results.report.rulegraph import write_rulegraph

    return write_rulegraph(context.settings.scale, context.settings.preset, TARGETS, arguments.output)


def report(context: Context, arguments: Namespace) -> str:
    """Write the report: of one scale from its folder, or of all scales with results from the folder above."""
    from artune.config.registry import Registry
    from artune.config.yaml_layers import config_folder, scale_names
    from artune.results.report.page import write_report
    from artune.results.report.part import folders_of, read_part
    from artune.runtime.progress import warn
    from artune.tracking.source_code import git, web_address

    results, own = arguments.results, (context.settings.scale, context.settings.preset)
    found = folders_of(results, scale_names(config_folder()), own)
    if not found and not results.is_dir():
        raise no_such_file(results, "give the folder of a scale, or that of all results")
    parts = []
    for scale, preset, folder in found:
        try:
            parts.append(read_part(Registry(scale, preset), folder))
        except ArtuneError as error:
            if (scale, preset) == own:
                raise
            warn(f"{error}; the page is made without the scale {folder.name}")
    parts = parts or [read_part(context.registry, results)]
    remote = web_address(git("remote", "get-url", "origin"))
    return write_report(parts, arguments.output, f"{remote}/commit/" if remote else "")
