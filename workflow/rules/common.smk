# Names that several rule files use. src/artune/planning (plan.py, sources.py) decides which file depends on which; the
# rules only call it.
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from artune.errors import ArtuneError
from artune.planning.plan import Plan

try:
    PLAN = Plan(dict(config), Path(workflow.basedir) / "config")
except ArtuneError as error:
    raise WorkflowError(str(error))

SCALE = PLAN.scale
SETTINGS = PLAN.settings
REGISTRY = PLAN.registry
EXTRA_TABLES = [name for name in REGISTRY.tables if name.startswith("extra_")]
PAPER_TABLES = [name for name in REGISTRY.tables if name not in EXTRA_TABLES]

# Priorities of the rules: 4 for data and settings, which many jobs wait for; 3 for tokenizer, codes and prior, the longest
# chain. On MNIST a training takes a minute, so all trainings run before the first samples (2), and no core is idle at the
# end. On ImageNet a training takes hours, and early scores are worth more (0).
TRAIN_FIRST = 2 if REGISTRY.data.source == "mnist" else 0

# Options that every command receives: the settings of this call of Snakemake.
SHARED = f"--scale {SCALE} --preset {SETTINGS.preset} --device {SETTINGS.device} --threads {{threads}} --log {{log}}"

# Jobs use the Python that runs Snakemake, even if its environment is not activated. With --sdm conda they use the Python
# of the rule's environment.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')


# The Python that has TensorFlow (`make official`). Under any other Python the command says how to install it.
OFFICIAL = os.environ.get("ARTUNE_OFFICIAL_PYTHON", ".venv-official/bin/python")
if workflow.deployment_settings.deployment_method or not Path(OFFICIAL).exists():
    OFFICIAL = "python"


def runs_of(names):
    """Regular expression for these runs and their further seeds."""
    return rf"({'|'.join(sorted(names))})(-s[1-9]\d*)?"


wildcard_constraints:
    scale=SCALE,
    run=runs_of(REGISTRY.run_names),
    prior=rf"({'|'.join(REGISTRY.backbones)})(-s[1-9]\d*)?",
    tokenizer="|".join(REGISTRY.tokenizers),
    network="|".join(REGISTRY.networks),
    asset="|".join(REGISTRY.assets),
    table="|".join(REGISTRY.tables),
    figure="|".join(REGISTRY.figures),


def option(name, files):
    """`--name FILE` if the rule has an input of that name, else an empty string."""
    return f"--{name} {files.get(name)}" if name in files.keys() else ""
