"""The executor of jobs on a cluster."""

import asyncio
import logging
import os
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("snakemake_executor_plugin_slurm")
from artune.planning.calls.cluster_executor import Executor, remove_old_records


def test_the_waiting_thread_may_look_before_the_executor_is_complete():
    """Its first look comes at once, and an error in it would end the thread without a word: Snakemake would wait for ever."""
    executor = Executor.__new__(Executor)  # as the thread finds it, before __post_init__
    executor.logger = logging.getLogger(__name__)
    executor.workflow = SimpleNamespace(executor_settings=SimpleNamespace(init_seconds_before_status_checks=8))

    async def look():
        return [job async for job in executor.check_active_jobs([])]

    assert asyncio.run(look()) == []
    assert executor.next_seconds_between_status_checks == 8


def test_what_a_killed_snakemake_left_is_removed_after_a_week(tmp_path):
    for name, days in (("old", 8), ("young", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "3-1").write_text("0\n")
        then = time.time() - days * 24 * 3600
        os.utime(tmp_path / name, (then, then))
    remove_old_records(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["young"]
    remove_old_records(tmp_path / "none")
