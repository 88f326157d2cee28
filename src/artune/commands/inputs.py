"""Commands that create the files that trainings start from."""

from argparse import Namespace
from pathlib import Path

from artune.commands.context import Context, entry
from artune.commands.streams import print_result
from artune.config.seeds import in_set
from artune.errors import ArtuneError, SharedError
from artune.runtime.processes import launch


def asset(context: Context, arguments: Namespace) -> str:
    """Check an external file, fetching it if necessary, and write its digest."""
    from artune.data.assets import check_asset

    settings, registry = context.settings, context.registry
    return check_asset(registry, arguments.asset, Path(settings.assets), arguments.output, Path(settings.datasets))


def assets(context: Context, arguments: Namespace) -> str:
    """Print which external files are present; ``--fetch`` fetches missing ones first, ``--accept`` replaces a pin."""
    from artune.data.stamps import accept_asset
    from artune.planning.needs import assets_table, fetch_needed
    from artune.planning.sources import Sources

    registry, folder = context.registry, context.assets
    if arguments.accept:
        return accept_asset(registry, arguments.accept, folder, Path("results"))
    stamps = Path(Sources(registry).stamps)
    datasets = Path(context.settings.datasets)
    problems = fetch_needed(registry, folder, stamps, datasets) if arguments.fetch else []
    print_result(assets_table(registry, folder, stamps, datasets))
    if problems:
        raise ArtuneError("; ".join(problems))
    return f"{folder} at the {registry.scale} scale"


def data(context: Context, arguments: Namespace) -> str:
    """Write the data set of an embedded source, with its splits."""
    from artune.data.embedded import write_data
    from artune.data.stamps import source_path

    registry, stamps = context.registry, arguments.files or []
    if len(stamps) != len(registry.data.files):
        raise ArtuneError(f"--files: give the stamps of {', '.join(registry.data.files) or 'no asset'}, in this order")
    named = zip(registry.data.files, stamps, strict=True)
    files = [source_path(registry, key, context.assets, stamp) for key, stamp in named]
    return write_data(registry.data, arguments.output, files)


def tokenizer(context: Context, arguments: Namespace) -> str:
    """Train or import a tokenizer, on the CPU; ``vq-t1`` is that of seed 1."""
    from artune.inputs.tokenizer import train_tokenizer

    context.prepare()
    registry = context.registry
    name, seed = registry.split_tokenizer(arguments.name)
    chosen = registry.tokenizers[name]
    if chosen.train is None:
        from artune.inputs.released import import_tokenizer

        return import_tokenizer(registry, chosen, context.assets, arguments.output, arguments.data)
    return train_tokenizer(chosen, arguments.data, arguments.output, seed=seed)


def codes(context: Context, arguments: Namespace) -> str:
    """Token codes of every split of the data set."""
    from artune.inputs.token_codes import write_codes

    registry = context.registry
    chosen = registry.tokenizers[registry.split_tokenizer(arguments.name)[0]]
    if not registry.data.embedded:
        return _imagenet_codes(context, arguments)
    context.prepare()
    if launch().size > 1:
        raise SharedError(f"codes: one process makes those of {registry.scale}; start it without torchrun")
    return write_codes(chosen, arguments.tokenizer, arguments.data, arguments.output)


def _imagenet_codes(context: Context, arguments: Namespace) -> str:
    """Token codes of ImageNet's training images: of as many crops as the runs can use, or of ``--crops``."""
    from artune.inputs.token_codes import CropPlan, write_imagenet_codes
    from artune.planning.recipes import code_sequences
    from artune.runtime.distributed import started
    from artune.runtime.lease import lease

    registry, device, crops = context.registry, context.device, arguments.crops
    chosen = CropPlan(crops) if crops is not None else CropPlan(sequences=code_sequences(registry, arguments.name))
    with lease(arguments.output.parent, "codes"), started(device) as world:
        return write_imagenet_codes(
            registry.tokenizers[arguments.name],
            arguments.tokenizer,
            _images(context, arguments),
            arguments.output,
            device,
            registry.data,
            chosen,
            world,
        )


def network(context: Context, arguments: Namespace) -> str:
    """Train or import a frozen network, on the CPU; ``judge-n1`` is that of set 1."""
    device = context.prepare()
    registry = context.registry
    name, number = registry.split_network(arguments.name)
    chosen = registry.networks[name]
    if chosen.train is None:
        from artune.inputs.released import import_network

        return import_network(registry, chosen, context.assets, arguments.output, device, arguments.data)
    from artune.inputs.networks import train_network

    return train_network(
        name,
        chosen,
        registry.data,
        arguments.data,
        registry.tokenizers[registry.judged_tokenizer],
        arguments.tokenizer,
        arguments.output,
        seed=number,
    )


