"""What each command of the command line does: read arguments, call one function of the library.

The library's modules are imported inside the functions, so that a command loads only what it needs.
"""

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from artune.errors import ArtuneError
from artune.layers import parse, read_yaml
from artune.registry import Registry
from artune.settings import Settings

if TYPE_CHECKING:
    import torch


def settings_of(arguments: Namespace) -> Settings:
    """``config/config.yaml`` with the options of the command line over it."""
    values = read_yaml(Path("config/config.yaml"))
    for name in ("scale", "preset", "seeds", "threads", "device"):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    return parse(Settings, values, "config/config.yaml")


def registry_of(arguments: Namespace) -> Registry:
    """The registry of the command's scale and preset."""
    settings = settings_of(arguments)
    return Registry(settings.scale, settings.preset)


def device_of(arguments: Namespace) -> "torch.device":
    """The device to run on; arithmetic is made repeatable on the way."""
    import torch

    settings = settings_of(arguments)
    torch.set_num_threads(settings.threads)
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ArtuneError("device: cuda was asked for, but torch sees no GPU; use --device cpu")
    name = "cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # features are float32
    return torch.device(name)


def entry(section: dict, name: str, what: str) -> object:
    """``section[name]``, or one line that lists the known names."""
    if name not in section:
        raise ArtuneError(f"{what}: unknown {name!r}; known are {', '.join(section)}")
    return section[name]


def run_config(arguments: Namespace) -> str:
    """Resolve a run and write its settings."""
    from artune.files import write_text

    registry = registry_of(arguments)
    run = registry.resolve(arguments.run)
    write_text(arguments.output, yaml.safe_dump(registry.spec(arguments.run), sort_keys=False))
    return f"{arguments.output}: {run.method} of {run.backbone_name}"


def asset(arguments: Namespace) -> str:
    """Check a file from outside, fetching it if need be, and write its digest."""
    from artune.assets import check_asset

    settings, registry = settings_of(arguments), registry_of(arguments)
    return check_asset(registry, arguments.asset, Path(settings.assets), arguments.output)


def assets(arguments: Namespace) -> str:
    """Print which files from outside are there; fetch the missing ones if asked."""
    from artune.assets import assets_table, fetch_needed

    registry, folder = registry_of(arguments), Path(settings_of(arguments).assets)
    problems = fetch_needed(registry, folder) if arguments.fetch else []
    print(assets_table(registry, folder))  # noqa: T201
    if problems:
        raise ArtuneError("; ".join(problems))
    return f"{folder} at the {registry.scale} scale"


def data(arguments: Namespace) -> str:
    """Write the data set that ships with a wheel."""
    from artune.data import write_data

    return write_data(registry_of(arguments).data, arguments.output)


def tokenizer(arguments: Namespace) -> str:
    """Train or import a tokenizer."""
    from artune.train_tokenizer import train_tokenizer

    device_of(arguments)
    registry = registry_of(arguments)
    chosen = entry(registry.tokenizers, arguments.name, "tokenizer")
    if chosen.train is None:
        from artune.assets import import_tokenizer

        return import_tokenizer(registry, chosen, Path(settings_of(arguments).assets), arguments.output)
    return train_tokenizer(chosen, arguments.data, arguments.output, seed=0)


def codes(arguments: Namespace) -> str:
    """Token codes of every split of the data set."""
    from artune.train_tokenizer import write_codes

    device = device_of(arguments)
    registry = registry_of(arguments)
    chosen = entry(registry.tokenizers, arguments.name, "tokenizer")
    if registry.data.source == "imagenet":
        from artune.assets import stamped_path
        from artune.imagenet_codes import write_imagenet_codes

        images, protocol = stamped_path(arguments.data), registry.data
        return write_imagenet_codes(
            chosen, arguments.tokenizer, images, arguments.output, device, protocol, crops=arguments.crops
        )
    return write_codes(chosen, arguments.tokenizer, arguments.data, arguments.output)


def network(arguments: Namespace) -> str:
    """Train or import a frozen network."""
    device = device_of(arguments)
    registry = registry_of(arguments)
    chosen = entry(registry.networks, arguments.name, "network")
    if chosen.train is None:
        from artune.assets import import_network

        return import_network(registry, chosen, Path(settings_of(arguments).assets), arguments.output, device)
    from artune.train_networks import train_network

    return train_network(
        arguments.name,
        chosen,
        registry.data,
        arguments.data,
        registry.tokenizers["vq"],
        arguments.tokenizer,
        arguments.output,
        seed=0,
    )


