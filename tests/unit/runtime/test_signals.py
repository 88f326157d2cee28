"""What a signal asks of a process."""

import os
import signal

import pytest

from artune.runtime.processes import StopRequest


@pytest.fixture
def hang_up():
    """Restores what SIGHUP does to the tests, which may run under nohup."""
    before = signal.getsignal(signal.SIGHUP)
    yield signal.SIGHUP
    signal.signal(signal.SIGHUP, before)


def test_a_closed_terminal_is_a_request_to_stop(hang_up):
    signal.signal(hang_up, signal.SIG_DFL)
    with StopRequest() as request:
        signal.raise_signal(hang_up)
        assert request.name == "SIGHUP"
    assert signal.getsignal(hang_up) == signal.SIG_DFL


def test_under_nohup_the_signal_stays_ignored(hang_up):
    signal.signal(hang_up, signal.SIG_IGN)
    with StopRequest() as request:
        signal.raise_signal(hang_up)
        assert request.name is None
    assert signal.getsignal(hang_up) == signal.SIG_IGN


def test_what_is_printed_after_the_terminal_is_gone_fails_no_more(tmp_path):
    """A child whose stderr is a pseudo-terminal without another end; it tells the parent through its exit status."""
    terminal, inside = os.openpty()
    child = os.fork()
    if child == 0:
        os.dup2(inside, 2)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            with StopRequest():
                os.close(terminal)
                os.kill(os.getpid(), signal.SIGHUP)
                os.write(2, b"stopped")
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(inside)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
