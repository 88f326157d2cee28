"""The public names: said in one place, loaded when used, documented with an example that runs."""

import ast
import doctest
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import artune
from artune.models.tokenizers.build import build_tokenizer
from artune.models.weights.checkpoints import save_module

ROOT = Path(__file__).parents[2]
# Names of the issue that made them public: none may go away, and each has an example.
PROMISED = [
    "loo_fid_reward",
    "LooFidReward",
    "FeatureMoments",
    "ReferenceMoments",
    "frechet_distance",
    "jackknife_fid",
    "kid",
    "cmmd",
    "inception_score",
    "precision_recall",
    "density_coverage",
    "group_advantages",
    "combined_advantages",
    "grpo_loss",
    "kl_penalty",
    "token_entropy",
    "EntropyController",
    "generate",
    "GRPOTrainer",
    "load_policy",
    "load_tokenizer",
    "InceptionFeatures",
    "token_scores",
    "step_logits",
    "GRPOSettings",
    "Policy",
    "save_policy",
    "feature_moments",
]

EXAMPLE_AT = {"jackknife_fid": artune.JackknifeFID}  # a function whose example stands at what it returns


def test_every_promised_name_is_public_and_nothing_else_is_loaded_before_it_is_used():
    assert set(PROMISED) <= set(artune.PUBLIC)
    code = "import artune, sys; print(sorted(n for n in sys.modules if n.startswith('artune')), 'torch' in sys.modules)"
    assert fresh(code) == "['artune'] False"
    assert set(artune.PUBLIC) <= set(dir(artune))
    assert set(artune.__all__) == set(artune.PUBLIC)


def test_the_table_of_names_and_the_imports_for_type_checkers_agree():
    tree = ast.parse((ROOT / "src/artune/__init__.py").read_text())
    found = {
        alias.asname: node.module.removeprefix("artune.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("artune.")
        for alias in node.names
    }
    assert found == artune.PUBLIC


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'loo_fid'"):
        artune.loo_fid  # noqa: B018


def fresh(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A working directory with the files that the examples load."""
    monkeypatch.chdir(tmp_path)
    sizes = {"dim": 16, "layers": 1, "heads": 2, "codebook_size": 8, "classes": 4, "tokens": 9, "ffn_multiple_of": 8}
    torch.save({"model": artune.LlamaGen(**sizes).state_dict()}, "llamagen.pt")
    vq = artune.Tokenizer(
        family="vq", channels=8, norm_groups=4, channel_multipliers=(1, 1), residual_blocks=1, latent_channels=8,
        codebook_size=8, codebook_dim=4,
    )  # fmt: skip
    save_module("tokenizer.safetensors", build_tokenizer(vq))
    return tmp_path


@pytest.mark.parametrize("name", sorted(artune.PUBLIC))
def test_a_public_name_is_documented_and_its_example_runs(name, files):
    value = getattr(artune, name)
    assert inspect.getdoc(value)
    assert inspect.getmodule(value).__name__ == f"artune.{artune.PUBLIC[name]}"
    if name == "InceptionFeatures":
        from artune.models.encoders.inception import Inception

        torch.save(Inception().state_dict(), "weights-inception-2015-12-05-6726825d.pth")
    globs = {"artune": artune, "torch": torch, "math": math}
    tests = doctest.DocTestFinder(recurse=False).find(EXAMPLE_AT.get(name, value), name, globs=globs)
    examples = sum(len(test.examples) for test in tests)
    if name in PROMISED:
        assert examples >= 2, f"{name} has no example"
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), []
    with torch.random.fork_rng():
        for test in tests:
            runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


@pytest.mark.parametrize("name", PROMISED)
def test_a_promised_function_names_its_arguments_and_errors(name):
    value = getattr(artune, name)
    text = inspect.getdoc(value)
    if inspect.isclass(value):
        assert "Args:" in text or "Attributes:" in text
        return
    parameters = [each for each in inspect.signature(value).parameters if each != "self"]
    if len(parameters) > 1:
        missing = [each for each in parameters if f"{each}:" not in text]
        assert not missing, f"{name} does not explain {', '.join(missing)}"


def test_importing_artune_takes_less_than_50_ms():
    code = "import time; t = time.perf_counter(); import artune; print(time.perf_counter() - t)"
    assert min(float(fresh(code)) for _ in range(3)) < 0.05


def test_the_reward_costs_torch_and_hardly_more():
    code = """
import json, sys, time
import torch
before, began = set(sys.modules), time.perf_counter()
import artune
artune.loo_fid_reward
seconds = time.perf_counter() - began
print(json.dumps([seconds, sorted(set(sys.modules) - before)]))
"""
    seconds, loaded = min(json.loads(fresh(code)) for _ in range(3))
    ours = {"", ".errors", ".metrics", ".metrics.trace_sqrt", ".rewards", ".rewards.loo_fid", ".rewards.moments"}
    assert {name.removeprefix("artune") for name in loaded if name.startswith("artune")} == ours
    third_party = {name.split(".")[0] for name in loaded} - set(sys.stdlib_module_names) - {"artune"}
    assert third_party == set()
    assert seconds < 0.2
