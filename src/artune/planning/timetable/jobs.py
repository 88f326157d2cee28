"""The jobs that a target needs if nothing exists yet, as Snakemake would plan them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from artune.errors import ArtuneError
from artune.planning.budget import RUN, TARGET, runs_of
from artune.planning.needs import paths_of, source_rules
from artune.planning.plan import Plan

STORE = "results/.mlflow_store.json"
PRIORITIES = {"mlflow_store": 5, "run_config": 4, "tokenizer": 3, "codes": 3, "pretrained_policy": 3}
BESIDE = {"train": ("metrics.jsonl", "timings.jsonl", "manifest.json"), "sample": ("grid.png",)}
BESIDE["real_samples"] = BESIDE["sample"]
TEMPORARY = ("sample", "real_samples", "study_samples")  # rules whose first output is removed after its last use


@dataclass(frozen=True)
class Job:
    """A job of the workflow: the rule, the value of its wildcard ("" without one), the files it reads and writes."""

    rule: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def priority(self) -> int:
        """The rule's priority in ``workflow/rules``; a job of higher priority starts first."""
        return PRIORITIES.get(self.rule, 0)

    @property
    def temporary(self) -> str | None:
        """The output that Snakemake removes after its last use."""
        return self.outputs[0] if self.rule in TEMPORARY else None


def jobs_of(plan: Plan, target: str) -> list[Job]:
    """The jobs of ``target``, each after the jobs that it needs.

    Raises:
        ArtuneError: as :func:`artune.planning.budget.runs_of`; or the plan is not of the imagenet scale.
    """
    if plan.registry.data.source != "imagenet":
        raise ArtuneError(f"{plan.scale}: a timetable is of the imagenet scale; leave out --scale")
    makers = {output: job for job in _every(plan) for output in job.outputs}
    found: dict[str, Job] = {}

    def need(path: str) -> None:
        job = makers.get(path)
        if job is None or job.outputs[0] in found:  # a file of the user, or a job that is there
            return
        for source in job.inputs:
            need(source)
        found[job.outputs[0]] = job

    for path in _ends(plan, target):
        need(path)
    return list(found.values())


def _ends(plan: Plan, target: str) -> list[str]:
    """The files that stand for a target, as a user would give them to Snakemake."""
    trained, scored = runs_of(plan, target)
    if target == "paper":
        tables = [name for name in plan.registry.tables if not name.startswith("extra_")]
        return [*(f"results/{name}.csv" for name in tables), *(f"results/{name}.pdf" for name in plan.figures)]
    match = TARGET.fullmatch(target) or RUN.fullmatch(target)
    name = match["name"] if match else target
    if name in plan.registry.tables:
        return [f"results/{name}.csv"]
    if name in plan.registry.figures:
        return [f"results/{name}.pdf"]
    return [f"{plan.runs}/{run}/scores.json" for run in scored or trained]


def _every(plan: Plan) -> Iterator[Job]:
    """Every job of the scale."""
    yield Job("mlflow_store", "", (), (STORE,))
    for key in plan.registry.assets:
        yield Job("asset", key, (), (plan.asset(key),))
    for output, (rule, inputs) in source_rules(plan).items():
        rule, _, name = rule.partition(" ")
        if rule not in ("train", "real_samples", "study_make"):  # which _of_run and _of_study tell in full
            place = Path(output)
            called = name or {"further_reference": place.stem, "class_moments": "", "reference": ""}.get(
                rule, place.parent.name
            )
            yield Job(rule, called, tuple(dict.fromkeys(inputs)), (output,))
    for name in plan.registry.run_names:
        if not plan.registry.unavailable(name):
            for run in plan.registry.seed_names(name, plan.settings.seeds):
                yield from _of_run(plan, run)
    yield from _of_tables(plan)
    yield from _of_study(plan)


def _of_run(plan: Plan, run: str) -> Iterator[Job]:
    folder = f"{plan.runs}/{run}"
    config, scores = f"{folder}/config.yaml", plan.samples(run)
    yield Job("run_config", run, (), (config,))
    if plan.timings(run) == [f"{folder}/timings.jsonl"]:
        written = (plan.policy(run), *_beside(folder, "train"), *plan.snapshots(run))
        yield Job("train", run, _inputs(paths_of(plan.train(run))), written)
    if plan.spec(run)["method"] == "real":
        yield Job("real_samples", run, (config, plan.real(run)), (scores, *_beside(folder, "real_samples")))
    else:
        weights = (plan.policy(run), plan.prior(run), plan.tokenizer(run))
        yield Job("sample", run, _inputs([config, *weights]), (scores, *_beside(folder, "sample")))
    features = f"{folder}/features.npz"
    yield Job("features", run, (scores, *plan.evaluation_networks()), (features,))
    references = [*paths_of(plan.further_references()), plan.reference_moments()]
    inputs = _inputs([*references, config, features, *plan.timings(run)])
    yield Job("evaluate", run, inputs, (f"{folder}/scores.json",))


def _beside(folder: str, rule: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in BESIDE[rule])


def _inputs(paths: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(paths))


def _of_tables(plan: Plan) -> Iterator[Job]:
    """Jobs of tables and figures."""
    for table in plan.registry.tables:
        written = tuple(f"{plan.folder}/tables/{table}.{kind}" for kind in ("csv", "md", "tex"))
        if table in plan.score_tables:
            scores = tuple(plan.scores(table))
            yield Job("table", table, scores, written)
            yield Job("mlflow_log", table, (STORE, *scores), tuple(plan.tracked(table)))
            yield Job("seed_differences", table, scores, (f"{plan.folder}/tables/{table}.seeds.csv",))
        published = tuple(f"results/{table}.{kind}" for kind in ("csv", "md", "tex"))
        yield Job("publish_table", table, (*written, *plan.tracked(table), *plan.seed_differences(table)), published)
    for figure in plan.figures:
        layout = plan.registry.figures[figure]
        for run, images in zip(layout.runs, plan.figure(figure), strict=False):
            if layout.kind == "samples":
                weights = (f"{plan.runs}/{run}/config.yaml", plan.policy(run), plan.tokenizer(run))
                yield Job("figure_samples", f"{figure} {run}", _inputs([*weights]), (images,))
        drawn = tuple(f"{plan.folder}/figures/{figure}.{kind}" for kind in ("pdf", "png", "txt"))
        yield Job("figure", figure, tuple(plan.figure(figure)), drawn)
        yield Job("publish_figure", figure, drawn, tuple(f"results/{figure}.{kind}" for kind in ("pdf", "png", "txt")))


def _of_study(plan: Plan) -> Iterator[Job]:
    """Jobs of the human study; its votes are people's."""
    for path in dict.fromkeys(plan.study_samples()):
        run = Path(path).stem
        weights = (f"{plan.runs}/{run}/config.yaml", plan.policy(run), plan.tokenizer(run))
        yield Job("study_samples", run, _inputs([*weights]), (path,))
    yield Job("study_make", "", _inputs([*plan.study_samples(), plan.study_images()]), (plan.study_pairs(),))
    for judged in plan.study_judge():
        yield Job("study_judge", "", (plan.study_pairs(), *plan.judge_networks()), (judged,))
    tally = f"{plan.folder}/study/tally.json"
    yield Job("study_tally", "", tuple(plan.votes()), (tally,))
    for table in plan.study_tables:
        written = tuple(f"{plan.folder}/tables/{table}.{kind}" for kind in ("csv", "md", "tex"))
        yield Job("study_table", table, (tally, *plan.study_judge()), written)
