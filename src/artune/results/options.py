"""The options of ``table``, ``expected`` and ``figure``, which the command line reads without importing anything."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Options = Mapping[str, Mapping[str, Any]]

TABLE: Options = {
    "--differences": {
        "type": Path,
        "metavar": "PATH",
        "help": "file of artune compare --table, with the differences of rows of one seed",
    },
    "--csv": {
        "type": Path,
        "metavar": "PATH",
        "help": "in place of --runs and --output: write the Markdown and LaTeX beside this CSV again",
    },
}
EXPECTED: Options = {
    "--machine": {"help": "add the numbers of all seeds of the table's runs, of this machine in words"},
}
FIGURE: Options = {
    "--smoothing": {"type": int, "help": "iterations of the moving average (Figure 2)"},
    "--compare": {"nargs": "*", "default": [], "help": "further runs to draw (Figure 2)"},
}
