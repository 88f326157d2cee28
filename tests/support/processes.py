"""Several processes for a test, as torchrun would start them; they fork from a server with the slow imports."""

import multiprocessing
import os
import socket
import traceback

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch._dynamo", "pytest", "artune.tuning.train", "artune.evaluation.evaluate"])


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def as_torchrun(rank, size, port=29500):
    """The variables that torchrun sets for a process on one machine."""
    ranks = {"RANK": rank, "WORLD_SIZE": size, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    return {name: str(value) for name, value in ranks.items()} | {
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_RUN_ID": "none",
    }


def child(queue, rank, size, port, timeout, function, arguments):
    os.environ |= as_torchrun(rank, size, port) | {"GLOO_SOCKET_IFNAME": "lo", "ARTUNE_TIMEOUT": str(timeout)}
    import torch

    from artune.runtime.distributed import started

    torch.set_num_threads(1)
    try:
        with started(torch.device("cpu")) as world:
            queue.put((rank, function(world, *arguments), None))
    except BaseException as error:
        queue.put((rank, error, traceback.format_exc()))


def outcomes(size, function, *arguments, timeout=30):
    """(result or exception, traceback) of ``function(world, *arguments)`` in each of ``size`` processes, by rank."""
    queue, port = CONTEXT.Queue(), free_port()
    children = [
        CONTEXT.Process(target=child, args=(queue, rank, size, port, timeout, function, arguments), daemon=True)
        for rank in range(size)
    ]
    for process in children:
        process.start()
    try:
        found = {rank: (value, trace) for rank, value, trace in (queue.get(timeout=90) for _ in children)}
    finally:
        for process in children:
            process.join(5)
            process.kill()
    return [found[rank] for rank in range(size)]


def run_processes(size, function, *arguments):
    """Return values by rank; an error in any process fails the test."""
    found = outcomes(size, function, *arguments)
    for _, trace in found:
        assert trace is None, trace
    return [value for value, _ in found]
