# Names that several rules use. Which file depends on which is in src/artune/planning/plan.py; this file only asks it.
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

# Priorities: what others wait for at once (data, settings), then the longest chain (tokenizer, codes, prior). Where a
# training takes a minute all of them go before the first samples, so that no core is idle at the end; where it takes
# hours the first scores matter more.
TRAIN_FIRST = 2 if REGISTRY.data.source == "mnist" else 0

# Options that every command shares: the same settings as this call of Snakemake's.
SHARED = f"--scale {SCALE} --preset {SETTINGS.preset} --device {SETTINGS.device} --threads {{threads}} --log {{log}}"

# Jobs run under the interpreter that runs Snakemake, activated or not; with --sdm conda the rule's environment wins.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')


# The interpreter that has TensorFlow (`make official`); any other says how to get it.
OFFICIAL = os.environ.get("ARTUNE_OFFICIAL_PYTHON", ".venv-official/bin/python")
if workflow.deployment_settings.deployment_method or not Path(OFFICIAL).exists():
    OFFICIAL = "python"


def runs_of(names):
    """Pattern of runs and their further seeds."""
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
    """`--name FILE` where the rule has that input, else nothing."""
    return f"--{name} {files.get(name)}" if name in files.keys() else ""
