"""GPU hours of a target of the workflow: the command ``plan``. Never imports torch."""

import re
from dataclasses import dataclass
from pathlib import Path

from artune.config.run import GrpoRun, MleRun, VapiRun
from artune.config.sizes import crops_per_image
from artune.errors import ArtuneError, near, unknown
from artune.planning.costs import Costs
from artune.planning.floors import TRAINING_IMAGES
from artune.planning.gpu_hours import (
    Gpu,
    encoding_hours,
    evaluation_hours,
    features_hours,
    floor_machine,
    training_hours,
)
from artune.planning.plan import Plan
from artune.planning.recipes import code_sequences
from artune.planning.sources import REFERENCES, TRAINED

TARGET = re.compile(
    r"(?:results/(?:(?P<folder>[\w-]+)/(?:tables|figures)/)?)?(?P<name>(?:table|figure|extra_)\w+)(?:\.\w+)?"
)
UNKNOWN = "the paper gives no figure"
RUN = re.compile(r"(?:results/(?P<folder>[\w-]+)/runs/)?(?P<name>[\w-]+)(?:/[\w.]+)?")


@dataclass(frozen=True)
class Line:
    """A training, an evaluation or an input and its GPU hours; ``remark`` says what ``hours`` leave out.

    ``hours`` follow from the seconds per image in config/costs.yaml (the paper's, or measured), ``ours`` from this
    code's stages.
    """

    run: str
    work: str
    hours: float
    ours: float
    remark: str = ""


def runs_of(plan: Plan, target: str) -> tuple[list[str], list[str]]:
    """The runs that ``target`` trains and those it evaluates.

    Args:
        plan: plan of the scale whose hours are counted.
        target: ``paper`` (every table and figure of the paper), a table, a figure or a run, by name or as a file.

    Raises:
        ArtuneError: no such target, or a target of another scale.
    """
    tables = [name for name in plan.score_tables if name.startswith("table")]
    if target == "paper":
        figures = [runs_of(plan, name)[0] for name in plan.figures]
        scored = [run for table in tables for run in plan.table_runs(table)]
        return _trained(plan, [*scored, *(run for runs in figures for run in runs)]), list(dict.fromkeys(scored))
    match = TARGET.fullmatch(target) or RUN.fullmatch(target)
    name = match["name"] if match else target
    own = plan.registry.results_name
    if match and match["folder"] not in (None, own):
        raise ArtuneError(f"{target}: hours are counted at the {plan.scale} scale, for results/{own}; give {name}")
    if name in plan.registry.tables:
        runs = plan.table_runs(name) if name in plan.score_tables else []
        return _trained(plan, runs), runs
    if name in plan.registry.figures:
        chosen = plan.registry.figures[name]
        compared = plan.settings.figure2.compare if chosen.kind == "training_dynamics" else ()
        return _trained(plan, [*chosen.shown, *compared]), list(chosen.shown) if chosen.curves else []
    known = "paper, results/table4.csv, results/figure2.pdf or a run such as llamagen_l-ours"
    try:
        plan.registry.split_seed(name)
    except ArtuneError as error:
        every = ("paper", *plan.registry.tables, *plan.registry.figures, *plan.registry.run_names)
        meant = near(Path(target).stem, every)
        raise ArtuneError(f"{target}: unknown target; {meant or f'plan takes {known}'}") from error
    return _trained(plan, [name]), [name]


def _trained(plan: Plan, runs: list[str]) -> list[str]:
    own = [run for run in dict.fromkeys(runs) if "policy" not in plan.spec(run)]
    return [run for run in own if plan.spec(run)["method"] in TRAINED]


def training(plan: Plan, costs: Costs, machine: Gpu, name: str) -> Line:
    """GPU hours of tuning ``name``: seconds of its stages x images x iterations."""
    run = plan.registry.resolve(name)
    if isinstance(run, GrpoRun):
        iterations, images, stages = run.grpo.iterations, run.grpo.prompts * run.grpo.group_size, ["generate", "update"]
        stages += run.rewards.terms
    elif isinstance(run, MleRun):
        iterations, images, stages = run.mle.iterations, run.mle.batch, ["update"]
    elif isinstance(run, VapiRun):
        iterations, images, stages = run.vapi.iterations, run.vapi.images * run.vapi.group_size, ["update"]
    else:
        raise ArtuneError(f"{name}: is not trained here; name a run that is")
    unknown = [stage for stage in stages if stage not in costs.stages]
    hours = iterations * images * sum(costs.seconds(stage) for stage in stages) / 3600
    remark = f"without {', '.join(unknown)}: no figure" if unknown else ""
    return Line(name, f"train {iterations} x {images} images", hours, training_hours(run, machine), remark)


def evaluation(plan: Plan, costs: Costs, machine: Gpu, name: str) -> Line:
    """GPU hours of drawing the samples that ``name`` is scored on; ``ours`` includes their features."""
    registry = plan.registry
    samples = registry.evaluation.samples
    drawn = 0 if plan.spec(name)["method"] == "real" else samples
    ours = evaluation_hours(registry.resolve(name), registry.evaluation, registry.networks, machine)
    return Line(name, f"evaluate {samples} images", drawn * costs.seconds("generate") / 3600, ours)


