"""Python reads this file when it starts: artune and Snakemake become forks of the process of warm_python.py."""

import json
import os
import socket
import sys

ADDRESS, MODULE = os.environ.get("ARTUNE_WARM"), sys.orig_argv[1:3]


def hand_over(address: str) -> None:
    """Let the warm process run this command with these descriptors, and end with its status."""
    request = {
        "module": MODULE[1],
        "arguments": sys.orig_argv[3:],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        socket.send_fds(client, [b"x"], [0, 1, 2])
        client.sendall(json.dumps(request).encode())
        client.shutdown(socket.SHUT_WR)
        os._exit(int(client.recv(16) or 137))  # nothing is answered by a fork that was killed


def first(folder: str) -> bool:
    """Whether this is the first call of its command that asks; ``folder`` keeps the names of those that have asked."""
    try:
        os.close(os.open(os.path.join(folder, sys.orig_argv[3]), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


if ADDRESS and MODULE in (["-m", "artune"], ["-m", "snakemake"]):
    alone = os.environ.get("ARTUNE_FIRST_ALONE")
    if not (alone and MODULE[1] == "artune" and first(alone)):
        hand_over(ADDRESS)
