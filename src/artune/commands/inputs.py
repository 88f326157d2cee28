"""Commands that make what trainings start from."""

from argparse import Namespace
from pathlib import Path

from artune.commands.context import device_of, entry, load_networks, registry_of, settings_of
from artune.errors import ArtuneError


def asset(arguments: Namespace) -> str:
    """Check a file from outside, fetching it if need be, and write its digest."""
    from artune.data.assets import check_asset

    settings, registry = settings_of(arguments), registry_of(arguments)
    return check_asset(registry, arguments.asset, Path(settings.assets), arguments.output)


def assets(arguments: Namespace) -> str:
    """Print which files from outside are there; fetch the missing ones if asked."""
    from artune.planning.needs import assets_table, fetch_needed

    registry, folder = registry_of(arguments), Path(settings_of(arguments).assets)
    problems = fetch_needed(registry, folder) if arguments.fetch else []
    print(assets_table(registry, folder))  # noqa: T201
    if problems:
        raise ArtuneError("; ".join(problems))
    return f"{folder} at the {registry.scale} scale"


def data(arguments: Namespace) -> str:
    """Write the data set that ships with a wheel."""
    from artune.data.digits import write_data

    return write_data(registry_of(arguments).data, arguments.output)


def tokenizer(arguments: Namespace) -> str:
    """Train or import a tokenizer."""
    from artune.inputs.tokenizer import train_tokenizer

    device_of(arguments)
    registry = registry_of(arguments)
    chosen = entry(registry.tokenizers, arguments.name, "tokenizer")
    if chosen.train is None:
        from artune.inputs.released import import_tokenizer

        return import_tokenizer(registry, chosen, Path(settings_of(arguments).assets), arguments.output)
    return train_tokenizer(chosen, arguments.data, arguments.output, seed=0)


def codes(arguments: Namespace) -> str:
    """Token codes of every split of the data set."""
    from artune.inputs.token_codes import write_codes

    device = device_of(arguments)
    registry = registry_of(arguments)
    chosen = entry(registry.tokenizers, arguments.name, "tokenizer")
    if registry.data.source == "imagenet":
        from artune.data.assets import stamped_path
        from artune.inputs.token_codes import write_imagenet_codes

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
        from artune.inputs.released import import_network

        return import_network(registry, chosen, Path(settings_of(arguments).assets), arguments.output, device)
    from artune.inputs.networks import train_network

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
        from artune.inputs.released import import_policy

        return import_policy(registry, chosen, Path(settings_of(arguments).assets), arguments.output)
    from artune.inputs.prior import pretrain

    return pretrain(chosen, arguments.codes, arguments.output, seed=int(seed or 0))


def external_policy(arguments: Namespace) -> str:
    """Import a policy that others released."""
    from artune.inputs.released import import_policy

    registry = registry_of(arguments)
    chosen = entry(registry.backbones, arguments.name, "backbone")
    released = chosen.model_copy(update={"checkpoint": arguments.asset})
    return import_policy(registry, released, Path(settings_of(arguments).assets), arguments.output)


def reference(arguments: Namespace) -> str:
    """Moments and features of the real images."""
    from artune.inputs.references import write_reference

    registry, device = registry_of(arguments), device_of(arguments)
    protocol = registry.evaluation
    if registry.data.source == "imagenet":
        from artune.data.assets import stamped_path
        from artune.inputs.references import write_adm_reference

        networks = load_networks(registry, {protocol.features}, arguments.networks, device)
        return write_adm_reference(
            stamped_path(arguments.data),
            networks[protocol.features],
            arguments.output,
            device,
            name=protocol.features,
            judges=_judges(arguments),
            moments=arguments.moments,
        )
    networks = load_networks(registry, {protocol.features, protocol.reward_features}, arguments.networks, device)
    return write_reference(arguments.data, networks, protocol.batch, arguments.output, device)


def class_moments(arguments: Namespace) -> str:
    """Moments of the training images of each class, under LOO-FID's network."""
    from artune.data.assets import stamped_path
    from artune.inputs.training_moments import write_class_moments

    registry, device = registry_of(arguments), device_of(arguments)
    name = registry.tree["rewards"]["loo_fid"]["network"]
    network = load_networks(registry, {name}, arguments.networks, device)[name]
    return write_class_moments(stamped_path(arguments.data), registry.data, name, network, arguments.output, device)


def further_reference(arguments: Namespace) -> str:
    """Moments and features of another split of real images that runs are scored against."""
    from artune.data.assets import stamped_path
    from artune.inputs.references import write_val_reference

    registry, device = registry_of(arguments), device_of(arguments)
    return write_val_reference(
        stamped_path(arguments.data),
        load_networks(registry, {registry.evaluation.features}, arguments.networks, device),
        arguments.output,
        device,
        side=registry.data.image_size,
        classes=registry.data.classes,
        judges=_judges(arguments),
    )


def train_moments(arguments: Namespace) -> str:
    """Moments of ImageNet's training images under a network of LOO-FID."""
    from artune.data.assets import stamped_path
    from artune.inputs.training_moments import write_train_moments

    registry, device = registry_of(arguments), device_of(arguments)
    entry(registry.networks, arguments.name, "network")
    if registry.data.source != "imagenet":
        raise ArtuneError(f"train_moments: the {registry.scale} scale has all its moments in reference.npz")
    return write_train_moments(
        stamped_path(arguments.data),
        arguments.name,
        load_networks(registry, {arguments.name}, arguments.networks, device)[arguments.name],
        arguments.output,
        device,
        side=registry.data.image_size,
        classes=registry.data.classes,
        images=registry.data.moment_images,
    )


def _judges(arguments: Namespace) -> dict:
    """The networks whose embeddings of the real images a reference holds."""
    registry = registry_of(arguments)
    return load_networks(registry, set(registry.evaluation.judges.values()), arguments.networks, device_of(arguments))
