"""The timetable of the paper on one H100 and on four A100s: it has the jobs of the plan and fits the machine."""

import re
import subprocess
import sys
from argparse import Namespace
from collections import Counter
from dataclasses import replace

import pytest
import torch
from project import ROOT

from artune.commands.context import Context
from artune.commands.planning import plan as plan_command
from artune.config.yaml_layers import read_yaml
from artune.errors import ArtuneError
from artune.models.encoders.build import build_network
from artune.models.tokenizers.build import build_tokenizer
from artune.planning.budget import runs_of
from artune.planning.gpu_hours import Gpu, iteration_floor
from artune.planning.plan import Plan
from artune.planning.timetable.durations import duration, gpu_hours
from artune.planning.timetable.jobs import PRIORITIES, TEMPORARY, jobs_of
from artune.planning.timetable.machines import LOCAL, MACHINES, Assumed, machine
from artune.planning.timetable.schedule import Schedule
from artune.planning.timetable.sizes import (
    NETWORK_WEIGHTS,
    TOKENIZER_WEIGHTS,
    asset_bytes,
    brought_bytes,
    kept_bytes,
    passing_bytes,
)
from artune.planning.timetable.text import conclusion, format_schedule

PROFILES = ROOT / "workflow/profiles"
PLAN = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet"}, ROOT / "config")


@pytest.fixture(scope="module", params=MACHINES)
def paper(request):
    return Schedule(PLAN, jobs_of(PLAN, "paper"), machine(request.param, Assumed(), root=PROFILES))


def ticks(schedule):
    return sorted({run.start for run in schedule.table})


def test_every_training_and_evaluation_of_the_plan_occurs_once(paper):
    trained, evaluated = runs_of(PLAN, "paper")
    assert Counter(run.job.name for run in paper.table if run.job.rule == "train") == Counter(trained)
    for rule in ("sample", "features", "evaluate"):
        assert Counter(run.job.name for run in paper.table if run.job.rule == rule) == Counter(evaluated)
    outputs = [path for run in paper.table for path in run.job.outputs]
    assert len(outputs) == len(set(outputs))
    assert len(paper.table) == len(paper.jobs)


def test_no_job_starts_before_the_jobs_that_it_needs_have_ended(paper):
    ends = {path: run.end for run in paper.table for path in run.job.outputs}
    needed = [(run, path) for run in paper.table for path in run.job.inputs]
    assert len(needed) > 500
    for run, path in needed:
        assert run.start >= ends[path] - 1e-9, f"{run.job} starts before {path}"


def test_no_more_gpus_processors_or_downloads_than_there_are(paper):
    held = set()
    for now in ticks(paper):
        running = [run for run in paper.table if run.start <= now < run.end]
        held.add(sum(run.gpus for run in running))
        assert sum(run.gpus for run in running) <= paper.machine.gpus
        assert sum(paper.request(run.job).threads for run in running) <= paper.machine.assumed.cores
        assert sum(run.job.rule == "asset" for run in running) <= 1
        if paper.machine.jobs is not None:
            assert sum(run.job.rule not in LOCAL for run in running) <= paper.machine.jobs
    assert max(held) == paper.machine.gpus
    if paper.machine.gpus == 4:
        assert held & {2, 3}  # jobs of one GPU run side by side


def test_the_disk_is_what_the_files_of_the_moment_take(paper):
    """Counted again from the lines: what is brought, what ended jobs left, what running ones hold, less what was removed."""
    assert paper.disk > 0
    last = {path: max(run.end for run in paper.table if path in run.job.inputs)
            for job in paper.jobs if (path := job.temporary)}  # fmt: skip
    assert set(last) == {job.outputs[0] for job in paper.jobs if job.rule in TEMPORARY}
    peak, brought = 0.0, brought_bytes(PLAN, paper.jobs)
    for now in ticks(paper):
        used = brought
        for run in paper.table:
            if run.start <= now and not last.get(run.job.temporary, now + 1) <= now:
                used += kept_bytes(PLAN, run.job)
            used += passing_bytes(PLAN, run.job) if run.start <= now < run.end else 0
        assert used > 0
        peak = max(peak, used)
    assert paper.peak == pytest.approx(peak, rel=1e-3)
    left = sum(kept_bytes(PLAN, job) for job in paper.jobs if job.temporary is None)
    assert paper.disk == pytest.approx(brought + left)


def test_the_totals_are_the_sums_of_the_lines(paper):
    assert paper.hours == pytest.approx(max(run.end for run in paper.table))
    assert paper.gpu_hours == pytest.approx(sum(run.hours * run.gpus for run in paper.table))
    busy = sum(run.hours * run.gpus for run in paper.table) / paper.machine.gpus
    assert busy <= paper.hours
    lines = format_schedule(paper).splitlines()
    assert lines[-1] == conclusion(paper)
    assert re.fullmatch(
        rf"{paper.machine.name}: {paper.hours:.1f} hours, .* {paper.peak / 1e9:.0f} GB .*, 337 jobs", lines[-1]
    )
    listed = [line for line in lines if re.match(r" +\d+\.\d\d", line)]
    left_out = int(re.search(r"(\d+) jobs of less than three minutes", lines[-2])[1])
    assert len(listed) + left_out == len(paper.table)
    for rule, number in (("train", 25), ("sample", 35), ("evaluate", 35)):
        assert sum(line.split()[-2] == rule for line in listed) == number
    assert float(listed[-1][20:28]) <= paper.gpu_hours + 0.05  # the GPU hours so far


