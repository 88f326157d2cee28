"""The timetable as lines of text."""

from dataclasses import fields

from artune.planning.timetable.machines import Assumed, Machine
from artune.planning.timetable.options import ASSUMPTIONS, option
from artune.planning.timetable.schedule import Schedule

SHORT = 1 / 20  # hours; shorter jobs are counted, not listed


def assumptions(machines: list[Machine], assumed: Assumed) -> str:
    """What the timetable rests on: one line per assumption with its option, then the sources of the hours."""
    lines = ["assumed, not measured; an option changes each:"]
    for field in fields(assumed):
        given = f"{option(field.name)} {getattr(assumed, field.name):g}"
        lines.append(f"  {given:22} {ASSUMPTIONS[field.name]}")
    lines += [
        "counted: FLOPs and bytes of every stage (src/artune/planning/floors.py) at these shares of the peaks;",
        "cpu: images and distances at the speed that was measured on CPU cores; assumed: bytes at the speeds above",
    ]
    lines += [f"measured: the hours of {machine.name} follow from --costs" for machine in machines if machine.measured]
    return "\n".join(lines)


def format_schedule(schedule: Schedule) -> str:
    """One line per job of three minutes or more by their starts, one for the jobs left out, and the conclusion."""
    machine, rows, left_out, used = schedule.machine, [], 0, 0.0
    how = f"--profile {machine.profile}"
    head = f"{'start h':>8} {'hours':>6} {'GPUs':>4} {'GPU h':>7} {'disk GB':>8}  {'source':8} job"
    for run in schedule.table:
        used += run.hours * run.gpus
        job = run.job
        if run.hours < SHORT:
            left_out += 1
            continue
        rows.append(
            f"{run.start:8.2f} {run.hours:6.2f} {run.gpus or '':>4} {used:7.1f} {run.disk / 1e9:8.1f}"
            f"  {run.source:8} {job.rule} {job.name}".rstrip()
        )
    rest = f"{'':8} {left_out} jobs of less than three minutes each are not listed"
    return "\n".join([f"{machine.name}, {how}, {machine.gpu.name}", head, *rows, rest, conclusion(schedule)])


def conclusion(schedule: Schedule) -> str:
    """One line: total hours, GPU hours and peak of the disk."""
    return (
        f"{schedule.machine.name}: {schedule.hours:.1f} hours, {schedule.gpu_hours:.1f} GPU hours, "
        f"{schedule.peak / 1e9:.0f} GB of disk at the peak, {len(schedule.jobs)} jobs"
    )
