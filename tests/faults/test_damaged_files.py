"""Damaged files between two stages: the stage that reads one names it and leaves its earlier output in place."""

import json
import shutil

import pytest
from project import RUN, altered, digest
from trainings import Command


def truncate(data):
    return data[: len(data) // 2]


def flip(data):
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0xFF]) + data[len(data) // 2 + 1 :]


def zeros(data):
    return bytes(len(data))


TRAIN = (
    "train", "--config", f"{RUN}/config.yaml", "--policy", "results/smoke/pretrained/llamagen_l/policy.safetensors",
    "--tokenizer", "results/smoke/pretrained/vq/tokenizer.safetensors", "--networks", "results/smoke/inputs/networks",
    "--reference", "results/smoke/reference.npz", "--output", "{out}/policy.safetensors",
)  # fmt: skip
EVALUATE = (
    "evaluate", "--config", f"{RUN}/config.yaml", "--features", f"{RUN}/features.npz",
    "--reference", "results/smoke/reference.npz", "--output", "{out}/scores.json",
)  # fmt: skip
TABLE = ("table", "table4", "--runs", "results/smoke/runs", "--output", "{out}/table4.csv")
STAGES = [
    ("the features of a run", f"{RUN}/features.npz", truncate, EVALUATE),
    ("the features of a run", f"{RUN}/features.npz", zeros, EVALUATE),
    ("the reference's moments", "results/smoke/reference.npz", truncate, EVALUATE),
    ("the scores of a run", f"{RUN}/scores.json", truncate, TABLE),
    ("the scores of a run", f"{RUN}/scores.json", zeros, TABLE),
    ("the settings of a run", f"{RUN}/config.yaml", zeros, TRAIN),
    ("the weights of the prior", "results/smoke/pretrained/llamagen_l/policy.safetensors", truncate, TRAIN),
    ("the weights of the tokenizer", "results/smoke/pretrained/vq/tokenizer.safetensors", zeros, TRAIN),
    ("a frozen network", "results/smoke/inputs/networks/clip.safetensors", truncate, TRAIN),
]


@pytest.mark.parametrize(("what", "path", "damage", "command"), STAGES)
def test_damaged(smoke, tmp_path, what, path, damage, command, fault):
    """A file between two stages is damaged"""
    file = smoke / path
    out = tmp_path / "out"
    out.mkdir()
    (out / command[-1].rpartition("/")[2]).write_text("what was there")
    before = {found.name: digest(found) for found in out.iterdir()}
    with altered(file, damage(file.read_bytes())):
        done = Command(smoke, *(part.format(out=out) for part in command)).wait()
    assert done.status == 2, done.text
    assert done.line.startswith("error: ")
    assert file.name in done.line
    assert {found.name: digest(found) for found in out.iterdir() if found.is_file()} == before
    fault.fault = (
        f"{what[0].upper()}{what[1:]}: "
        f"{ ({truncate: 'cut in half', flip: 'a byte altered', zeros: 'filled with zeros'}[damage]) }"
    )
    fault.done = f"`{file.name}` altered before `artune {command[0]}`"
    fault.happened = f"status 2 and a line that names the file: “{done.line[7:110].replace(str(smoke), '')}...”"
    fault.lost = "nothing: the earlier output stays"


def test_samples_damaged(smoke, tmp_path, fault):
    """A run has fewer samples than the evaluation asks for"""
    import numpy as np

    samples = tmp_path / "samples.npz"
    np.savez(samples, arr_0=np.zeros((5, 24, 24, 3), np.uint8), labels=np.zeros(5, np.int64))
    command = (
        "features",
        "--samples",
        samples,
        "--networks",
        "results/smoke/inputs/networks",
        "--output",
        tmp_path / "f.npz",
    )
    done = Command(smoke, *command).wait()
    assert done.status == 2, done.text
    assert "samples.npz" in done.line
    assert not (tmp_path / "f.npz").exists()
    fault.done = "5 images where the evaluation asks for 64"
    fault.happened = f"status 2: “... {done.line.rpartition('/')[2]}”"
    fault.lost = "nothing"


def test_run_of_another_scale(smoke, tmp_path, fault):
    """The scores of a run lack every metric"""
    runs = tmp_path / "runs"
    shutil.copytree(
        smoke / "results/smoke/runs", runs, ignore=shutil.ignore_patterns("*.npz", "*.safetensors", "grids")
    )
    path = runs / "llamagen_l-ours/scores.json"
    scores = json.loads(path.read_text())
    path.write_text(json.dumps(scores | {"scores": {}}))
    done = Command(smoke, "table", "table4", "--runs", runs, "--output", tmp_path / "t.csv").wait()
    assert done.status in (0, 2), done.text
    assert "Traceback" not in done.text
    if done.status == 0:
        assert "llamagen_l-ours" in (tmp_path / "t.csv").read_text()
    fault.fault = "The scores of a run lack every metric"
    fault.done = "`scores: {}` in one scores.json before `artune table`"
    fault.happened = (
        "the table has the run's row, with empty cells" if done.status == 0 else f"status 2: “{done.line[:100]}”"
    )
    fault.lost = "nothing"
