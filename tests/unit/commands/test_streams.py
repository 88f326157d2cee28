"""Commands as processes whose standard output, standard error or log is broken."""

import io
import os
import subprocess
import sys

import pytest
from project import ROOT, environment

from artune.commands.streams import LogFile, Stream
from artune.errors import ArtuneError
from artune.runtime.progress import Progress, say, track, warn

SHOW = "show llamagen_l-ours --scale smoke"
FULL = "error: standard output cannot be written (No space left on device)"
CLOSED = "error: standard output cannot be written (it is closed)"


def shell(line, **variables):
    """Status of the first program of a shell's line, what reached standard output, what reached the terminal."""
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit ${{PIPESTATUS[0]}}"],
        cwd=ROOT,
        env=environment(ROOT) | {"ARTUNE": f"{sys.executable} -m artune"} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (f"$ARTUNE {SHOW} | true", 141, ""),  # as `ls | head` ends, without a word
        (f"$ARTUNE {SHOW} > /dev/full", 2, FULL),
        (f"$ARTUNE {SHOW} >&-", 2, CLOSED),
        ("$ARTUNE --help > /dev/full", 2, FULL),
        ("$ARTUNE show llamagen_l-our --scale smoke 2>&1 | true", 2, ""),
    ],
)
def test_a_result_that_nobody_gets_is_no_success(line, status, said):
    found, _, error = shell(line)
    assert found == status
    assert error.startswith(said)
    assert error.count("\n") <= 1


@pytest.mark.parametrize("end", ["2> /dev/full", "2>&-", "2> >(true)"])
def test_messages_that_nobody_gets_change_nothing(end):
    status, out, _ = shell(f"$ARTUNE {SHOW} {end}")
    assert status == 0
    assert len(out.splitlines()) > 50


@pytest.mark.parametrize("streams", ["2> {log}", "> {log}", "> {log} 2>&1"])
def test_a_log_that_a_standard_stream_is_sent_to_loses_nothing(tmp_path, streams):
    log = tmp_path / "run.log"
    status, _, _ = shell(f"{{ echo before >&2; echo before; $ARTUNE {SHOW} --log {log}; }} {streams.format(log=log)}")
    text = log.read_text()
    assert status == 0
    assert text.startswith("before\n")
    assert text.count("show: llamagen_l-ours at the smoke scale") == 1
    if streams.startswith(">"):
        assert len(text.splitlines()) > 50


def test_a_result_that_is_in_a_file_as_well_is_a_success(tmp_path):
    status, _, error = shell(f"$ARTUNE study tally --scale smoke --output {tmp_path}/tally.json > /dev/full")
    assert status == 0
    assert f"warning: standard output: No space left on device; the result is in {tmp_path}/tally.json\n" in error
    assert (tmp_path / "tally.json").exists()


@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii:strict"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_terminal_without_a_letter_gets_its_number(tmp_path, variables):
    folder = tmp_path / "tübingen–漢"
    folder.mkdir()
    log = folder / "l.log"
    status, _, error = shell(
        f"$ARTUNE run_config llamagen_l-ours --scale smoke --output '{folder}/config.yaml' --log '{log}'", **variables
    )
    assert status == 0
    assert "t\\xfcbingen\\u2013" in error or "t\\udcc3\\udcbcbingen" in error or "tübingen" in error
    assert "config.yaml" in log.read_text(encoding="utf-8")
    assert (folder / "config.yaml").exists()


@pytest.mark.parametrize("option", ["--output", "--log"])
def test_outputs_are_looked_at_before_the_work(tmp_path, option):
    options = {"--output": tmp_path / "config.yaml", "--log": tmp_path / "run.log"} | {option: tmp_path}
    words = " ".join(f"{name} {path}" for name, path in options.items())
    status, _, error = shell(f"$ARTUNE run_config llamagen_l-ours --scale smoke {words}")
    assert status == 2
    assert error == f"error: {option}: {tmp_path}: is a folder, and an output is a regular file; name another file\n"
    assert list(tmp_path.iterdir()) == []


def test_what_lies_beside_an_output_is_looked_at_too(tmp_path):
    os.mkfifo(tmp_path / "manifest.json")
    words = " ".join(f"--{name} x" for name in ("config", "policy", "tokenizer", "networks"))
    status, _, error = shell(f"$ARTUNE train {words} --output {tmp_path}/policy.safetensors")
    assert status == 2
    assert error.startswith(f"error: --output: {tmp_path}/manifest.json: is a named pipe, and an output is a regular")


def test_a_strict_stream_gets_escape_sequences():
    terminal = io.BytesIO()
    stream = Stream(io.TextIOWrapper(terminal, encoding="ascii", errors="strict"))
    stream.write("– and \udcff\n")
    stream.flush()
    assert terminal.getvalue() == b"\\u2013 and \\udcff\n"
    assert stream.error is None


class Broken:
    """A stream of which every use fails."""

    encoding = "ascii"

    def __init__(self, error):
        self.raised = error

    def write(self, text):
        raise self.raised

    def flush(self):
        raise self.raised

    def isatty(self):
        raise self.raised


@pytest.mark.parametrize("broken", [BrokenPipeError(32, "x"), OSError(28, "x"), ValueError("closed"), None])
def test_progress_is_never_an_error(monkeypatch, broken):
    monkeypatch.setattr(sys, "stderr", broken and Broken(broken))
    say("a line")
    warn("a warning")
    assert list(track([1, 2], "steps", 2)) == [1, 2]
    Progress("steps", 1, stream=sys.stderr).update(1)
    stream = Stream(sys.stderr)
    stream.write("text")
    stream.flush()
    assert not stream.isatty()
    assert stream.error is not None


def test_a_full_log_is_said_once_and_the_lines_come_back_with_the_room(tmp_path, capsys):
    log = LogFile(tmp_path / "run.log")
    stream = Stream(sys.stderr, log)
    stream.write("first\n")
    kept, full = os.dup(log.handle), os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log.handle)
    stream.write("second\n")
    stream.write("third\n")
    os.dup2(kept, log.handle)
    stream.write("fourth – \udcff\n")
    log.close()
    warning = f"warning: --log: {tmp_path}/run.log cannot be written (No space left on device); the work goes on\n"
    assert capsys.readouterr().err.replace("\\udcff", "") == f"first\n{warning}second\nthird\nfourth – \n"
    assert (tmp_path / "run.log").read_text(encoding="utf-8") == "first\nfourth – \\udcff\n"


def test_a_log_is_written_through_a_link(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    log = LogFile(tmp_path / "link")
    log.write("line\n")
    log.close()
    assert (tmp_path / "target").read_text() == "line\n"
    (tmp_path / "target").unlink()
    os.mkfifo(tmp_path / "target")
    with pytest.raises(ArtuneError, match="is a named pipe"):
        LogFile(tmp_path / "link")
