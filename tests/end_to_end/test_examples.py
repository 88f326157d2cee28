"""The examples run, learn, and print what docs/library.md shows.

``ARTUNE_WRITE_EXAMPLES=1 python -m pytest tests/end_to_end/test_examples.py`` writes the outputs into that page.
"""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import torch
from processes import run_processes
from project import ROOT

import artune

PAGE = ROOT / "docs/library.md"
LENGTHS = {"tune_your_policy": 80, "loo_fid_in_your_loop": 60, "loo_fid_in_trl": 80}  # fewer lines than this
NUMBER = re.compile(r"\d+\.\d+")


def output_of(name, folder):
    """What an example prints, in a folder of its own and with one thread, as a user's machine would."""
    done = subprocess.run(
        [sys.executable, ROOT / f"examples/{name}.py"], cwd=folder, capture_output=True, text=True, timeout=600,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(name):
    """The output of an example in the page, and its place."""
    found = re.search(rf"<!-- output of examples/{name}\.py -->\n```text\n(.*?)```", PAGE.read_text(), re.S)
    assert found, f"docs/library.md shows no output of {name}"
    return found


def compared(name, said):
    """Hold an output against the page: the same words, and numbers as near as other processors' roundings allow."""
    found = shown(name)
    if os.environ.get("ARTUNE_WRITE_EXAMPLES"):
        text = PAGE.read_text()
        PAGE.write_text(text[: found.start(1)] + said + text[found.end(1) :])
        return
    assert NUMBER.sub("x", said) == NUMBER.sub("x", found[1])
    for now, then in zip(NUMBER.findall(said), NUMBER.findall(found[1]), strict=True):
        assert float(now) == pytest.approx(float(then), rel=0.3, abs=0.05)


@pytest.mark.parametrize(("name", "share"), [("tune_your_policy", 0.5), ("loo_fid_in_your_loop", 0.25)])
def test_an_example_learns_and_prints_what_the_page_shows(name, share, tmp_path):
    said = output_of(name, tmp_path)
    distances = [float(distance) for distance in re.findall(r"FID (\d+\.\d+)", said)]
    assert distances[-1] < share * distances[0]
    compared(name, said)


def test_the_example_with_trl_learns_and_prints_what_the_page_shows(tmp_path):
    pytest.importorskip("trl", reason="TRL is not installed (pip install trl)")
    said = output_of("loo_fid_in_trl", tmp_path).splitlines()[-1] + "\n"
    first, last = (float(distance) for distance in NUMBER.findall(said))
    assert last < first / 5
    compared("loo_fid_in_trl", said)


def reward_of_trl(reference):
    spec = importlib.util.spec_from_file_location("loo_fid_in_trl", ROOT / "examples/loo_fid_in_trl.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_reward_function(reference)


COMPLETIONS = torch.randint(8, (12, 16), generator=torch.Generator().manual_seed(0)).tolist()
COMPLETIONS[3] = COMPLETIONS[3][:5]  # one that ended early


def called_as_by_trl(world):
    moments = torch.full((16,), 0.5, dtype=torch.float64), torch.eye(16, dtype=torch.float64) * 0.05
    reward = reward_of_trl(artune.ReferenceMoments.from_moments(moments[0], covariance=moments[1], compare="full"))
    assert reward.__name__ == "loo_fid"  # TRL's name of the reward
    own = COMPLETIONS[world.share(12).rows]
    prompts = ["<image>"] * len(own)
    return [
        reward(prompts=prompts, completions=prompts, completion_ids=own, trainer_state=None) for _ in range(2)
    ]  # fmt: skip


def test_the_reward_function_for_trl_gives_each_process_the_rewards_of_its_own_samples():
    [whole] = run_processes(1, called_as_by_trl)
    parts = run_processes(2, called_as_by_trl)
    assert all(isinstance(number, float) for call in whole for number in call)
    assert [one + two for one, two in zip(*parts, strict=True)] == whole


def test_the_examples_stay_short():
    assert {path.stem for path in (ROOT / "examples").glob("*.py")} == set(LENGTHS)
    for name, most in LENGTHS.items():
        assert len((ROOT / f"examples/{name}.py").read_text().splitlines()) < most
