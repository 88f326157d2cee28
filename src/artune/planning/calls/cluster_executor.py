"""Snakemake's SLURM executor without its endless waits, and with patience where SLURM refuses a job.

Version 2.8.0 of the plugin waits for ever for a job that it does not see end. It polls every 40 to 180 s, whatever
``MinJobAge`` is, and a job that is gone from the answer counts as waiting; with ``squeue`` it turns to ``sacct`` on a
cluster of small ``MinJobAge``, even one without accounting; and after five queries without an answer it forgets all
jobs that it waited for. A refused ``sbatch`` is repeated at once, so that all tries are used up in seconds.

:func:`install` puts the class below in the place of the plugin's, under the plugin's own name and settings.
"""

import asyncio
import contextlib
import shlex
import shutil
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from snakemake.settings.enums import Quietness
from snakemake_executor_plugin_slurm import Executor as Released
from snakemake_executor_plugin_slurm.utils import get_job_wildcards
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from artune.planning.slurm import longest_pause, min_job_age, run_tool

FAILED = ("BOOT_FAIL", "CANCELLED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT", "ERROR")
FIRST_WAIT = 30  # seconds before a refused job is submitted again; each further wait is four times as long
WHILE_MISSING = 30  # seconds between two looks at a job that SLURM does not know
LONGEST_DOUBT = 120  # seconds for which a job may be unknown before it is judged, however long latency-wait is
RECORDS = Path(".snakemake/slurm_jobs")
LONGEST_STAY = 7 * 24 * 3600  # seconds after which the records of a Snakemake that was killed are removed


def install() -> None:
    """Let ``executor: slurm`` mean the class below. Does nothing where the plugin is not installed."""
    plugins = ExecutorPluginRegistry().plugins
    if "slurm" in plugins:
        plugins["slurm"].executor = Executor


def remove_old_records(folder: Path = RECORDS) -> None:
    """Remove what calls of Snakemake that were killed have left of the ends of their jobs, after a week."""
    with contextlib.suppress(OSError):
        for records in folder.iterdir():
            if time.time() - records.stat().st_mtime > LONGEST_STAY:
                shutil.rmtree(records, ignore_errors=True)


