"""The executor of jobs on a cluster."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

pytest.importorskip("snakemake_executor_plugin_slurm")
from artune.planning.calls.cluster_executor import Executor


def test_the_waiting_thread_may_look_before_the_executor_is_complete():
    """Its first look comes at once, and an error in it would end the thread without a word: Snakemake would wait for ever."""
    executor = Executor.__new__(Executor)  # as the thread finds it, before __post_init__
    executor.logger = logging.getLogger(__name__)
    executor.workflow = SimpleNamespace(executor_settings=SimpleNamespace(init_seconds_before_status_checks=8))

    async def look():
        return [job async for job in executor.check_active_jobs([])]

    assert asyncio.run(look()) == []
    assert executor.next_seconds_between_status_checks == 8
