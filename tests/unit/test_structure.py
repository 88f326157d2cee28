"""The shape of the code base: sizes, import direction, names that the README promises."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from artune.cli import COMMANDS

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src/artune").rglob("*.py"))
# A module may import from its own level and from those below.
LEVELS = [
    {"cli", "commands", "__main__"},
    {"run_page", "claims", "claim_tests", "verdicts", "report",
     "selfcheck", "train_moments",
     "official", "official_scores", "official_graph", "protocol", "real_samples",
     "train", "build", "provenance", "continuation", "vapi", "class_moments", "trainer", "sample", "features", "evaluate", "compare", "tables", "table_text", "figures", "study",
     "costs", "tracking", "mlflow_store", "mlflow_run", "assets", "download", "export", "imagenet", "imagenet_codes", "pretrain", "train_networks", "train_tokenizer", "bench", "bench_request", "bench_iteration", "bench_rollout", "bench_stages", "gpu_hours", "budget", "doctor", "slurm"},
    {"rewards", "rollout", "objective", "update", "mle", "sampling", "decoding", "metrics", "grpo", "entropy", "fit", "state", "augment"},
    {"models", "tokenizers", "encoders", "checkpoints", "tensor_files", "pickles", "data"},
    {"glossary", "claim_layouts", "layout_files",
     "plan", "floors", "memory", "registry", "layers", "layouts", "config", "schema", "tuning", "settings", "errors", "files", "seeds", "progress", "clock",
     "launch", "distributed", "stopping", "lease", "fence", "finished", "chunks"},
]  # fmt: skip
TORCH_FREE = (
    "cli",
    "commands",
    "config",
    "schema",
    "tuning",
    "registry",
    "layers",
    "layouts",
    "settings",
    "plan",
    "floors",
    "memory",
    "errors",
    "fence",
    "files",
    "launch",
    "lease",
    "tables",
    "run_page",
    "claims",
    "report.page",
    "study.serve",
    "study.table",
    "costs",
    "budget",
    "gpu_hours",
    "slurm",
    "doctor",
    "protocol",
    "official_scores",
)


def imports(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def unit_of(path):
    return path.relative_to(ROOT / "src/artune").parts[0].removesuffix(".py")


def level_of(unit):
    found = [number for number, names in enumerate(LEVELS) if unit in names]
    assert found, f"{unit}: give it a level in {Path(__file__).name}"
    return found[0]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src/artune")))
def test_modules_import_only_from_their_level_and_below(path):
    unit = unit_of(path)
    if unit == "__init__":
        return
    for module in imports(path):
        if module.startswith("artune."):
            other = module.split(".")[1]
            assert level_of(other) >= level_of(unit), f"{unit} imports {other}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src/artune")))
def test_files_stay_readable(path):
    lines = len(path.read_text().splitlines())
    assert lines <= (400 if "models" in path.parts else 300), f"{path.name} has {lines} lines"
    assert path.stem not in ("utils", "helpers", "misc", "common", "base")


@pytest.mark.parametrize("path", sorted((ROOT / "workflow/rules").glob("*.smk")), ids=lambda path: path.name)
def test_rule_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 120


def test_planning_never_imports_torch():
    modules = ", ".join(f"artune.{name}" for name in TORCH_FREE)
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_rule_runs_the_command_of_its_name():
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        for rule, body in re.findall(r"\n *rule (\w+):(.*?)(?=\n *rule |\Z)", path.read_text(), re.S):
            if rule.startswith("publish_"):
                continue
            command = re.search(r"-m artune (\w+)", body)
            assert command, f"{path.name}: rule {rule} runs no command"
            assert command[1] in COMMANDS
            assert command[1] == ("table" if rule == "study_table" else rule)


def test_the_find_it_table_of_the_readme_points_at_code_that_exists():
    readme = (ROOT / "README.md").read_text()
    rows = re.findall(r"`src/artune/([\w/]+)\.py`: ((?:`[\w.]+`(?:, )?)+)", readme)
    assert len(rows) >= 5
    for module, names in rows:
        loaded = importlib.import_module(f"artune.{module.replace('/', '.')}")
        for name in re.findall(r"`([\w.]+)`", names):
            value = loaded
            for part in name.split("."):
                value = getattr(value, part)
    for path in re.findall(r"`((?:src|config|workflow|tests|envs|docs)/[\w/.*-]+)`", readme):
        assert list(ROOT.glob(path.rstrip("/"))), f"README names {path}, which does not exist"


def test_help_is_instant():
    code = (
        "import time; t = time.perf_counter(); import artune.cli; artune.cli.parser(); print(time.perf_counter() - t)"
    )
    seconds = float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
    assert seconds < 0.5


def test_conda_environments_install_pins_that_exist_and_agree():
    pins = {
        path.name: dict(re.findall(r"^([\w.-]+)==(\S+)", path.read_text(), re.M)) for path in ROOT.glob("envs/*.txt")
    }
    for path in ROOT.glob("envs/*.yaml"):
        assert "pip:" not in path.read_text(), (
            path.name
        )  # conda makes it from a copy elsewhere, which finds no file beside it
        script = path.with_suffix(".post-deploy.sh").read_text()
        assert set(re.findall(r"-r envs/(\S+)", script)) <= set(pins)
    ours, official = pins["requirements.txt"], pins["official.txt"]
    assert "tensorflow-cpu" not in ours
    assert "torch" not in official
    for name in ("numpy", "pydantic", "pyyaml", "filelock"):
        assert ours[name] == official[name], name
