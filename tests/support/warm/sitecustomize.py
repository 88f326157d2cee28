"""Python reads this file when it starts: a `python -m artune ...` becomes a fork of the process of warm_python.py."""

import json
import os
import socket
import sys


def hand_over(address: str) -> None:
    """Let the warm process run this command with these descriptors, and end with its status."""
    request = {"arguments": sys.orig_argv[3:], "folder": os.getcwd(), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address)
        socket.send_fds(client, [b"x"], [0, 1, 2])
        client.sendall(json.dumps(request).encode())
        client.shutdown(socket.SHUT_WR)
        os._exit(int(client.recv(16) or 137))  # nothing is answered by a fork that was killed


if sys.orig_argv[1:3] == ["-m", "artune"] and "ARTUNE_WARM" in os.environ:
    hand_over(os.environ["ARTUNE_WARM"])
