"""Commands to use before a cluster runs: costs of a target, checks of the machine, settings, benchmarks."""

import functools
import shutil
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from artune.commands.context import Context
from artune.commands.streams import print_result
from artune.config.registry import Registry
from artune.config.yaml_layers import config_folder

if TYPE_CHECKING:
    import torch

    from artune.planning.gpu_hours import Gpu
    from artune.planning.plan import Plan

PROFILE = Path("slurm_a100")


def plan(context: Context, arguments: Namespace) -> str:
    """Print the trainings and evaluations of a target: GPU hours and cards at imagenet, or minutes at ``--scale``."""
    from artune.errors import ArtuneError
    from artune.planning.budget import budget, format_budget
    from artune.planning.costs import read_costs
    from artune.planning.gpu_hours import floor_machine, measured_machine
    from artune.planning.memory.cards import card_lines
    from artune.planning.plan import Plan
    from artune.planning.timetable.options import ASSUMPTIONS, option

    if arguments.scale not in (None, "imagenet"):
        return _minutes(context, arguments)
    settings = context.settings.model_dump() | {"scale": "imagenet"}
    figures = read_costs(config_folder())
    costs = figures.measured or figures.paper
    plan = Plan(settings, config_folder())
    machine = measured_machine(plan.registry, arguments.costs) if arguments.costs else floor_machine()
    if arguments.timetable:
        return _timetable(plan, arguments, machine if arguments.costs else None)
    for name in ("machine", *ASSUMPTIONS):
        if getattr(arguments, name, None) is not None:
            raise ArtuneError(f"{option(name)}: says something of a timetable; add --timetable")
    lines = budget(plan, costs, arguments.target, machine)
    text = format_budget(lines, costs, machine)
    trained, evaluated = (sum(line.work.startswith(work) for line in lines) for work in ("train", "evaluate"))
    if costs.training is not None and trained:
        low, high = (trained * hours for hours in costs.training)
        text += f"\n  Sec. 4 of the paper says {low:.0f}-{high:.0f} GPU hours for {trained} trainings"
    tuned = [plan.registry.resolve(line.run) for line in lines if line.work.startswith("train")]
    print_result("\n".join([text, *card_lines(tuned)]))
    whose = "measured" if figures.measured else "the paper's, App. E"
    return (
        f"{arguments.target}: trainings {trained}, evaluations {evaluated}, "
        f"{sum(line.hours for line in lines):.0f} hours of one {costs.device} by config/costs.yaml ({whose}); "
        f"this code {sum(line.ours for line in lines):.1f} hours of one {machine.name}"
    )


def _timetable(plan: "Plan", arguments: Namespace, measured: "Gpu | None") -> str:
    """Print a target hour by hour on the machines that ``arguments`` choose; returns the last line."""
    from dataclasses import fields

    from artune.planning.timetable.jobs import jobs_of
    from artune.planning.timetable.machines import MACHINES, Assumed
    from artune.planning.timetable.machines import machine as machine_of
    from artune.planning.timetable.schedule import Schedule
    from artune.planning.timetable.text import assumptions, conclusion, format_schedule

    given = {field.name: getattr(arguments, field.name, None) for field in fields(Assumed)}
    assumed = Assumed(**{name: value for name, value in given.items() if value is not None})
    names = [arguments.machine] if arguments.machine else list(MACHINES)
    machines = [machine_of(name, assumed, measured) for name in names]
    schedules = [Schedule(plan, jobs_of(plan, arguments.target), machine) for machine in machines]
    print_result("\n\n".join([assumptions(machines, assumed), *map(format_schedule, schedules)]))
    return f"{arguments.target}: {'; '.join(map(conclusion, schedules))}"


def doctor(context: Context, arguments: Namespace) -> str:
    """Check machine, files and tracking store for a scale, for imagenet the cluster too; prints one line per check."""
    from artune.planning.doctor import conclude, examine
    from artune.planning.slurm import read_profile

    settings = context.settings
    scale = arguments.scale or ("imagenet" if arguments.profile else settings.scale)  # the scale of the profiles
    there = scale == "imagenet" and shutil.which("sinfo") and PROFILE.exists()
    profile = arguments.profile or (PROFILE if there else None)
    if profile is not None:
        read_profile(profile)
    registry = Registry(scale, settings.preset)
    findings = examine(registry, Path(settings.assets), context.tracking_uri, profile, Path(settings.datasets))
    print_result("\n".join(map(str, findings)))
    return conclude(findings)


