"""docs/first-day.md and the hours elsewhere quote what the code prints now; `...` on a page stands for what was left out."""

import re

import pytest
import torch
from project import ROOT

from artune.config.registry import Registry
from artune.config.yaml_layers import read_yaml
from artune.models.policies.attention import described
from artune.models.policies.llamagen import LlamaGen
from artune.planning import doctor, environment
from artune.planning.budget import budget
from artune.planning.costs import read_costs
from artune.planning.gpu_hours import floor_machine
from artune.planning.memory import cards
from artune.planning.memory.standing import on_card
from artune.planning.plan import Plan
from artune.planning.timetable.jobs import jobs_of
from artune.planning.timetable.machines import Assumed, machine
from artune.planning.timetable.schedule import Schedule
from artune.planning.timetable.text import format_schedule
from artune.sampling.decoders import BucketedDecoder
from artune.sampling.replica import cast_replica
from artune.sampling.self_check import checked
from artune.tuning.micro_batch import plan_micro_batches, sequence_bytes

PAGE = (ROOT / "docs/first-day.md").read_text()
QUOTED = [line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
IMAGENET = Registry("imagenet", root=ROOT / "config")
PLAN = Plan(read_yaml(ROOT / "config/config.yaml") | {"scale": "imagenet"}, ROOT / "config")


def quoted(line):
    """Whether the page quotes a line that the code prints; words beside a long gap are the page's own."""
    return any(re.fullmatch(re.escape(shown.split("    (")[0].rstrip()).replace(r"\.\.\.", ".+"), line)
               for shown in QUOTED if re.sub(r"[. ]", "", shown))  # fmt: skip


def test_the_timetable_and_every_line_of_it_that_is_quoted():
    lines = format_schedule(
        Schedule(PLAN, jobs_of(PLAN, "table4"), machine("a100", Assumed(), root=ROOT / "workflow/profiles"))
    ).splitlines()
    assert quoted(lines[-1])
    assert quoted(lines[1])
    shown = [line for line in QUOTED if re.match(r" +\d+\.\d\d ", line)]
    assert len(shown) == 3
    assert set(shown) <= set(lines)


@pytest.mark.parametrize(("listed", "good"), [(None, None), ("81920", True), ("40960\n" * 4, None)])
def test_what_doctor_says_of_the_cards(listed, good, monkeypatch):
    monkeypatch.setattr(cards, "run_tool", lambda *command: listed and listed.strip())
    found = cards.check_cards(IMAGENET)
    assert found[0] is good
    assert quoted(str(doctor.Finding("memory", *found)))


def test_what_doctor_says_of_a_driver_that_is_too_old(monkeypatch):
    monkeypatch.setattr(environment, "run_tool", lambda *command: "550.90.07, NVIDIA A100-SXM4-80GB")
    monkeypatch.setattr(environment, "torch_cuda", lambda: (13, 0))
    assert quoted(str(doctor.driver()))


def test_what_a_training_says_of_its_kernels_its_decoder_and_its_slices(capsys):
    assert quoted(f"attention kernels: {described()}")
    policy = LlamaGen(dim=64, layers=2, heads=2, codebook_size=64, classes=8, tokens=64)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0)).add_(weight.dim() == 1)
    decoder = BucketedDecoder(cast_replica(policy, torch.bfloat16), 4)
    assert checked(decoder, torch.arange(4), policy) is decoder
    assert quoted(capsys.readouterr().err.strip().replace("of 4 rows", "of 288 rows"))
    run = IMAGENET.resolve("llamagen_l-ours")
    split = plan_micro_batches(run, 144, on_card(run, 1, cards.CARDS[80]).free)
    assert quoted(split.line(sequence_bytes(run, split.checkpointing)))


def test_the_hours_by_floors_on_the_other_pages():
    lines = budget(PLAN, read_costs(ROOT / "config").paper, "paper", floor_machine())
    hours = {
        work: sum(line.ours for line in lines if line.work.startswith(work)) for work in ("train", "evaluate", "encode")
    }
    page = " ".join((ROOT / "docs/performance.md").read_text().split())
    assert (
        f"25 trainings take {hours['train']:.1f} hours, 35 evaluations {hours['evaluate']:.1f} and the codes of Table 12 "
        f"another {hours['encode']:.1f}, together **{sum(hours.values()):.1f} H100-hours by floors**"
    ) in page
    assert f"at best {sum(hours.values()):.0f} H100-hours (a lower bound)" in " ".join(
        (ROOT / "README.md").read_text().split()
    )
