"""Commands that write into a run's folder wait while another process holds it."""

import subprocess
import time

from project import ROOT, command, environment

from artune.runtime.lease import lease


def test_features_wait_for_the_process_that_holds_the_folder(tmp_path):
    words = [
        "features",
        "--samples",
        tmp_path / "samples.npz",
        "--networks",
        tmp_path,
        "--output",
        tmp_path / "features.npz",
    ]
    with open(tmp_path / "said", "w") as said, lease(tmp_path, "sample"):
        started = subprocess.Popen(command(*words), cwd=ROOT, env=environment(ROOT), stderr=said, stdout=said)
        end = time.monotonic() + 120
        while "held by process" not in (tmp_path / "said").read_text():
            assert started.poll() is None, (tmp_path / "said").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
    assert started.wait(timeout=120) == 2  # the folder is free, and its inputs are missing
    text = (tmp_path / "said").read_text()
    assert "(sample since" in text
    assert "no such file" in text.splitlines()[-1]
    assert "Traceback" not in text
