"""What each command of the command line does: read arguments, call one function of the library.

The library's modules are imported inside the functions, so that a command loads only what it needs.
"""

from artune.commands.cluster import doctor, plan
from artune.commands.inputs import (
    asset,
    assets,
    class_moments,
    codes,
    data,
    external_policy,
    further_reference,
    network,
    pretrained_policy,
    reference,
    tokenizer,
    train_moments,
)
from artune.commands.outputs import (
    bench,
    compare,
    costs,
    figure,
    figure_samples,
    mlflow,
    mlflow_log,
    mlflow_store,
    selfcheck,
    show,
    table,
)
from artune.commands.report import claims, report, rulegraph
from artune.commands.runs import evaluate, evaluate_official, export, features, real_samples, run_config, sample, train
from artune.commands.study import study_judge, study_make, study_samples, study_serve, study_tally

__all__ = [
    "asset",
    "assets",
    "bench",
    "claims",
    "class_moments",
    "codes",
    "compare",
    "costs",
    "data",
    "doctor",
    "evaluate",
    "evaluate_official",
    "export",
    "external_policy",
    "features",
    "figure",
    "figure_samples",
    "further_reference",
    "mlflow",
    "mlflow_log",
    "mlflow_store",
    "network",
    "plan",
    "pretrained_policy",
    "real_samples",
    "reference",
    "report",
    "rulegraph",
    "run_config",
    "sample",
    "selfcheck",
    "show",
    "study_judge",
    "study_make",
    "study_samples",
    "study_serve",
    "study_tally",
    "table",
    "tokenizer",
    "train",
    "train_moments",
]
