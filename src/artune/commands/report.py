"""Commands that sum a scale up: claims, the workflow's picture, the report."""

from argparse import Namespace

from artune.commands.context import registry_of, settings_of

TARGETS = ("tables", "figures", "report")  # what a user asks for; the picture shows the rules behind them


def claims(arguments: Namespace) -> str:
    """Judge the paper's claims by what was measured."""
    from artune.claims import write_claims

    return write_claims(registry_of(arguments), arguments.results, settings_of(arguments).seeds, arguments.output)


def rulegraph(arguments: Namespace) -> str:
    """Write Snakemake's graph of rules."""
    from artune.report.rulegraph import write_rulegraph

    return write_rulegraph(settings_of(arguments).scale, TARGETS, arguments.output)


def report(arguments: Namespace) -> str:
    """Write the report."""
    from artune.report.page import write_report

    return write_report(registry_of(arguments), arguments.results, settings_of(arguments).seeds, arguments.output)
