"""A process that has torch, timm, MLflow and Snakemake loaded and forks for every command of a pipeline.

Loading these libraries is most of a command of a miniature pipeline, and that of the ImageNet world has 150 commands.
Whatever is artune's own is loaded by the fork, from the copy of the project that the command belongs to. That commands
load their libraries by themselves is seen in the pipeline of the fixture ``smoke``, which starts the first of each kind
as a user does.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

LIBRARIES = (
    "torch",
    "torchvision",
    "timm",
    "open_clip",
    "scipy.linalg",
    "pandas",
    "matplotlib.pyplot",
    "mlflow",
    "snakemake.cli",
)
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MPLBACKEND": "agg",
}
WAIT = 300  # seconds for the libraries


@contextlib.contextmanager
def warm_python() -> Iterator[dict[str, str]]:
    """The variable of the environment with which artune and Snakemake are forks of a warm process, while that lives."""
    with tempfile.TemporaryDirectory(prefix="warm") as folder:
        address = Path(folder) / "socket"  # a short name, since that of a socket has at most 107 bytes
        command = [sys.executable, __file__, str(address)]
        with subprocess.Popen(command, env=os.environ | ONE_THREAD) as process:
            try:
                end = time.monotonic() + WAIT
                while not address.exists():
                    assert process.poll() is None, "the warm process ended"
                    assert time.monotonic() < end, "the warm process did not start"
                    time.sleep(0.05)
                yield {"ARTUNE_WARM": str(address)}
            finally:
                process.kill()


def serve(address: str) -> None:
    """Fork for every client until killed."""
    for name in LIBRARIES:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{address}.new")
        server.listen(64)
        os.rename(f"{address}.new", address)
        while True:
            client, _ = server.accept()
            if os.fork() == 0:
                server.close()
                answer(client)
            client.close()


def answer(client: socket.socket) -> None:
    """Run the command of a client and tell it the status. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, descriptors, *_ = socket.recv_fds(client, 1, 3)
    request = json.loads(b"".join(iter(lambda: client.recv(1 << 16), b"")))
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w", buffering=1)  # noqa: SIM115
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[:0] = ["", *os.environ["PYTHONPATH"].split(os.pathsep)]
    sys.argv = [request["module"], *request["arguments"]]
    status = 1
    try:
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    client.sendall(str(status).encode())
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