def test_a_sampling_takes_the_features_as_well_once_the_networks_are_there():
    jobs = jobs_of(PLAN, "llamagen_l-pretrained")
    (sample,), (features,) = ([job for job in jobs if job.rule == rule] for rule in ("sample", "features"))
    whole = machine("h100", Assumed(), root=PROFILES)
    early, late = (gpu_hours(PLAN, sample, whole, there) for there in ((), PLAN.evaluation_networks()))
    alone = gpu_hours(PLAN, features, whole, ())
    assert late - early == pytest.approx(alone)
    assert alone > 0.1
    hours = {run.job.rule: run.hours for run in Schedule(PLAN, jobs, whole).table}
    assert hours["sample"] > late  # with the features, since the networks are there by then
    assert hours["features"] < 0.05  # which only renames their file


def test_four_gpus_share_the_samples_without_loss():
    (sample,) = [job for job in jobs_of(PLAN, "llamagen_l-pretrained") if job.rule == "sample"]
    four = machine("a100", Assumed(), root=PROFILES)
    alone = replace(four, requests={})
    assert gpu_hours(PLAN, sample, four, ()) == pytest.approx(gpu_hours(PLAN, sample, alone, ()) / 4)


def test_four_gpus_divide_the_work_of_a_training_but_not_its_reading_of_the_weights():
    (train,) = [job for job in jobs_of(PLAN, "llamagen_l-ours") if job.rule == "train"]
    four = machine("a100", Assumed(), root=PROFILES)
    one = gpu_hours(PLAN, train, replace(four, requests={}), ())
    assert one / 4 < gpu_hours(PLAN, train, four, ()) < one / 3


def test_measured_figures_replace_the_assumed_share_on_their_own_card_alone():
    measured = Gpu("H100", dict.fromkeys(machine("h100", Assumed(), root=PROFILES).gpu.times, 10.0), "H100 as measured")
    (train,) = [job for job in jobs_of(PLAN, "llamagen_l-ours") if job.rule == "train"]
    h100, a100 = (machine(name, Assumed(), measured, PROFILES) for name in ("h100", "a100"))
    assert duration(PLAN, train, h100, ()).source == "measured"
    assert duration(PLAN, train, a100, ()).source == "counted"
    slower = (
        duration(PLAN, train, h100, ()).hours
        / duration(PLAN, train, machine("h100", Assumed(), root=PROFILES), ()).hours
    )
    assert slower > 1.8  # ten times the floor instead of 1 / 0.22


def test_a_faster_connection_and_a_higher_share_shorten_the_whole():
    def hours(**given):
        return Schedule(PLAN, jobs_of(PLAN, "table4"), machine("h100", Assumed(**given), root=PROFILES)).hours

    assert hours(share=0.44) < hours() < hours(download=1.0)
    assert hours(startup=600.0) > hours()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"share": 1.2}, "--share: 1.2 is out of range; give more than 0 and at most 1"),
        ({"share_float32": 0.0}, "--share-float32: 0 is out of range"),
        ({"download": -5.0}, "--download: -5 is out of range; give more than 0"),
        ({"startup": -1.0}, "--startup: -1 is out of range; give 0 or more"),
    ],
)
def test_assumptions_out_of_range_are_one_line(given, message):
    with pytest.raises(ArtuneError, match=message):
        Assumed(**given)


def test_what_runs_beside_snakemake_and_first_is_what_the_rules_say():
    local = re.search(r"localrules:.*?\n((?: +\w+,\n)+)", (ROOT / "Snakefile").read_text())[1]
    several = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet", "seeds": 2}, ROOT / "config")
    rules = {job.rule for plan, target in ((PLAN, "paper"), (several, "table4")) for job in jobs_of(plan, target)}
    assert set(LOCAL) == rules & set(re.findall(r"\w+", local))
    text = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    bodies = dict(re.findall(r"\n *rule (\w+):(.*?)(?=\n *rule |\Z)", text, re.S))
    written = {rule: int(found[1]) for rule in rules if (found := re.search(r"priority: (\d)", bodies[rule]))}
    assert written == PRIORITIES
    assert {rule for rule, body in bodies.items() if re.search(r"temp\(", body)} == set(TEMPORARY)


@pytest.mark.parametrize("architecture", NETWORK_WEIGHTS)
def test_weights_of_a_network_are_those_that_it_has(architecture):
    settings = {network.architecture: network for network in PLAN.registry.networks.values()}[architecture]
    with torch.device("meta"):
        network = build_network(
            settings, PLAN.registry.data, **({"empty": True} if "inception" in architecture else {})
        )
    count = sum(value.numel() for value in network.state_dict().values())
    assert count == pytest.approx(NETWORK_WEIGHTS[architecture], rel=0.02)


