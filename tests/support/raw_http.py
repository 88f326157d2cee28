"""Requests as bytes over a socket, and what a server's process holds."""

import socket
import time
from pathlib import Path


def connect(port: int, seconds: float = 20.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=seconds)


def head(method: str, path: str, *headers: str) -> bytes:
    """The head of a request as our page sends it, with further headers."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", *headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def answers(connection: socket.socket) -> bytes:
    """Everything that arrives until the server closes the connection; fails if it does not close it."""
    found = b""
    while True:
        try:
            part = connection.recv(65536)
        except ConnectionResetError:
            return found
        if not part:
            return found
        found += part


def statuses(answer: bytes) -> list[int]:
    """The statuses of answers that came one after the other."""
    return [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def send_until_closed(connection: socket.socket, data: bytes, times: int) -> int:
    """Send ``data`` again and again until the server closes the connection; returns the bytes that were sent."""
    sent = 0
    try:
        for _ in range(times):
            connection.sendall(data)
            sent += len(data)
    except OSError:
        return sent
    return sent


def closed_after(connection: socket.socket, seconds: float) -> float:
    """Seconds until the server closes a silent connection; fails after ``seconds``."""
    connection.settimeout(seconds)
    began = time.monotonic()
    answers(connection)
    return time.monotonic() - began


def memory(process: int) -> int:
    """The largest resident memory of a process so far, in MB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def sockets(process: int) -> int:
    """The number of sockets that a process holds."""
    found = 0
    for link in Path(f"/proc/{process}/fd").iterdir():
        try:
            found += str(link.readlink()).startswith("socket:")
        except OSError:  # closed meanwhile
            continue
    return found