def pretrained_policy(arguments: Namespace) -> str:
    """Train or import a prior; ``llamagen_l-s1`` is the second seed of ``llamagen_l``."""
    device_of(arguments)
    registry = registry_of(arguments)
    name, _, seed = arguments.name.partition("-s")
    chosen = entry(registry.backbones, name, "backbone")
    if chosen.train is None:
        from artune.assets import import_policy

        return import_policy(registry, chosen, Path(settings_of(arguments).assets), arguments.output)
    from artune.pretrain import pretrain

    return pretrain(chosen, arguments.codes, arguments.output, seed=int(seed or 0))


def external_policy(arguments: Namespace) -> str:
    """Import a policy that others released."""
    from artune.assets import import_policy

    registry = registry_of(arguments)
    chosen = entry(registry.backbones, arguments.name, "backbone")
    released = chosen.model_copy(update={"checkpoint": arguments.asset})
    return import_policy(registry, released, Path(settings_of(arguments).assets), arguments.output)


def load_networks(registry: Registry, names: set[str], folder: Path, device: "torch.device") -> dict:
    """The frozen networks called ``names``."""
    from artune.encoders import load_network

    return {
        name: load_network(
            folder / f"{name}.safetensors", entry(registry.networks, name, "network"), registry.data, device
        )
        for name in sorted(names)
    }


def reference(arguments: Namespace) -> str:
    """Moments and features of the real images."""
    from artune.features import write_reference

    registry, device = registry_of(arguments), device_of(arguments)
    names = {registry.evaluation.features, registry.evaluation.reward_features}
    networks = load_networks(registry, names, arguments.networks, device)
    return write_reference(arguments.data, networks, registry.evaluation.batch, arguments.output, device)


def train(arguments: Namespace) -> str:
    """Tune a policy."""
    from artune.build import read_run
    from artune.tracking import tracking_uri
    from artune.train import train as tune

    device = device_of(arguments)
    run = read_run(arguments.config)
    return tune(
        config=arguments.config,
        policy_path=arguments.policy,
        tokenizer_path=arguments.tokenizer,
        codes=arguments.codes,
        networks={name: arguments.networks / f"{name}.safetensors" for name in run.networks},
        reference=arguments.reference,
        output=arguments.output,
        tracking_uri=tracking_uri(settings_of(arguments).tracking_uri),
        device=device,
    )


def sample(arguments: Namespace) -> str:
    """Draw the images that a run is scored on."""
    from artune.build import load_policy, load_renderer, read_run
    from artune.sample import sample as draw

    run, device = read_run(arguments.config), device_of(arguments)
    same = arguments.pretrained is None or arguments.pretrained == arguments.policy
    return draw(
        run,
        registry_of(arguments).evaluation,
        load_policy(run, arguments.policy, device),
        None if same else load_policy(run, arguments.pretrained, device),
        load_renderer(run, arguments.tokenizer, device),
        arguments.output,
        arguments.grid,
        device,
    )


def features(arguments: Namespace) -> str:
    """Features of a run's samples."""
    from artune.features import write_features

    registry, device = registry_of(arguments), device_of(arguments)
    protocol = registry.evaluation
    names = {
        protocol.features,
        protocol.classifier,
        protocol.clip,
        protocol.reward_features,
        protocol.reward_clip,
    }
    networks = load_networks(registry, names, arguments.networks, device)
    return write_features(arguments.samples, protocol, registry.data, networks, arguments.output, device)


def evaluate(arguments: Namespace) -> str:
    """Score a run."""
    from artune.build import read_run
    from artune.evaluate import evaluate as score
    from artune.provenance import provenance

    return score(
        read_run(arguments.config),
        registry_of(arguments).evaluation,
        arguments.features,
        arguments.reference,
        arguments.timings,
        provenance(device_of(arguments)),
        arguments.output,
    )