def encoding(plan: Plan, machine: Gpu, tokenizer: str) -> Line:
    """GPU hours of the token codes of ImageNet's training images: as many crops as a run can use."""
    registry = plan.registry
    crops = crops_per_image(code_sequences(registry, tokenizer), TRAINING_IMAGES)
    tokens = (registry.data.image_size // registry.tokenizers[tokenizer].downsampling) ** 2
    ours = encoding_hours(TRAINING_IMAGES * crops, tokens, machine)
    return Line(f"codes of {tokenizer}", f"encode {TRAINING_IMAGES} x {crops} crops", 0.0, ours, UNKNOWN)


def moments(plan: Plan, machine: Gpu, rule: str, network: str) -> Line:
    """GPU hours of a pass of the training images through a network, in which rule ``rule`` takes their moments."""
    images = plan.registry.data.moment_images or TRAINING_IMAGES
    ours = features_hours([plan.registry.networks[network]], images, machine)
    return Line(rule, f"features of {images} images", 0.0, ours, f"under {network}; {UNKNOWN}")


def inputs(plan: Plan, machine: Gpu, trained: list[str], evaluated: list[str]) -> list[Line]:
    """One line per input that takes a pass over all training images: token codes, moments."""
    files = {run: plan.train(run) for run in trained}
    rewards = {run: plan.spec(run)["rewards"] for run in trained if plan.spec(run)["method"] == "grpo"}
    named = [
        (files[run][file], rewards[run][reward]["network"])
        for run in rewards
        for reward, file in REFERENCES.items()
        if file in files[run]
    ]
    codes = dict.fromkeys(plan.spec(run)["backbone"]["tokenizer"] for run in trained if "codes" in files[run])
    own = [network for file, network in named if file == plan.train_moments(network)]
    own += [plan.registry.evaluation.reward_features] if evaluated and "moments" in plan.reference() else []
    classes = dict.fromkeys(rewards[run]["loo_fid"]["network"] for run in rewards if "class_moments" in files[run])
    lines = [encoding(plan, machine, tokenizer) for tokenizer in codes]
    lines += [moments(plan, machine, "train_moments", name) for name in dict.fromkeys(own)]
    return lines + [moments(plan, machine, "class_moments", name) for name in classes]


def budget(plan: Plan, costs: Costs, target: str, machine: Gpu | None = None) -> list[Line]:
    """One line per training, evaluation and large input that ``target`` needs if nothing exists yet.

    Args:
        plan: plan of the imagenet scale.
        costs: seconds per iteration, the paper's or measured.
        target: as :func:`runs_of`.
        machine: GPU of ``ours``; None: an H100 at its published peaks.

    Raises:
        ArtuneError: as :func:`runs_of`.
    """
    trained, evaluated = runs_of(plan, target)
    machine = machine or floor_machine()
    lines = [training(plan, costs, machine, run) for run in trained]
    lines += [evaluation(plan, costs, machine, run) for run in evaluated]
    return lines + inputs(plan, machine, trained, evaluated)


def format_budget(lines: list[Line], costs: Costs, machine: Gpu) -> str:
    """The lines as text columns, and what the columns of hours mean.

    Args:
        lines: from :func:`budget`.
        costs: the seconds behind the column ``GPU hours``.
        machine: the GPU behind the column ``this code``.
    """
    rows = [
        f"{line.run:30} {line.work:28} {line.hours:9.1f} {line.ours:9.2f}  {line.remark}".rstrip() for line in lines
    ]
    meaning = [
        f"  GPU hours: hours of one {costs.device}, by the seconds per image in config/costs.yaml",
        f"  this code: hours of one {machine.name}, by the arithmetic that this code does",
    ]
    return "\n".join([f"{'run':30} {'work':28} {'GPU hours':>9} {'this code':>9}", *rows, *meaning])


def minutes(plan: Plan, target: str) -> tuple[list[str], float]:
    """What ``target`` takes at an embedded scale if nothing exists yet: lines of text, and minutes of one CPU thread.

    A backbone that a part was not timed with counts as the first one that it was, and its line says so.

    Raises:
        ArtuneError: as :func:`runs_of`, or the scale's file has no ``about.seconds``, or these name no backbone.
    """
    seconds, file = plan.registry.about.seconds, f"config/scales/{plan.scale}.yaml: about.seconds"
    if seconds is None:
        raise ArtuneError(
            f"{file}: missing, so that the minutes of the {plan.scale} scale are not known; measure them as "
            "config/scales/mnist.yaml says, or give another --scale (without it: GPU hours at imagenet)"
        )
    parts = {name: part for name, part in dict(seconds).items() if isinstance(part, dict)}
    for name in (name for part in parts.values() for name in part if name not in plan.registry.backbones):
        raise ArtuneError(f"{file}: {unknown(name, plan.registry.backbones, 'backbone')}")
    trained, evaluated = runs_of(plan, target)
    needing = [run for run in (*trained, *evaluated) if plan.spec(run)["method"] != "real"]

    def row(what: str, part: str, backbone: str | None, times: int = 1) -> tuple[str, float, str]:
        measured = parts[part]
        stands = backbone if backbone in measured else next(iter(measured))
        return what, times * measured[stands], "" if backbone in (stands, None) else f"timed with {stands}"

    rows = [("inputs, once", seconds.inputs, "")]
    further = dict.fromkeys(str(plan.registry.split(run)[1].inputs) for run in needing)
    rows += [(f"inputs of {seeds}", seconds.inputs, "at most, as all plain ones") for seeds in further if seeds]
    for name in dict.fromkeys(plan.registry.pretrained_name(run) for run in needing):
        rows.append(row(f"prior {name}", "prior", plan.registry.split_prior(name)[0]))
    for name in trained:
        spec = plan.spec(name)
        method, backbone = spec["method"], spec["backbone_name"]
        rows.append(row(f"train {name}", method, backbone, spec[method]["iterations"]))
    rows += [row(f"evaluate {name}", "evaluation", plan.spec(name).get("backbone_name")) for name in evaluated]
    lines = [f"{what:50} {taken / 60:11.1f}  {note}".rstrip() for what, taken, note in rows]
    return [f"{'part':50} {'CPU minutes':>11}", *lines], sum(taken for _, taken, _ in rows) / 60
