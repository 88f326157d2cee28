# Names and paths that several rules use. Logic lives in src/artune; this file only asks it.
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(workflow.basedir) / "src"))

from artune.config import Settings
from artune.errors import ArtuneError
from artune import registry

try:
    SETTINGS = registry.parse(Settings, dict(config), "config/config.yaml")
    REGISTRY = registry.Registry(SETTINGS.scale, SETTINGS.preset, Path(workflow.basedir) / "config")
    for run_name in REGISTRY.run_names:
        REGISTRY.resolve(run_name)
    for run_name in SETTINGS.figure2.compare:
        REGISTRY.split_seed(run_name)
except ArtuneError as error:
    raise WorkflowError(str(error))

SCALE = SETTINGS.scale
SCORE_TABLES = [name for name, table in REGISTRY.tables.items() if table.kind == "scores"]
STUDY_TABLES = [name for name, table in REGISTRY.tables.items() if table.kind == "study"]
PAPER_TABLES = [name for name in REGISTRY.tables if name.startswith("table")]
RUN_PATTERN = "|".join(REGISTRY.run_names)

# Options that every command shares: the same settings as this call of Snakemake's.
SHARED = f"--scale {SCALE} --preset {SETTINGS.preset} --device {SETTINGS.device} --threads {{threads}} --log {{log}}"

# Jobs run under the interpreter that runs Snakemake, activated or not; with --sdm conda the rule's environment wins.
if not workflow.deployment_settings.deployment_method:
    shell.prefix(f'export PATH="{Path(sys.executable).parent}:$PATH"; ')


wildcard_constraints:
    scale=SCALE,
    run=rf"({RUN_PATTERN})(-s[1-9]\d*)?",
    prior=rf"({'|'.join(REGISTRY.backbones)})(-s[1-9]\d*)?",
    tokenizer="|".join(REGISTRY.tokenizers),
    network="|".join(REGISTRY.networks),
    asset="|".join(REGISTRY.assets),
    table="|".join(REGISTRY.tables),
    figure="|".join(REGISTRY.figures),


@functools.cache
def spec(run):
    return REGISTRY.spec(run)


def network_files(names):
    return [f"results/{SCALE}/inputs/networks/{name}.safetensors" for name in sorted(set(names))]


def evaluation_networks(_=None):
    protocol = REGISTRY.evaluation
    return network_files(
        [protocol.features, protocol.classifier, protocol.clip, protocol.reward_features, protocol.reward_clip]
    )


def tokenizer_file(run):
    return f"results/{SCALE}/pretrained/{spec(run)['backbone']['tokenizer']}/tokenizer.safetensors"


def codes_file(run):
    return f"results/{SCALE}/pretrained/{spec(run)['backbone']['tokenizer']}/codes.npz"


def prior_file(run):
    return f"results/{SCALE}/pretrained/{REGISTRY.pretrained_name(run)}/policy.safetensors"


def policy_file(run):
    """Weights that a run is sampled from: trained here, somebody else's release, or the prior itself."""
    method = spec(run)["method"]
    if method in ("grpo", "mle"):
        return f"results/{SCALE}/runs/{run}/policy.safetensors"
    if method == "external":
        return f"results/{SCALE}/pretrained/external/{spec(run)['checkpoint']}/policy.safetensors"
    return prior_file(run)


def asset_stamp(key):
    return f"results/{SCALE}/assets/{key}.json"


def table_runs(table):
    """Every run of a score table, with its seeds, that can be had at this scale."""
    rows = [row.run for row in REGISTRY.tables[table].rows if row.run]
    return [
        name
        for run in dict.fromkeys(rows)
        if not REGISTRY.unavailable(run)
        for name in REGISTRY.seed_names(run, SETTINGS.seeds)
    ]


def caption(kind, name):
    section = REGISTRY.tables if kind == "table" else REGISTRY.figures
    return f"{section[name].title} {REGISTRY.about.note}".strip()
