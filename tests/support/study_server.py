"""`artune study serve` in its own process, and a client that keeps its connection open."""

import http.client
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

from project import ROOT, environment

LIMITED = """
import sys
from pathlib import Path
from artune.results.study.connections import Limits
from artune.results.study.serve import serve
folder, port, limits = Path(sys.argv[1]), int(sys.argv[2]), eval(sys.argv[3])
serve(folder / "pairs.zip", folder / "votes.sqlite", "127.0.0.1", port, Limits(**limits))
"""


class Server:
    """The server for ``folder/pairs.zip`` and ``folder/votes.sqlite``.

    ``port`` 0 chooses a free port; ``limits`` are other limits than those of the command.
    """

    def __init__(self, folder: Path, port: int = 0, **limits: float):
        self.folder = folder
        words = ["-m", "artune", "study", "serve", "--trial", "--pairs", folder / "pairs.zip", "--votes", folder / "votes.sqlite",
                 "--port", str(port)]  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, *(["-c", LIMITED, folder, str(port), repr(limits)] if limits else words)],
            cwd=ROOT, env=environment(ROOT), stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = self.process.stderr.readline()
        found = re.match(r"(http://127\.0\.0\.1:(\d+))  ", line)
        assert found, line + self.process.stderr.read()
        self.url, self.port, self.line = found[1], int(found[2]), line

    def stop(self, how: int = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(10)
        self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()


class Client:
    """A rater without a browser."""

    def __init__(self, port: int, code: str = ""):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self.code = code

    def raw(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None):
        """Send a request; returns (status, headers, body)."""
        self.connection.request(method, path, body, headers or {})
        answer = self.connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def ask(self, path: str, value: object = None) -> tuple[int, dict]:
        """GET ``path``, or POST ``value`` to it as JSON; returns (status, the answer's JSON)."""
        headers = {"Authorization": f"Bearer {self.code}", "Content-Type": "application/json"}
        body = None if value is None else json.dumps(value).encode()
        status, _, answer = self.raw("GET" if body is None else "POST", path, body, headers)
        return status, json.loads(answer)

    def join(self) -> dict:
        status, state = self.ask("/api/raters", {})
        assert status == 200, state
        self.code = state["code"]
        return state

    def vote(self, position: int, pressed: str = "left", seconds: float = 1.0) -> tuple[int, dict]:
        return self.ask("/api/votes", {"position": position, "pressed": pressed, "seconds": seconds})