class Executor(Released):
    """The plugin's executor; see the module's docstring for what is different."""

    def __post_init__(self, test_mode: bool = False) -> None:
        self._waiting: dict[str, SubmittedJobInfo] = {}  # submitted and not yet reported as ended, by SLURM's id
        self._missing: dict[str, float] = {}  # when SLURM was first seen not to know a job
        self._silent_since: float | None = None  # when SLURM stopped answering
        self._record_folder: Path | None = None
        self._min_job_age: float | None = None
        remove_old_records()
        super().__post_init__(test_mode)

    # -- a job leaves a record of its end

    def format_job_exec(self, job: JobExecutorInterface) -> str:
        """The job's command, after which its exit status (0 or 1) is written to a file."""
        command = super().format_job_exec(job)
        if self.array_jobs:  # the plugin appends further options to the command, and polls itself
            return command
        record = self._record(job)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.unlink(missing_ok=True)
        file = shlex.quote(str(record))
        return f"if {command} ; then echo 0 > {file} ; else echo 1 > {file} ; false ; fi"

    def _record(self, job: JobExecutorInterface) -> Path:
        if self._record_folder is None:
            self._record_folder = RECORDS.absolute() / self.run_uuid
        return self._record_folder / f"{job.jobid}-{job.attempt}"

    # -- which jobs are waited for

    def report_job_submission(self, job_info: SubmittedJobInfo, register_job: bool = True) -> None:
        """As the plugin's."""
        if job_info.external_jobid is not None:
            self._waiting[job_info.external_jobid] = job_info
        super().report_job_submission(job_info, register_job=register_job)

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        """As the plugin's."""
        self._waiting.pop(job_info.external_jobid, None)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **kwargs: Any) -> None:
        """As the plugin's, and one line where ``--quiet rules`` hides the plugin's message."""
        self._waiting.pop(job_info.external_jobid, None)
        quiet = self.workflow.output_settings.quiet or ()
        if msg and job_info.external_jobid is not None and Quietness.RULES in quiet:
            log = (job_info.aux or {}).get("slurm_logfile")
            self.logger.error(f"{_named(job_info)}: {msg}{f' Log: {log}' if log else ''}")
        super().report_job_error(job_info, msg=msg, **kwargs)

    def cancel(self) -> None:
        """Cancel all jobs that are waited for, also those that are being asked about at this moment."""
        self.cancel_jobs(list(self._waiting.values()))
        self.shutdown()

    def shutdown(self) -> None:
        """As the plugin's; the records of the jobs' ends are removed."""
        super().shutdown()
        if self._record_folder is not None:
            shutil.rmtree(self._record_folder, ignore_errors=True)

    # -- how jobs end

    async def check_active_jobs(self, active_jobs: list[SubmittedJobInfo]) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Report the jobs that have ended; yields the others."""
        if not active_jobs:  # also before __post_init__, which the waiting thread may overtake; an error would end it
            self.next_seconds_between_status_checks = self._first_pause()
            return
        accounting = self.get_status_command() == "sacct"
        if accounting or self.array_jobs:
            async for job in super().check_active_jobs(active_jobs):
                if self.array_jobs:
                    yield job
            if self.array_jobs:
                return
        # The plugin's answer may lack jobs; those that were not reported as ended are still waited for.
        active = [job for job in active_jobs if job.external_jobid in self._waiting]
        states = await self._states() if active else {}
        for job in active:
            if states is not None:
                self._judge(job, states.get(job.external_jobid))
            if job.external_jobid in self._waiting:
                yield job
        self._pause(any(job.external_jobid not in self._waiting for job in active_jobs), accounting)

    async def _states(self) -> dict[str, str] | None:
        """State of every job of this user by id; None if SLURM does not answer, which is said once."""
        clusters = [f"--clusters={','.join(sorted(self._submitted_job_clusters))}"] * bool(self._submitted_job_clusters)
        async with self.status_rate_limiter:
            answer = await asyncio.to_thread(
                run_tool, "squeue", "--noheader", "--me", "--states=all", *clusters, "--format=%i|%T", seconds=60
            )
        if answer is None:
            if self._silent_since is None:
                self._silent_since = time.monotonic()
                self.logger.warning("SLURM does not answer (squeue failed); Snakemake waits and asks again.")
            return None
        if self._silent_since is not None:
            self.logger.warning(f"SLURM answers again, after {time.monotonic() - self._silent_since:.0f} s.")
            self._silent_since = None
        return dict(line.strip().split("|", 1) for line in answer.splitlines() if "|" in line)

    def _judge(self, job: SubmittedJobInfo, state: str | None) -> None:
        """Report a job that has ended: by SLURM's word, or, if SLURM no longer knows it, by what the job left."""
        name, settings = job.external_jobid, self.workflow.executor_settings
        log = [str(job.aux["slurm_logfile"])]
        if state is None:
            unknown_for = time.monotonic() - self._missing.setdefault(name, time.monotonic())
            patience = min(self.workflow.execution_settings.latency_wait, LONGEST_DOUBT)
            if self._record(job.job).exists() or unknown_for >= patience:
                self._judge_by_traces(job, log)
            return
        self._missing.pop(name, None)
        if state == "COMPLETED":
            self.report_job_success(job)
            self._tidy_log(job)
        elif state == "NODE_FAIL" and not settings.requeue:
            self.report_job_error(job, msg=f"SLURM-job '{name}' failed due to a node failure, SLURM status is: "
                                  "'NODE_FAIL'. ", aux_logs=log)  # fmt: skip
        elif (state in FAILED and state != "NODE_FAIL") or (state == "PREEMPTED" and settings.no_requeue):
            self.report_job_error(job, msg=f"SLURM-job '{name}' failed, SLURM status is: '{state}'. ", aux_logs=log)

    def _judge_by_traces(self, job: SubmittedJobInfo, log: list[str]) -> None:
        """Report a job that SLURM no longer knows, by the record of its end and by its outputs, in one line."""
        self._missing.pop(job.external_jobid, None)
        record, outputs = self._record(job.job), [str(file) for file in job.job.output]
        there = sum(Path(file).exists() for file in outputs)
        gone = f"SLURM no longer knows job {job.external_jobid}, which Snakemake waited for"
        try:
            status = record.read_text(encoding="ascii").strip()
        except OSError:
            status = ""
        left = {"0": "the record of a success", "1": "the record of a failure"}.get(status, "no record of its end")
        done = status == "0"
        left = f"it left {left}, and {there} of {len(outputs)} outputs exist"
        self.logger.warning(f"{_named(job)}: {gone}; {left}: it counts as {'done' if done else 'failed'}.")
        if done:
            self.report_job_success(job)
            self._tidy_log(job)
            return
        self._waiting.pop(job.external_jobid, None)
        super().report_job_error(job, msg=f"{gone}. ", aux_logs=log)

    def _tidy_log(self, job: SubmittedJobInfo) -> None:
        if not self.workflow.executor_settings.keep_successful_logs:
            with contextlib.suppress(OSError):
                job.aux["slurm_logfile"].unlink(missing_ok=True)

    def _first_pause(self) -> float:
        return self.workflow.executor_settings.init_seconds_before_status_checks or 40

    def _pause(self, ended: bool, accounting: bool) -> None:
        """Set the seconds until the next poll: longer while nothing ends, and always well below ``MinJobAge``."""
        first = self._first_pause()
        if self._min_job_age is None:
            self._min_job_age = min_job_age()
        longest = 180.0 if accounting else longest_pause(self._min_job_age)
        if self._missing or self._silent_since is not None:
            longest = min(longest, WHILE_MISSING)
        before: float = super().next_seconds_between_status_checks
        pause = first if ended else before + (0 if accounting else 10)
        self.next_seconds_between_status_checks = min(pause, longest)

    # -- refused jobs

    def _report_job_error_threadsafe(self, job_info: SubmittedJobInfo, msg: str) -> None:
        """Report a job that SLURM did not take, at once if no try is left, else after a wait."""
        job, reason = job_info.job, " ".join(msg.split("\n    sbatch call:")[0].split())
        tries, wait = job.restart_times + 1, FIRST_WAIT * 4 ** (job.attempt - 1)
        again = job.attempt < tries
        then = f"is submitted again in {wait} s" if again else "no try is left"
        self.logger.error(f"{_named(job_info)}: not accepted by SLURM: {reason} (try {job.attempt} of {tries}; {then})")
        if not again:
            super()._report_job_error_threadsafe(job_info, msg)
            return
        timer = threading.Timer(wait, self._report_later, (job_info, msg))
        timer.daemon = True  # Ctrl-C does not wait for it
        timer.start()

    def _report_later(self, job_info: SubmittedJobInfo, msg: str) -> None:
        with contextlib.suppress(RuntimeError):  # Snakemake has ended meanwhile
            super()._report_job_error_threadsafe(job_info, msg)


def _named(job_info: SubmittedJobInfo) -> str:
    """``rule train (smoke, llamagen_l-ours)``."""
    job = job_info.job
    wildcards = get_job_wildcards(job)
    kind = "group" if job.is_group() else "rule"
    return f"{kind} {job.name}{f' ({wildcards})' if wildcards else ''}"
