"""A training killed with SIGKILL resumes and ends with the very same weights and metrics."""

import json
import signal
import subprocess
import time

import yaml
from project import RUN, artune, command, digest, environment
from smoke_training import arguments, lines


def test_two_kills_change_nothing(smoke, warm):
    spec = yaml.safe_load((smoke / RUN / "config.yaml").read_text())
    spec["grpo"] |= {"iterations": 12, "save_every": 3, "reference": "ema"}
    folders = [smoke / "results/smoke/runs" / name for name in ("resume-whole", "resume-killed")]
    for folder in folders:
        folder.mkdir(parents=True)
        # A name outside the registry, so that the tracking store keeps the run apart from the registry's runs.
        (folder / "config.yaml").write_text(
            yaml.safe_dump(spec | {"name": "resumed", "base": "resumed"}, sort_keys=False)
        )
    whole, killed = folders
    done = artune(smoke, *arguments(whole), warm=warm)
    assert done.returncode == 0, done.stderr

    for reached in (5, 8):  # after the states saved at iterations 3 and 6, before the next state
        process = subprocess.Popen(
            command(*arguments(killed)), cwd=smoke, env=environment(smoke), stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 120
        saved = f"training/state-{reached // 3 * 3:06d}-*.pt"  # written while the next iterations run
        while (
            lines(killed / "training/metrics.jsonl") < reached or not list(killed.glob(saved))
        ) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert process.poll() is None, "the training ended before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (killed / "policy.safetensors").exists()
        assert list((killed / "training").glob("state-*.pt"))
    done = artune(smoke, *arguments(killed))
    assert done.returncode == 0, done.stderr

    assert digest(killed / "policy.safetensors") == digest(whole / "policy.safetensors")
    assert (killed / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    assert lines(killed / "metrics.jsonl") == 12
    assert json.loads((killed / "manifest.json").read_text())["resumed_at"] in (6, 9)
    assert not (killed / "training").exists()
