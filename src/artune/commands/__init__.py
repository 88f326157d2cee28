"""The command line: a function per rule, and a few commands for people. Each calls one function of the library.

A command is declared once, in ``arguments``; its function of the same name takes the context and the arguments. The
library's modules are imported inside the functions, so that a command loads only what it needs.

- cli: from a command line to an exit status
- arguments: every command with its options
- streams: standard output, standard error and log file, which never end the work
- context: settings, registry and device of a command, created once
- inputs: files that trainings start from
- tuning: settings, training and export of a run
- evaluation: samples, features, scores, comparisons
- scoring: scores of image files of any origin
- results: tables, figures, claims, report
- tracking: the MLflow store
- study: the human study
- planning: costs of a target, checks of the machine, settings of a run, benchmarks
"""
