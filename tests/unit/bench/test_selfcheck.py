"""The self-check of the paper's networks, at the miniature sizes of the imagenet world."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch
from imagenet_world import shrink
from project import ROOT

from artune.bench.random_weights import random_policy
from artune.bench.selfcheck import Machine, check_part, network_parts, run_policy, selfcheck
from artune.config.registry import Registry
from artune.errors import ArtuneError
from artune.models.policies.cache import KVCache
from artune.models.policies.llamagen import LlamaGen
from artune.sampling.decoders import PlainDecoder

CPU = Machine(torch.device("cpu"), torch.float32)
# Packages that a machine which only computes need not have.
ABSENT = ("snakemake", "mlflow", "pandas", "matplotlib", "sklearn", "mlxtend", "transformers", "rich", "pyarrow")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "config", folder / "config")
    shrink(folder)
    return folder


@pytest.fixture
def registry(project, monkeypatch):
    monkeypatch.chdir(project)
    return Registry("imagenet")


@pytest.mark.slow
def test_every_network_is_checked_by_one_command_without_snakemake_or_mlflow(project, tmp_path):
    code = f"import sys; sys.modules.update(dict.fromkeys({ABSENT})); from artune.commands.cli import main; sys.exit(main())"
    arguments = ("selfcheck", "--device", "cpu", "--dtype", "bfloat16", "--output", tmp_path / "selfcheck.json")
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert "selfcheck.json: 6 networks on cpu in bfloat16, all checks passed, peak" in done.stderr.splitlines()[-1]
    found = json.loads((tmp_path / "selfcheck.json").read_text())
    assert [row["network"] for row in found["rows"]] == ["llamagen_b", "vq", "clip", "hps", "maniqa", "inception"]
    assert [row["dtype"] for row in found["rows"]] == ["bfloat16", "float32", *["bfloat16"] * 3, "float32"]
    assert all(0 < row["peak_gb"] <= found["peak_gb"] for row in found["rows"])
    assert len(done.stdout.splitlines()) == 7
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]


def policy_part(registry, name="llamagen_l"):
    return next(part for part in network_parts(registry, name, CPU) if part.name == name)


def test_a_policys_row_says_how_far_decoding_and_half_precision_are_off(registry):
    row = check_part(policy_part(registry), CPU)
    assert row.batch == "2 x 4 tokens"
    plain, fast, half = map(float, re.findall(r"\d\.\de[+-]\d+", row.seen))
    assert "PlainDecoder of sampling" in row.seen
    assert 0 <= plain < 1e-4
    assert 0 <= fast < 1e-4 < half < 0.3


@pytest.mark.parametrize("name", ["llamagen_b", "vqgan"])
def test_policies_of_both_families_are_run(registry, name):
    assert check_part(policy_part(registry, name), CPU).parameters > 0


def test_a_cache_that_loses_a_position_is_noticed(registry, monkeypatch):
    right = KVCache.append

    def forgetful(self, layer, key, value):
        keys, values = right(self, layer, key, value)
        return keys[-2:], values[-2:]

    monkeypatch.setattr(KVCache, "append", forgetful)
    with pytest.raises(ArtuneError, match=r"selfcheck: cached decoding differs by .* from the teacher-forced forward"):
        check_part(policy_part(registry), CPU)


def test_a_decoder_of_sampling_that_differs_is_noticed(registry, monkeypatch):
    class Stale(PlainDecoder):
        def decode(self, token):
            return super().decode(token * 0)

    monkeypatch.setattr("artune.bench.selfcheck.decoder_for", lambda policy, classes: Stale(policy))
    with pytest.raises(ArtuneError, match=r"selfcheck: the decoding of sampling differs by .* from"):
        check_part(policy_part(registry), CPU)


def test_arithmetic_that_is_too_coarse_is_noticed(registry, monkeypatch):
    right = LlamaGen.forward

    def coarse(self, *arguments):
        logits = right(self, *arguments)
        return logits.round() if self.norm.weight.dtype == torch.bfloat16 else logits

    monkeypatch.setattr(LlamaGen, "forward", coarse)
    with pytest.raises(
        ArtuneError, match=r"selfcheck: bfloat16 differs by .* from the teacher-forced forward, more than"
    ):
        run_policy(random_policy(registry.backbones["llamagen_l"], CPU.device).requires_grad_(False), CPU)


def test_nan_is_noticed(registry):
    policy = random_policy(registry.backbones["llamagen_b"], CPU.device).requires_grad_(False)
    policy.norm.weight[0] = torch.nan
    with pytest.raises(ArtuneError, match="selfcheck: NaN or infinity came out"):
        run_policy(policy, CPU)


def test_an_unknown_backbone_is_named(registry):
    with pytest.raises(ArtuneError, match="--backbone: unknown 'gpt'; known are llamagen_b"):
        selfcheck(registry, "gpt", CPU)
