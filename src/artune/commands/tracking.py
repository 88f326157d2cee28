"""Commands for the tracking store."""

from argparse import Namespace

from artune.commands.context import Context
from artune.config.seeds import cut_seeds
from artune.tracking.addresses import shown


def mlflow_store(context: Context, arguments: Namespace) -> str:
    """Create the tracking store."""
    from artune.runtime.files import write_json
    from artune.tracking.mlflow_store import init_store

    uri = context.tracking_uri
    ready = init_store(uri)
    write_json(arguments.output, {"ready": ready})
    return f"{shown(uri)}: {'ready' if ready else 'not reachable; metrics.jsonl stays the record'}"


def mlflow_log(context: Context, arguments: Namespace) -> str:
    """Bring the tracking store up to date with a table's runs."""
    from artune.config.paper import find_table, runs_of_tables
    from artune.runtime.files import write_json
    from artune.tracking.mlflow_store import upsert

    settings, registry = context.settings, context.registry
    find_table(registry, arguments.table)
    names = runs_of_tables(registry, [arguments.table], settings.seeds)
    uri = context.tracking_uri
    logged = upsert(uri, registry, [arguments.runs / name for name in names])
    write_json(arguments.output, {"runs": names, "logged": logged})
    return f"{shown(uri)}: {len(names)} runs {'up to date' if logged else 'not logged; the store did not answer'}"


def mlflow(context: Context, arguments: Namespace) -> str:
    """Rebuild the tracking store from the files of all finished runs."""
    from artune.tracking.mlflow_store import upsert

    registry = context.registry
    uri = context.tracking_uri
    folders = sorted(path.parent for path in arguments.runs.glob("*/scores.json"))
    known = [folder for folder in folders if cut_seeds(folder.name)[0] in registry.run_names]
    logged = upsert(uri, registry, known)
    return f"{shown(uri)}: {len(known)} runs {'up to date' if logged else 'not logged; the store did not answer'}"
