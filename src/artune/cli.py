"""The command line: one subcommand a rule, of the same name, and a few for people (plan, doctor, show, bench)."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from artune.errors import ArtuneError, SharedError, StoppedError
from artune.runtime.processes import launch

PATHS = {
    "output": "file to write",
    "config": "the run's config.yaml",
    "policy": "weights of the policy",
    "pretrained": "weights of the pretrained policy, for the grid",
    "tokenizer": "weights of the tokenizer",
    "codes": "token codes of the data set",
    "data": "data.npz",
    "networks": "folder of the frozen networks",
    "reference": "reference.npz",
    "class_moments": "class_moments.npz",
    "references": "folder of further references",
    "moments": "moments of the training images under the reward's own network",
    "samples": "samples.npz",
    "features": "features.npz",
    "scores": "scores.json",
    "graph": "classify_image_graph_def.pb, or its stamp",
    "timings": "timings.jsonl of the run",
    "costs": "costs.csv that a GPU was measured for",
    "grid": "picture to write",
    "runs": "folder of the runs",
    "results": "folder of the scale",
    "votes": "SQLite file of the human study",
    "tally": "counted votes",
    "profile": "folder of the SLURM profile to check (default: slurm_a100 where there is SLURM)",
    "pairs": "file of pairs of the human study",
    "judge": "what the automatic judge prefers",
}

# command -> (what it does, name of its positional argument, {path option: required})
COMMANDS: dict[str, tuple[str, str | None, dict[str, bool]]] = {
    "run_config": ("resolve a run's settings", "run", {"output": True}),
    "asset": ("check a file from outside, fetch it if need be", "asset", {"output": True}),
    "assets": ("list the files from outside: present, missing, wrong digest", None, {}),
    "data": ("write the data set of a scale that ships one", None, {"output": True}),
    "tokenizer": ("train or import a tokenizer", "name", {"data": False, "output": True}),
    "codes": ("token codes of the data set", "name", {"data": True, "tokenizer": True, "output": True}),
    "network": ("train or import a frozen network", "name", {"data": False, "tokenizer": False, "output": True}),
    "pretrained_policy": ("train or import a prior", "name", {"codes": False, "output": True}),
    "external_policy": ("import a policy that others released", "name", {"output": True}),
    "reference": (
        "moments and features of the real images",
        None,
        {"data": True, "networks": True, "moments": False, "output": True},
    ),
    "train_moments": (
        "moments of ImageNet's training images under a network of LOO-FID",
        "name",
        {"data": True, "networks": True, "output": True},
    ),
    "further_reference": (
        "moments and features of another split of real images",
        None,
        {"data": True, "networks": True, "output": True},
    ),
    "class_moments": (
        "moments of the training images of each class",
        None,
        {"data": True, "networks": True, "output": True},
    ),
    "train": (
        "tune a policy",
        None,
        {"config": True, "policy": True, "tokenizer": True, "codes": False, "data": False, "networks": True,
         "reference": False, "class_moments": False, "output": True},
    ),
    "sample": (
        "draw the images that a run is scored on",
        None,
        {"config": True, "policy": True, "pretrained": False, "tokenizer": True, "networks": False, "output": True,
         "grid": True},
    ),
    "real_samples": ("take real images in the place of samples", None,
                     {"config": True, "data": True, "output": True, "grid": True}),
    "features": ("features of a run's samples", None, {"samples": True, "networks": True, "output": True}),
    "evaluate": (
        "score a run",
        None,
        {"config": True, "features": True, "reference": True, "references": False, "timings": False, "output": True},
    ),
    "evaluate_official": (
        "score a run by TensorFlow's own graph, beside the torch port",
        "run",
        {"samples": True, "features": True, "scores": True, "data": True, "graph": True, "output": True},
    ),
    "table": ("write a table", "table", {"runs": True, "tally": False, "judge": False, "output": True}),
    "compare": (
        "differences of two runs, or of a table's rows, with paired errors and Holm's correction",
        None,
        {"runs": False, "reference": False, "output": False},
    ),
    "figure": ("draw a figure", "figure", {"results": True, "output": True}),
    "figure_samples": (
        "images of a figure's classes",
        "figure",
        {"config": True, "policy": True, "tokenizer": True, "output": True},
    ),
    "study_samples": (
        "images of a run for the human study",
        None,
        {"config": True, "policy": True, "tokenizer": True, "output": True},
    ),
    "study_make": (
        "draw the pairs of the human study",
        None,
        {"samples": False, "data": False, "output": False},
    ),
    "study_serve": ("serve the page that people rate the pairs on", None, {"pairs": False, "votes": False}),
    "study_judge": ("let a network judge the pairs", None, {"pairs": True, "networks": True, "output": True}),
    "study_tally": ("count the votes of the human study", None, {"votes": False, "output": False}),
    "export": ("write a run's policy as LlamaGen's own sampling script loads it", "run", {"output": True}),
    "costs": ("seconds of every stage beside the paper's", None, {"timings": True, "output": True}),
    "claims": ("judge the paper's claims by what was measured", None, {"results": True, "output": True}),
    "rulegraph": ("Snakemake's graph of rules, as Mermaid", None, {"output": True}),
    "report": ("one HTML file of tables, figures, claims and provenance", None, {"results": True, "output": True}),
    "mlflow_store": ("create the tracking store", None, {"output": True}),
    "mlflow_log": ("bring the tracking store up to date with a table's runs", "table", {"runs": True, "output": True}),
    "mlflow": ("rebuild the tracking store from the files of all finished runs", None, {"runs": True}),
    "plan": ("what a target trains, evaluates and costs in GPU hours", "target", {"costs": False}),
    "doctor": ("check the machine, the cluster and the files before anything runs", None, {"profile": False}),
    "selfcheck": ("build and run the paper's networks at full size on random weights", None, {"output": False}),
    "show": ("a run's settings and the layer that set each", "run", {}),
    "bench": ("time a part on random weights: rollout, rewards, loo-fid, update, sample, iteration, all", "target",
              {"output": False}),
}  # fmt: skip

STOPPED = 143  # what a shell reports of a process that SIGTERM ended
SEVERAL = ("train", "sample", "features")  # what torchrun may start several processes of

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "bench": {
        "--backbone": {"default": "llamagen_l", "help": "whose; its sizes are those of --scale"},
        "--images": {"type": int, "help": "images (default: the scale's; 2 on a CPU at imagenet)"},
        "--tokens": {"type": int, "help": "tokens an image, a square (default: the scale's; 16 on a CPU)"},
        "--repeats": {"type": int, "default": 3, "help": "timed repeats"},
        "--weights": {"choices": ["random"], "default": "random", "help": "speed does not depend on them"},
    },
    "assets": {"--fetch": {"action": "store_true", "help": "fetch what the scale needs and may be fetched"}},
    "codes": {"--crops": {"type": int, "default": 20, "help": "ImageNet: how many of an image's twenty crops"}},
    "compare": {
        "pair": {"nargs": "*", "metavar": "RUN", "help": "two runs: the second less the first"},
        "--table": {"help": "instead: every row less the first of its block"},
    },
    "export": {"--format": {"choices": ["llamagen"], "default": "llamagen", "help": "whose layout"}},
    "external_policy": {"--asset": {"required": True, "help": "key of config/assets.yaml"}},
    "selfcheck": {
        "--backbone": {"default": "llamagen_b", "help": "the policy, a key of config/backbones.yaml"},
        "--dtype": {"choices": ["float32", "bfloat16"], "default": "float32", "help": "of the weights"},
    },
    "figure": {
        "--smoothing": {"type": int, "help": "iterations of the moving average (Figure 2)"},
        "--compare": {"nargs": "*", "default": [], "help": "further runs to draw (Figure 2)"},
    },
    "study_serve": {
        "--host": {"default": "127.0.0.1", "help": "address to listen on; another than this one is seen by others"},
        "--port": {"type": int, "default": 8765, "help": "port to listen on, 0 for a free one"},
    },
    "study_tally": {
        "--flagged": {
            "choices": ["exclude", "include"],
            "default": "exclude",
            "help": "raters who failed attention checks",
        },
    },
}


def parser() -> argparse.ArgumentParser:
    """The argument parser of all commands."""
    top = argparse.ArgumentParser(prog="artune", description="Policy-based tuning of autoregressive image models.")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (summary, positional, paths) in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary)
        if positional:
            sub.add_argument(positional)
        for path, required in paths.items():
            sub.add_argument(f"--{path}", type=Path, required=required, metavar="PATH", help=PATHS[path])
        for option, settings in OPTIONS.get(name, {}).items():
            sub.add_argument(option, **settings)
        sub.add_argument("--scale", default=None, help="mnist, imagenet or smoke (default: config/config.yaml)")
        sub.add_argument("--preset", default=None, help="paper or release (default: config/config.yaml)")
        sub.add_argument("--seeds", type=int, default=None, help="repetitions of every run")
        sub.add_argument("--threads", type=int, default=None, help="CPU threads")
        sub.add_argument("--device", choices=["auto", "cpu", "cuda"], default=None)
        sub.add_argument("--log", type=Path, default=None, metavar="PATH", help="also write what is printed here")
    return top


def join_words(words: Sequence[str]) -> list[str]:
    """``study make ...`` as ``study_make ...``: a command of two words may be typed as such."""
    joined = "_".join(words[:2])
    return [joined, *words[2:]] if len(words) > 1 and joined in COMMANDS else list(words)


class Tee:
    """Standard error that is also kept in a log file, which the first process starts and all add to."""

    def __init__(self, path: Path, first: bool = True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if first:
            path.write_text("", encoding="utf-8")
        self.terminal, self.file = sys.stderr, open(path, "a", encoding="utf-8")  # noqa: SIM115

    def write(self, text: str) -> int:
        """Write to both; the log gets whole lines instead of a redrawn one."""
        self.file.write(text.replace("\r\033[K", "\n"))
        return self.terminal.write(text)

    def flush(self) -> None:
        """Flush both."""
        self.file.flush()
        self.terminal.flush()

    def isatty(self) -> bool:
        """Whether a bar can be redrawn."""
        return self.terminal.isatty()


def open_log(path: Path) -> Tee:
    """Standard error, kept in ``path`` as well."""
    try:
        return Tee(path, first=launch().rank == 0)
    except OSError as error:
        raise ArtuneError(f"--log: {path} cannot be written ({error.strerror})") from error


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; bad input is one line on standard error and status 2, a training that was told to stop 143."""
    arguments = parser().parse_args(join_words(sys.argv[1:] if argv is None else argv))
    began, here = time.monotonic(), launch()
    try:
        if here.size > 1 and arguments.command not in SEVERAL:
            raise ArtuneError(f"{arguments.command}: is done by one process; start it without torchrun")
        if arguments.log is not None:
            sys.stderr = open_log(arguments.log)  # type: ignore[assignment]
        with_threads(arguments.threads and here.threads(arguments.threads))
        from artune import commands

        handler: Callable[[argparse.Namespace], Any] = getattr(commands, arguments.command)
        line = handler(arguments)
    except StoppedError as error:
        if here.rank == 0:
            sys.stderr.write(f"stopped: {error}\n")
        return STOPPED
    except ArtuneError as error:
        if here.rank == 0 or not isinstance(error, SharedError):
            sys.stderr.write(f"error{f' (rank {here.rank})' if here.size > 1 else ''}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on from the last saved state\n")
        return 130
    except BrokenPipeError:
        return 0
    finally:
        sys.stderr.flush()
    if here.rank == 0:
        sys.stderr.write(f"{arguments.command}: {line} ({time.monotonic() - began:.1f} s)\n")
    return 0


def with_threads(threads: int | None) -> None:
    """Set the thread count before torch is imported."""
    if threads is not None:
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ[name] = str(threads)
