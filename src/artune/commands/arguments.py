"""Every command of the command line, declared once: its purpose, the module of its function, its arguments."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from artune import RESULTS_VERSION, __version__
from artune.bench.options import BENCH_OPTIONS, SELFCHECK_OPTIONS
from artune.errors import ArtuneError, unknown
from artune.planning.timetable.options import OPTIONS
from artune.results.options import EXPECTED, FIGURE, TABLE
from artune.scoring.options import OPTIONS as SCORING

PATHS = {
    "output": "file to write",
    "config": "the run's config.yaml",
    "policy": "weights of the policy",
    "pretrained": "weights of the pretrained policy, for the grid",
    "tokenizer": "weights of the tokenizer",
    "codes": "token codes of the data set",
    "data": "data.npz, or the stamp of an external file",
    "reference": "reference.npz",
    "second_reference": "moments of the training images under the network of loo_fid_second",
    "class_moments": "class_moments.npz",
    "moments": "moments of the training images under the reward's own network",
    "samples": "samples.npz",
    "features": "features.npz",
    "scores": "scores.json",
    "graph": "classify_image_graph_def.pb, or its stamp",
    "timings": "timings.jsonl of the run",
    "costs": "costs.csv that was measured on a GPU",
    "grid": "picture to write",
    "runs": "folder of the runs",
    "results": "folder of the scale",
    "votes": "SQLite file of the human study",
    "tally": "counted votes",
    "profile": "folder of the SLURM profile to check (default: slurm_a100 at the imagenet scale where there is SLURM)",
    "pairs": "file of pairs of the human study",
    "judge": "preferences of the automatic judge",
}


SEVERAL = {  # options with several paths
    "networks": "files of the frozen networks, or their folder",
    "references": "files of further references, named by their reference",
    "files": "stamps of the assets that the data set is made of",
}


@dataclass(frozen=True)
class Command:
    """A command; the function of the same name in ``artune.commands.{module}`` carries it out."""

    module: str
    summary: str
    positional: str | None = None  # name of its positional argument
    required: str = ""  # required options, keys of PATHS and SEVERAL separated by spaces
    optional: str = ""  # further options, keys of PATHS and SEVERAL separated by spaces
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # other options -> arguments of argparse


COMMANDS: dict[str, Command] = {
    "run_config": Command("tuning", "resolve a run's settings", positional="run", required="output"),
    "asset": Command("inputs", "check an external file, fetch it if necessary", positional="asset", required="output"),
    "assets": Command(
        "inputs",
        "list the external files: present, missing, wrong digest",
        options={
            "--fetch": {"action": "store_true", "help": "fetch the needed files that may be fetched"},
            "--accept": {"metavar": "ASSET", "help": "take the file that is there in place of the one first used"},
        },
    ),
    "data": Command("inputs", "write the data set of an embedded source", required="output", optional="files"),
    "tokenizer": Command(
        "inputs", "train or import a tokenizer", positional="name", required="output", optional="data"
    ),
    "codes": Command(
        "inputs",
        "token codes of the data set",
        positional="name",
        required="data tokenizer output",
        options={
            "--crops": {"type": int, "help": "ImageNet: crops per image, 1 to 20 (default: what the runs can use)"}
        },
    ),
    "network": Command(
        "inputs", "train or import a frozen network", positional="name", required="output", optional="data tokenizer"
    ),
    "pretrained_policy": Command(
        "inputs", "train or import a pretrained policy", positional="name", required="output", optional="codes"
    ),
    "external_policy": Command(
        "inputs",
        "import a policy that others released",
        positional="name",
        required="output",
        optional="data",
        options={"--asset": {"required": True, "help": "key of config/assets.yaml"}},
    ),
    "reference": Command(
        "inputs", "moments and features of the real images", required="data networks output", optional="moments"
    ),
    "train_moments": Command(
        "inputs",
        "moments of the training images under a network of LOO-FID",
        positional="name",
        required="data networks output",
    ),
    "further_reference": Command(
        "inputs", "moments and features of another split of real images", required="data networks output"
    ),
    "class_moments": Command("inputs", "moments of the training images of each class", required="data networks output"),
    "train": Command(
        "tuning",
        "tune a policy",
        required="config policy tokenizer output",
        optional="networks codes data reference second_reference class_moments",
    ),
    "sample": Command(
        "evaluation",
        "draw the images that a run is scored on",
        required="config policy tokenizer output grid",
        optional="pretrained networks",
    ),
    "real_samples": Command("evaluation", "take real images in place of samples", required="config data output grid"),
    "features": Command("evaluation", "features of a run's samples", required="samples networks output"),
    "judge_reference": Command("evaluation", "held-out images under a judge of a package", "name", "data output"),
    "evaluate": Command(
        "evaluation", "score a run", required="config features reference output", optional="references timings"
    ),
    "evaluate_official": Command(
        "evaluation",
        "score a run by TensorFlow's own graph, beside the torch port",
        positional="run",
        required="samples features scores data graph output",
    ),
    "score": Command("scoring", "score image files of any origin", positional="samples", options=SCORING),
    "table": Command("results", "write a table", "table", optional="runs output tally judge", options=TABLE),
    "compare": Command(
        "evaluation",
        "differences of two runs, or of a table's rows, with paired errors and Holm's correction",
        optional="runs output",
        options={
            "--reference": {"type": Path, "nargs": "+", "metavar": "PATH", "help": "reference.npz, one for each set"},
            "pair": {"nargs": "*", "metavar": "RUN", "help": "two runs: the second minus the first"},
            "--table": {"help": "in place of two runs: every row minus the baseline of its block"},
        },
    ),
    "seed_differences": Command("results", "differences seed by seed", positional="table", required="runs output"),
    "figure": Command(
        "results",
        "draw a figure; extra_curve needs a scale with about.snapshots, such as fashion",
        positional="figure",
        required="results output",
        options=FIGURE,
    ),
    "figure_samples": Command(
        "results", "images of a figure's classes", positional="figure", required="config policy tokenizer output"
    ),
    "study_samples": Command("study", "images of a run for the human study", required="config policy tokenizer output"),
    "study_make": Command("study", "draw the pairs of the human study", optional="samples data output"),
    "study_serve": Command(
        "study",
        "serve the page on which people rate the pairs",
        optional="pairs votes",
        options={
            "--host": {"default": "127.0.0.1", "help": "address to listen on; others can reach any but the default"},
            "--port": {"type": int, "default": 8765, "help": "port to listen on, 0 for a free one"},
            "--trial": {"action": "store_true", "help": "serve without the contact and minutes of config/study.yaml"},
        },
    ),
    "study_judge": Command("study", "let a network judge the pairs", required="pairs networks output"),
    "study_tally": Command(
        "study",
        "count the votes of the human study",
        optional="votes output",
        options={
            "--flagged": {
                "choices": ["exclude", "include"],
                "default": "exclude",
                "help": "raters who failed attention checks",
            }
        },
    ),
    "export": Command(
        "tuning",
        "write a run's policy as LlamaGen's own sampling script loads it",
        positional="run",
        required="output",
        options={"--format": {"choices": ["llamagen"], "default": "llamagen", "help": "layout of the file"}},
    ),
    "costs": Command("results", "seconds per stage beside the paper's", required="timings output"),
    "claims": Command("results", "judge the paper's claims by the measurements", required="results output"),
    "expected": Command(
        "results",
        "a table beside the range of other seeds and machines",
        "table",
        optional="runs output",
        options=EXPECTED,
    ),
    "rulegraph": Command("results", "Snakemake's graph of rules, as Mermaid", required="output"),
    "report": Command("results", "one HTML file of tables, figures, claims and provenance", required="results output"),
    "mlflow_store": Command("tracking", "create the tracking store", required="output"),
    "mlflow_log": Command(
        "tracking", "bring the store up to date with a table's runs", positional="table", required="runs output"
    ),
    "mlflow": Command("tracking", "rebuild the tracking store from the files of all finished runs", required="runs"),
    "browse": Command("tracking", "show Table 4's runs in MLflow", options={"--port": {"type": int, "default": 5000}}),
    "plan": Command(
        "planning",
        "trainings and evaluations of a target: GPU hours at imagenet, CPU minutes at the embedded --scale",
        positional="target",
        optional="costs",
        options=OPTIONS,
    ),
    "doctor": Command(
        "planning", "check the machine, the cluster and the files before anything runs", optional="profile"
    ),
    "selfcheck": Command(
        "planning",
        "build and run the paper's networks at full size on random weights",
        optional="output",
        options=SELFCHECK_OPTIONS,
    ),
    "show": Command("planning", "a run's settings and the layer that set each", positional="run"),
    "bench": Command(
        "planning",
        "time a part on random weights: rollout, rewards, loo-fid, update, sample, iteration, all, suite",
        positional="target",
        optional="output",
        options=BENCH_OPTIONS,
    ),
}
GROUPS = {"study": "the human study: samples, pairs, page, judge, counts"}  # first word of the commands that have two


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog="artune", description="Policy-based tuning of autoregressive image models.")
    top.add_argument("--version", action="version", version=f"artune {__version__}, results version {RESULTS_VERSION}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for group, summary in GROUPS.items():
        below = commands.add_parser(group, help=summary, description=summary)
        members = below.add_subparsers(dest="command", required=True, metavar="COMMAND")
        for name in [name for name in COMMANDS if name.startswith(f"{group}_")]:
            short = name.removeprefix(f"{group}_")
            _fill(members.add_parser(short, help=COMMANDS[name].summary, description=COMMANDS[name].summary), name)
    for name, command in COMMANDS.items():
        grouped = name.split("_")[0] in GROUPS  # only its group is listed
        shown: dict[str, Any] = {} if grouped else {"help": command.summary}
        _fill(commands.add_parser(name, description=command.summary, **shown), name)
    return top


def _fill(sub: argparse.ArgumentParser, name: str) -> None:
    """Give ``sub`` the arguments of the command ``name``."""
    sub.set_defaults(command=name)
    command = COMMANDS[name]
    if command.positional:
        sub.add_argument(command.positional)
    for path in [*command.required.split(), *command.optional.split()]:
        needed = path in command.required.split()
        if path in SEVERAL:
            sub.add_argument(f"--{path}", type=Path, nargs="+", required=needed, metavar="PATH", help=SEVERAL[path])
        else:
            sub.add_argument(f"--{path}", type=Path, required=needed, metavar="PATH", help=PATHS[path])
    for option, settings in command.options.items():
        sub.add_argument(option, **settings)
    sub.add_argument("--scale", default=None, help="a file of config/scales/ (default: config/config.yaml)")
    sub.add_argument("--preset", default=None, help="paper or release (default: config/config.yaml)")
    sub.add_argument("--seeds", type=int, default=None, help="repetitions of every run")
    sub.add_argument("--threads", type=int, default=None, help="CPU threads")
    sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default=None)
    sub.add_argument("--log", type=Path, default=None, metavar="PATH", help="also write standard error to this file")


def parse_words(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line.

    Raises:
        ArtuneError: no such command; the message names similar ones.
    """
    first, second = (*words[:2], "", "")[:2]
    if first not in GROUPS and f"{first}_{second}" in COMMANDS:  # any command of two words may be typed as such
        return parser().parse_args([f"{first}_{second}", *words[2:]])
    if first in GROUPS:
        members = [name.removeprefix(f"{first}_") for name in COMMANDS if name.startswith(f"{first}_")]
        _require(second, members, f"command {first}")
    _require(first, [*(name for name in COMMANDS if name.split("_")[0] not in GROUPS), *GROUPS], "command")
    return parser().parse_args(words)


def _require(word: str, known: Sequence[str], what: str) -> None:
    """Raise an ArtuneError if a word that is no option names nothing that is known."""
    if word and not word.startswith("-") and word not in known and word not in COMMANDS:
        raise ArtuneError(f"{what}: {unknown(word, known, most=len(known))}")