def pretrained_policy(context: Context, arguments: Namespace) -> str:
    """Train or import a prior, on the CPU; ``llamagen_l-s1`` is that of the second seed of ``llamagen_l``.

    ``llamagen_l-t1`` differs from ``llamagen_l`` in the codes alone, those of another tokenizer.
    """
    context.prepare()
    registry = context.registry
    name, seeds = registry.split_prior(arguments.name)
    chosen = registry.backbones[name]
    if chosen.train is None:
        from artune.inputs.released import import_policy

        return import_policy(registry, chosen, context.assets, arguments.output, arguments.codes)
    from artune.inputs.prior import pretrain

    return pretrain(chosen, arguments.codes, arguments.output, seed=seeds.repetition)


def external_policy(context: Context, arguments: Namespace) -> str:
    """Import a policy that others released."""
    from artune.inputs.released import import_policy

    registry = context.registry
    chosen = entry(registry.backbones, arguments.name, "backbone")
    released = chosen.model_copy(update={"checkpoint": arguments.asset})
    return import_policy(registry, released, context.assets, arguments.output, arguments.data)


def reference(context: Context, arguments: Namespace) -> str:
    """Moments and features of the real images."""
    from artune.inputs.references import write_reference

    registry, device = context.registry, context.device
    protocol = context.evaluation_of(arguments.networks)
    if not registry.data.embedded:
        from artune.inputs.references import write_adm_reference

        networks = context.networks({protocol.features}, arguments.networks)
        return write_adm_reference(
            _images(context, arguments),
            networks[protocol.features],
            arguments.output,
            device,
            name=protocol.features,
            judges=_judges(context, arguments),
            moments=arguments.moments,
        )
    networks = context.networks({protocol.features, protocol.reward_features}, arguments.networks)
    judges = {protocol.features} - {protocol.reward_features}
    k = protocol.neighbours if protocol.precision_recall == "exact" else None
    return write_reference(arguments.data, networks, protocol.batch, arguments.output, device, judges, k)


def class_moments(context: Context, arguments: Namespace) -> str:
    """Moments of the training images of each class, under LOO-FID's network."""
    from artune.inputs.training_moments import write_class_moments

    registry, device = context.registry, context.device
    number = context.set_of(arguments.networks)
    name = in_set(registry.tree["rewards"]["loo_fid"]["network"], number, registry.networks)
    network = context.networks({name}, arguments.networks)[name]
    return write_class_moments(_images(context, arguments), registry.data, name, network, arguments.output, device)


def further_reference(context: Context, arguments: Namespace) -> str:
    """Moments and features of another split of real images that runs are scored against."""
    from artune.inputs.references import write_val_reference

    registry, device = context.registry, context.device
    return write_val_reference(
        _images(context, arguments),
        context.networks({registry.evaluation.features}, arguments.networks),
        arguments.output,
        device,
        side=registry.data.image_size,
        classes=registry.data.classes,
        judges=_judges(context, arguments),
    )


def train_moments(context: Context, arguments: Namespace) -> str:
    """Moments of the training images under a network of LOO-FID that the first reference lacks."""
    from artune.inputs.training_moments import write_embedded_moments, write_train_moments

    registry, device, name = context.registry, context.device, arguments.name
    registry.network(name)  # an unknown name is told before anything is read
    images, network = _images(context, arguments), context.networks({name}, arguments.networks)[name]
    if registry.data.embedded:
        return write_embedded_moments(images, registry.data, name, network, arguments.output, device)
    return write_train_moments(
        images,
        name,
        network,
        arguments.output,
        device,
        side=registry.data.image_size,
        classes=registry.data.classes,
        images=registry.data.moment_images,
    )


def _images(context: Context, arguments: Namespace) -> Path:
    """The images of ``--data``: if that is the stamp of an asset, its unaltered file in the folder of the assets."""
    from artune.data.stamps import used_path

    return used_path(context.registry, context.assets, arguments.data)


def _judges(context: Context, arguments: Namespace) -> dict:
    """The networks whose embeddings of the real images a reference holds."""
    registry = context.registry
    return context.networks(set(registry.evaluation.judges.values()), arguments.networks)
