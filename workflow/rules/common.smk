# Names that several rule files use. src/artune/planning (plan.py, sources.py) decides which file depends on which; the
# rules only call it.
import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from artune.config.seeds import ENDINGS, cut_seeds
from artune.config.yaml_layers import FOLDER, config_folder, read_yaml
from artune.errors import ArtuneError, without_secrets
from artune.planning.calls.clone import check_clone, path_prefix
from artune.planning.layers import edits_without_effect
from artune.planning.plan import Plan
from artune.planning.calls.snapshot import plan_and_copy
from artune.planning.calls.snakemake_lock import guard
from artune.tracking.run_logger import tracking_uri

try:
    from artune.planning.calls.cluster_executor import install

    install()
except ImportError:  # Snakemake without its plugin for clusters
    pass

# Jobs read a copy of the settings that is made here, when Snakemake plans them; an edit of config/ while they wait or run
# reaches none of them. A job on a cluster runs this file again: it plans from the same copy.
try:
    check_clone(Path(workflow.basedir), Path(sys.executable))
    if workflow.is_main_process or FOLDER not in os.environ:
        PLAN, SNAPSHOT = plan_and_copy(dict(config), Path(workflow.basedir) / "config")
        os.environ[FOLDER] = str(SNAPSHOT.folder)
        if without_secrets(PLAN.settings.tracking_uri) != PLAN.settings.tracking_uri:
            os.environ |= {"MLFLOW_TRACKING_URI": tracking_uri(PLAN.settings.tracking_uri)}
        for line in edits_without_effect(PLAN.registry):
            logger.warning(f"warning: {line}")
    else:
        PLAN, SNAPSHOT = Plan(read_yaml(config_folder() / "config.yaml"), config_folder()), None
except ArtuneError as error:
    raise WorkflowError(str(error))

# Snakemake prints and logs its own command, in which `--config tracking_uri=` may hold a password, and gives these words to its
# jobs on a cluster. Jobs get the address from the environment, never from their command.
sys.argv[:] = map(without_secrets, sys.argv)
workflow.config_settings.config_args = [without_secrets(word) for word in workflow.config_settings.config_args or ()]

guard(Path(PLAN.shared))
if SNAPSHOT and not workflow.dryrun and getattr(workflow.execution_settings, "no_hooks", False):
    SNAPSHOT.write()  # otherwise onstart does, in records.smk


envvars:
    FOLDER,


SCALE = PLAN.scale
SETTINGS = PLAN.settings
REGISTRY = PLAN.registry
EXTRA_TABLES = [name for name in REGISTRY.tables if name.startswith("extra_")]
PAPER_TABLES = [name for name in REGISTRY.tables if name not in EXTRA_TABLES]

# Priorities of the rules: 4 for data and settings, which many jobs wait for; 3 for tokenizer, codes and prior, the longest
# chain. At an embedded scale a training takes minutes, so all trainings run before the first samples (2), and no core is
# idle at the end. On ImageNet a training takes hours, and early scores are worth more (0).
TRAIN_FIRST = 2 if REGISTRY.data.embedded else 0

# Options that every command receives. All other settings of this call are in the copy that ARTUNE_CONFIG names: a device
# or a preset in the text of a command would count as a change of the command, and all its outputs would be made again.
SHARED = f"--scale {SCALE} --threads {{threads}} --log {{log}}"
DATA_FILES = " --files {input}" if REGISTRY.data.files else ""  # of the rule data

# Jobs use the Python that runs Snakemake, even if its environment is not activated. With --sdm conda they use the Python
# of the rule's environment.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(path_prefix(Path(sys.executable)))


# The Python that has TensorFlow (`make official`). Under any other Python the command says how to install it.
OFFICIAL = os.environ.get("ARTUNE_OFFICIAL_PYTHON") or ".venv-official/bin/python"
if workflow.deployment_settings.deployment_method or not Path(OFFICIAL).exists():
    OFFICIAL = "python"
OFFICIAL = shlex.quote(OFFICIAL)


def seeded(names, *seeds):
    """Regular expression for these names and their further seeds, see artune.config.seeds."""
    return f"({'|'.join(names)}){''.join(ENDINGS[seed] for seed in seeds)}"


def runs_of(names):
    """Regular expression for these runs and their further seeds."""
    return seeded(sorted(names), *ENDINGS)


def set_of(wildcards):
    """Number of the set of frozen networks in the name of a file, such as reference-n1.npz."""
    return cut_seeds(f"file{wildcards.set}")[1].networks


wildcard_constraints:
    scale=Path(PLAN.folder).name,  # mnist, or mnist-release
    home="|".join({Path(PLAN.folder).name, Path(PLAN.shared).name}),  # of files that two presets may share
    run=runs_of(REGISTRY.run_names),
    prior=seeded(REGISTRY.backbones, "tokenizer", "repetition"),
    tokenizer=seeded(REGISTRY.tokenizers, "tokenizer"),
    network=seeded(REGISTRY.networks, "networks"),
    set=ENDINGS["networks"],
    asset="|".join(REGISTRY.assets),
    table="|".join(REGISTRY.tables),
    figure="|".join(REGISTRY.figures),


def layout_of(table):
    """The layout of a table; whether ``seeds`` repeats its rows is told by the scores that it is made from."""
    return REGISTRY.tables[table].model_dump(exclude={"repeated"})


def networks(files):
    """`--networks FILE...` for these weight files, or an empty string."""
    return f"--networks {' '.join(files)}" if files else ""


def recipe(home, kind, *name):
    """The settings that decide a file, see PLAN.recipe."""
    try:
        return PLAN.recipe(home, kind, *name)
    except ArtuneError as error:
        raise WorkflowError(str(error))


def settled(files):
    """Inputs in which the stamp of an asset that is only checked again at another place outdates nothing.

    The check fails unless the file there is the one that the stamp tells of.
    """
    if isinstance(files, dict):
        return {name: settled(paths) for name, paths in files.items()}
    if isinstance(files, str):
        return ancient(files) if PLAN.moved(files) else files
    return [settled(path) for path in files]


def option(name, files):
    """`--name FILE` if the rule has an input of that name, else an empty string."""
    return f"--{name} {files.get(name)}" if name in files.keys() else ""