def _minutes(context: Context, arguments: Namespace) -> str:
    """Print what a target takes at an embedded scale whose file has ``about.seconds``; returns the last line."""
    from artune.planning.budget import minutes
    from artune.planning.plan import Plan

    lines, total = minutes(Plan(context.settings.model_dump(), config_folder()), arguments.target)
    print_result("\n".join(lines))
    return f"{arguments.target}: {total:.0f} minutes of one CPU thread at the {arguments.scale} scale"


def show(context: Context, arguments: Namespace) -> str:
    """Print the settings of a run and of its evaluation, and the layer that set each."""
    from artune.planning.layers import edits_without_effect, origins
    from artune.runtime.progress import warn

    registry = context.registry
    registry.resolve(arguments.run)
    lines = []
    for key, settings in origins(registry, arguments.run).items():
        value, where = settings[-1]
        below = "; ".join(f"{other!s} in {layer}" for other, layer in reversed(settings[:-1]) if other != value)
        lines.append(f"{key:38} {value!s:28} {where}{f'  (overrides {below})' if below else ''}")
    print_result("\n".join(lines))
    for line in edits_without_effect(registry):
        warn(line)
    return f"{arguments.run} at the {registry.scale} scale, preset {registry.preset}"


def bench(context: Context, arguments: Namespace) -> str:
    """Time a part of the method."""
    if arguments.target == "suite":
        return _suite(context, arguments)
    from artune.bench.measure import Request
    from artune.bench.run import format_table, run_benchmark
    from artune.runtime.files import write_json
    from artune.tracking.provenance import provenance

    sizes = {name: getattr(arguments, name) for name in ("backbone", "images", "tokens", "repeats", "output")}
    request = Request(context.registry, context.device, **sizes)
    rows = run_benchmark(arguments.target, request)
    kept: Path | None = arguments.output
    if kept is not None and (arguments.target != "iteration" or kept.suffix != ".jsonl"):  # else it is written
        about = {"target": arguments.target, "scale": request.registry.scale, "backbone": request.backbone}
        about |= {"weights": arguments.weights, "provenance": provenance(request.device)}
        write_json(kept, about | {"rows": rows})
    print_result(format_table(rows), kept)
    return f"{kept}: {len(rows)} cases" if kept else f"{len(rows)} cases"


def _suite(context: Context, arguments: Namespace) -> str:
    """Run the suite on a GPU at the imagenet scale, on a CPU at the smoke scale, unless ``--scale`` names another."""
    from artune.bench.suite.supervise import run_suite

    arguments.device = "cpu" if context.settings.device == "cpu" else "cuda"  # never the full sizes on a CPU by mistake
    arguments.scale = arguments.scale or ("smoke" if arguments.device == "cpu" else "imagenet")
    output = arguments.output or Path(f"results/{arguments.scale}/bench/suite.json")
    place = functools.partial(_registry_and_device, arguments)
    return run_suite(place, output, arguments.parts, arguments.limit, functools.partial(print_result, kept=output))


def _registry_and_device(arguments: Namespace) -> "tuple[Registry, torch.device]":
    """Settings and device in the process that computes; the one that watches it never imports torch."""
    context = Context(arguments)
    return context.registry, context.device


def selfcheck(context: Context, arguments: Namespace) -> str:
    """Build and run the paper's networks at full size on random weights."""
    import torch

    from artune.bench.run import format_table
    from artune.bench.selfcheck import Machine, selfcheck
    from artune.config.registry import Registry

    machine = Machine(context.device, getattr(torch, arguments.dtype))
    registry = Registry("imagenet", context.settings.preset)  # regardless of the configured scale
    rows, line = selfcheck(registry, arguments.backbone, machine, arguments.output)
    print_result(format_table([row.__dict__ for row in rows]), kept=arguments.output)
    return line