@pytest.mark.parametrize("name", PLAN.registry.tokenizers)
def test_weights_of_a_tokenizer_are_those_that_it_has(name):
    with torch.device("meta"):
        tokenizer = build_tokenizer(PLAN.registry.tokenizers[name], 256)
    count = sum(value.numel() for value in tokenizer.state_dict().values())
    assert count == pytest.approx(TOKENIZER_WEIGHTS[PLAN.registry.tokenizers[name].family], rel=0.02)


def test_large_files_have_the_bytes_of_their_shapes():
    jobs = {(job.rule, job.name): job for job in jobs_of(PLAN, "paper")}
    assert kept_bytes(PLAN, jobs["sample", "llamagen_l-ours"]) == pytest.approx(50_000 * 256 * 256 * 3, rel=1e-3)
    assert passing_bytes(PLAN, jobs["train", "llamagen_l-ours"]) == pytest.approx(3 * 4.1e9, rel=0.01)
    assert kept_bytes(PLAN, jobs["codes", "vq"]) == pytest.approx(1_281_167 * (256 * 2 + 8))
    assert asset_bytes(PLAN, "imagenet") == 138e9
    sizes = [asset_bytes(PLAN, job.name) for job in jobs.values() if job.rule == "asset"]
    assert min(sizes) > 1e7


def test_the_command_prints_both_machines_and_ends_with_their_totals(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = {"target": "table4", "timetable": True, "machine": None, "costs": None, "scale": None, "download": 200.0}
    context = Context(Namespace(scale=None, preset=None, seeds=None, threads=None, device=None))
    last = plan_command(context, Namespace(**words))
    out = capsys.readouterr().out
    assert "--download 200" in out
    for called in ("one H100", "four A100s"):
        assert re.search(rf"^{called}: \d+\.\d hours, .* GB of disk at the peak", out, re.M)
        assert f"{called}: " in last


def test_an_option_of_the_timetable_without_it_is_refused():
    words = {"target": "table4", "timetable": False, "costs": None, "scale": None, "share_float32": 0.5}
    context = Context(Namespace(scale=None, preset=None, seeds=None, threads=None, device=None))
    with pytest.raises(ArtuneError, match="--share-float32: says something of a timetable; add --timetable"):
        plan_command(context, Namespace(**words))


@pytest.mark.parametrize(("preset", "seeds", "trainings"), [("release", 1, 4), ("paper", 3, 12)])
def test_presets_and_seeds_have_timetables_too(preset, seeds, trainings):
    settings = read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet", "preset": preset, "seeds": seeds}
    plan = Plan(settings, ROOT / "config")
    schedule = Schedule(plan, jobs_of(plan, "table4"), machine("a100", Assumed(), root=PROFILES))
    assert sum(run.job.rule == "train" for run in schedule.table) == trainings
    passes = [run for run in schedule.table if run.job.rule == "train_moments"]
    assert bool(passes) == (preset == "release")  # its LOO-FID uses another network


def test_the_timetable_of_the_paper_takes_seconds_and_no_torch():
    code = (
        "import sys, time; t = time.process_time(); from artune.commands.cli import main; "
        "s = main(['plan', 'paper', '--timetable']); "
        "print(s, 'torch' in sys.modules, time.process_time() - t < 5)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False True"


def test_the_page_of_speed_gives_the_hours_and_the_disk_of_the_timetable(paper):
    page = " ".join((ROOT / "docs/performance.md").read_text().split())
    assert f"{paper.hours:.1f} hours on {paper.machine.name} with {paper.peak / 1e9:.0f} GB" in page


@pytest.mark.parametrize(("card", "count", "column"), [("H100", 1, 1), ("A100", 4, 4)])
def test_the_page_of_speed_gives_the_floors_of_the_predicted_iteration(card, count, column):
    run = PLAN.registry.resolve("llamagen_l-ours")
    floor = iteration_floor(run, card, count)
    page = (ROOT / "docs/performance.md").read_text()
    table = page[page.index("## What an iteration is expected to take") : page.index("## Reached on a CPU")]
    rows = {cells[0].strip(" *"): cells for line in table.splitlines() if len(cells := line.strip("|").split("|")) == 8}
    shown = {name: cells[column].strip(" *") for name, cells in rows.items()}
    assert shown["generate"] == f"{floor['generate']:.2f}"
    assert shown["decode, CLIP, HPSv2, LOO-FID"] == f"{sum(floor[s] for s in ('decode', 'clip', 'hps', 'loo_fid')):.2f}"
    assert shown["reference and update, two epochs"] == f"{floor['update']:.2f}"
    assert shown["iteration"] == f"{sum(floor.values()):.2f}"
    assert {cells[3].strip() for cells in rows.values()} - {"measured", "---"} == {"not measured"}