def table(arguments: Namespace) -> str:
    """Write a table as CSV, and as Markdown beside it."""
    from artune.files import read_json
    from artune.table_text import write_latex, write_markdown
    from artune.tables import build_study_table, build_table, find_table, write_csv

    registry, seeds = registry_of(arguments), settings_of(arguments).seeds
    layout = find_table(registry, arguments.table)
    if layout.kind == "study":
        frame = build_study_table(registry, arguments.table, read_json(arguments.tally))
    else:
        runs = [row.run for row in layout.rows if row.run and not registry.unavailable(row.run)]
        scores = {
            run: [read_json(arguments.runs / name / "scores.json") for name in registry.seed_names(run, seeds)]
            for run in runs
        }
        frame = build_table(registry, arguments.table, scores)
    write_markdown(frame, registry, arguments.table, arguments.output.with_suffix(".md"))
    write_latex(frame, registry, arguments.table, arguments.output.with_suffix(".tex"))
    write_csv(frame, arguments.output)
    return f"{arguments.output}: {len(frame)} rows, seeds {seeds}"


def figure(arguments: Namespace) -> str:
    """Draw a figure as PDF, and as PNG beside it."""
    from artune.figures.draw import draw_figure

    smoothing = arguments.smoothing or settings_of(arguments).figure2.smoothing
    return draw_figure(
        registry_of(arguments), arguments.figure, arguments.results, arguments.output, smoothing, arguments.compare
    )


def figure_samples(arguments: Namespace) -> str:
    """Images of the classes that a figure shows."""
    from artune.build import load_policy, load_renderer, read_run
    from artune.data import class_names
    from artune.figures.samples import choose_classes
    from artune.files import save_npz
    from artune.sample import grid_images

    registry, device = registry_of(arguments), device_of(arguments)
    chosen = entry(registry.figures, arguments.figure, "figure")
    run = read_run(arguments.config)
    ids, _ = choose_classes(chosen, class_names(run.data))
    images = grid_images(
        run,
        ids,
        chosen.per_class,
        chosen.seed,
        load_policy(run, arguments.policy, device),
        load_renderer(run, arguments.tokenizer, device),
        device,
    )
    save_npz(arguments.output, {"images": images})
    return f"{arguments.output}: {len(ids)} classes of {run.name}"


def export(arguments: Namespace) -> str:
    """Write a run's policy as others load it."""
    from artune.export import export_policy
    from artune.plan import Plan

    plan = Plan(settings_of(arguments).model_dump(), Path("config"))
    config = Path(plan.runs) / arguments.run / "config.yaml"
    return export_policy(config, Path(plan.policy(arguments.run)), arguments.output, arguments.format)


def study_tally(arguments: Namespace) -> str:
    """Count the votes of the human study."""
    from artune.study import write_tally

    return write_tally(arguments.votes, arguments.output)


def costs(arguments: Namespace) -> str:
    """Seconds of every stage beside the paper's."""
    from artune.costs import write_costs

    return write_costs(registry_of(arguments), arguments.run, arguments.timings, arguments.output)


def mlflow_store(arguments: Namespace) -> str:
    """Create the tracking store."""
    from artune.files import write_json
    from artune.mlflow_store import init_store
    from artune.tracking import tracking_uri

    uri = tracking_uri(settings_of(arguments).tracking_uri)
    ready = init_store(uri)
    write_json(arguments.output, {"ready": ready})
    return f"{uri}: {'ready' if ready else 'not reachable; metrics.jsonl stays the record'}"


def mlflow_log(arguments: Namespace) -> str:
    """Bring the tracking store up to date with a table's runs."""
    from artune.files import write_json
    from artune.mlflow_store import upsert
    from artune.tables import find_table
    from artune.tracking import tracking_uri

    settings, registry = settings_of(arguments), registry_of(arguments)
    rows = find_table(registry, arguments.table).rows
    runs = [row.run for row in rows if row.run and not registry.unavailable(row.run)]
    names = [name for run in runs for name in registry.seed_names(run, settings.seeds)]
    uri = tracking_uri(settings.tracking_uri)
    logged = upsert(uri, registry, [arguments.runs / name for name in names])
    write_json(arguments.output, {"runs": names, "logged": logged})
    return f"{uri}: {len(names)} runs {'up to date' if logged else 'not logged; the store did not answer'}"


def show(arguments: Namespace) -> str:
    """Print a run's settings and the layer that set each."""
    registry = registry_of(arguments)
    registry.resolve(arguments.run)
    for key, (value, where) in registry.origins(arguments.run).items():
        print(f"{key:38} {value!s:28} {where}")  # noqa: T201
    return f"{arguments.run} at the {registry.scale} scale"


def bench(arguments: Namespace) -> str:
    """Time a part of the method."""
    from artune.bench import format_table, run

    rows = run(arguments.target, device_of(arguments).type)
    print(format_table(rows))  # noqa: T201
    return f"{len(rows)} cases"
