"""Trains the frozen networks at a scale without released ones."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from artune.config.run import Data, Network, Tokenizer, Training
from artune.data.embedded import load_split
from artune.data.pixels import to_pixels
from artune.data.prompts import class_names, prompts
from artune.errors import ArtuneError
from artune.inputs.augment import corrupt, jitter
from artune.inputs.fit import fit
from artune.inputs.token_codes import encode_split
from artune.models.encoders.build import build_network
from artune.models.encoders.feature_network import in_batches
from artune.models.encoders.mnist import FEATURE_TRACE, Classifier, Quality
from artune.models.encoders.mnist_clip import MnistCLIP
from artune.models.tokenizers.build import load_tokenizer
from artune.models.weights.checkpoints import save_module
from artune.runtime.seeds import draw_indices, generator_for, seed_for

WORST = 0.5  # largest share of tokens that is replaced in a training image of preference and quality
WRONG_LABEL = 0.25  # share of the preference pairs that differ in the label instead
CONTRASTIVE = 0.5  # share of a preference network's steps that use CLIP's own loss
VERSIONS = 2  # corrupted decodings per training image
Loss = Callable[[int], tuple[Tensor, str]]


@dataclass(frozen=True)
class Material:
    """Training data of a network: images with their labels."""

    data: Data
    images: Tensor  # uint8 [N, 3, H, W]
    labels: Tensor  # [N]


@dataclass(frozen=True)
class Decodings(Material):
    """Training data of preference and quality: images decoded from tokens, a share of which was replaced."""

    clean: Tensor  # [N], share of the tokens that were not replaced


def train_network(
    name: str,
    network: Network,
    data: Data,
    data_path: Path | str,
    tokenizer: Tokenizer | None,
    tokenizer_path: Path | str | None,
    out_path: Path | str,
    seed: int,
) -> str:
    """Train a network on the training split and write its weights.

    Args:
        name: role of the network, e.g. ``clip``; the random draws depend on it, so two networks of one kind differ.
        network: kind, architecture and ``train``.
        data: the data set.
        data_path: npz file that :func:`artune.data.embedded.write_data` wrote.
        tokenizer: sizes of the tokenizer whose decoded images are judged (preference and quality only).
        tokenizer_path: file of the tokenizer's weights.
        out_path: safetensors file to write.
        seed: seed of the initial weights and the batches.

    Returns:
        One line with the network's main score on the validation split.

    Raises:
        ArtuneError: no ``train`` settings, a missing tokenizer, or a loss that is not finite.
    """
    if network.train is None:
        raise ArtuneError(f"networks.{name}: train is missing; this network is loaded, not trained")
    decoder = _decoder(name, network, data, tokenizer, tokenizer_path)
    if network.kind not in TRAINERS:
        raise ArtuneError(
            f"networks.{name}: kind {network.kind!r} is not trained here; known are {', '.join(TRAINERS)}"
        )
    prepare, measure = TRAINERS[network.kind]
    with torch.random.fork_rng():
        torch.manual_seed(seed_for(seed, "network", name))
        module = build_network(network, data).to(memory_format=torch.channels_last)  # faster on a CPU
    splits = ("train", "validation")
    material: dict[str, Material] = {split: Material(data, *load_split(data_path, split)) for split in splits}
    if network.train.per_class is not None:
        material["train"] = _share(material["train"], network.train.per_class, name)
    if decoder is not None:
        material = {
            split: corrupted(own, decoder, VERSIONS, generator_for(seed, "corruption", name, split))
            for split, own in material.items()
        }
    loss = prepare(module, material["train"], network.train, generator_for(seed, "network batches", name))
    fit(f"network {name}", module.parameters(), network.train, loss)
    module.eval().requires_grad_(False)
    if isinstance(module, Classifier):
        spread = in_batches(module.features, material["train"].images).var(dim=0).sum()
        module.feature_scale.fill_((FEATURE_TRACE / spread).sqrt())
    summary = measure(module, material["validation"], generator_for(seed, "network measure", name))
    save_module(out_path, module)
    return f"network {name}  {summary}"


def _decoder(
    name: str, network: Network, data: Data, tokenizer: Tokenizer | None, path: Path | str | None
) -> nn.Module | None:
    """The tokenizer whose decoded images a network learns to judge, None if its kind learns from real images."""
    if network.kind not in ("preference", "quality"):
        return None
    if tokenizer is None or path is None:
        raise ArtuneError(f"networks.{name}: kind {network.kind} learns from decoded tokens; pass a tokenizer")
    return load_tokenizer(path, tokenizer, data.image_size)


def _share(material: Material, per_class: int, name: str) -> Material:
    """The first images of each class; those of a class are in random order."""
    members = material.labels.argsort(stable=True).view(material.data.classes, -1)  # the split is balanced
    if per_class > members.shape[1]:
        raise ArtuneError(f"networks.{name}: train.per_class: {per_class}, but a class has {members.shape[1]} images")
    chosen = members[:, :per_class].flatten()
    return Material(material.data, material.images[chosen], material.labels[chosen])


def corrupted(material: Material, tokenizer: nn.Module, versions: int, generator: torch.Generator) -> Decodings:
    """Every image decoded ``versions`` times from its tokens, a random share of which is replaced."""
    tokens, labels = encode_split(tokenizer, material.images).repeat(versions, 1), material.labels.repeat(versions)
    share = WORST * torch.rand(len(labels), generator=generator)
    decoded, clean = corrupt(tokenizer, tokens, share, generator)
    return Decodings(material.data, decoded, labels, clean)


def _seen(train: Material, chosen: Tensor, settings: Training, generator: torch.Generator) -> Tensor:
    """The pixels of some images, float32 [B, 3, H, W], jittered unless the settings switch that off."""
    pixels = to_pixels(train.images[chosen])
    return jitter(pixels, generator) if settings.jitter else pixels.contiguous(memory_format=torch.channels_last)


def prepare_classifier(module: Classifier, train: Material, settings: Training, generator: torch.Generator) -> Loss:
    """Loss of a classifier: cross-entropy on jittered images."""

    def loss(step: int) -> tuple[Tensor, str]:
        chosen = draw_indices(settings.batch, len(train.images), generator)
        logits = module.head(module.pooled(_seen(train, chosen, settings, generator)))
        labels = train.labels[chosen]
        return F.cross_entropy(logits, labels), f"accuracy {(logits.argmax(1) == labels).float().mean():.2f}"

    return loss


def measure_classifier(module: Classifier, validation: Material, generator: torch.Generator) -> str:
    """Accuracy on the validation split."""
    predicted = in_batches(module.probabilities, validation.images).argmax(1)
    return f"validation accuracy {(predicted == validation.labels).float().mean():.3f}"


def prepare_clip(module: MnistCLIP, train: Material, settings: Training, generator: torch.Generator) -> Loss:
    """CLIP's symmetric contrastive loss in groups of one image per class, so that no caption occurs twice."""
    classes, groups = train.data.classes, max(1, settings.batch // train.data.classes)
    members = train.labels.argsort(stable=True).view(classes, -1)  # the split is balanced
    captions = caption_ids(module, train.data)
    target = torch.arange(classes).repeat(groups)

    def loss(step: int) -> tuple[Tensor, str]:
        column = draw_indices(groups * classes, members.shape[1], generator).view(groups, classes)
        chosen = members[torch.arange(classes), column].flatten()
        wording = draw_indices(groups, len(module.templates), generator)
        images = module.images(_seen(train, chosen, settings, generator)).view(groups, classes, -1)
        texts = module.texts(captions[wording].flatten(0, 1)).view(groups, classes, -1)
        logits = module.model.logit_scale.exp() * images @ texts.transpose(1, 2)
        by_image, by_text = logits.flatten(0, 1), logits.transpose(1, 2).flatten(0, 1)
        accuracy = (by_image.argmax(1) == target).float().mean()
        return 0.5 * (F.cross_entropy(by_image, target) + F.cross_entropy(by_text, target)), f"accuracy {accuracy:.2f}"

    return loss


def caption_ids(module: MnistCLIP, data: Data) -> Tensor:
    """Word ids of every template with every class name: [templates, classes, words]."""
    texts = [template.format(name) for template in module.templates for name in class_names(data)]
    return module.tokenize(texts).view(len(module.templates), data.classes, -1)


def measure_clip(module: MnistCLIP, validation: Material, generator: torch.Generator) -> str:
    """Zero-shot accuracy with the prompts of the rewards, and mean and standard deviation of the cosines."""
    cosine = in_batches(module.embed_images, validation.images) @ module.embed_texts(prompts(validation.data)).T
    accuracy = (cosine.argmax(1) == validation.labels).float().mean()
    own = cosine.gather(1, validation.labels[:, None])
    return f"validation accuracy {accuracy:.3f}, cosine to the own prompt {own.mean():.3f} +- {own.std():.3f}"


def draw_pairs(material: Decodings, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Pairs of images for one prompt: indices of the better and of the worse image, and the label, [count] each.

    Both images show the label and the better one is cleaner; in a quarter of the pairs the worse one shows another
    label.
    """
    total, classes = len(material.labels), material.data.classes
    members = material.labels.argsort(stable=True).view(classes, -1)
    first = draw_indices(count, total, generator)
    label = material.labels[first]
    wrong = torch.rand(count, generator=generator) < WRONG_LABEL
    other = torch.where(wrong, (label + 1 + draw_indices(count, classes - 1, generator)) % classes, label)
    second = members[other, draw_indices(count, members.shape[1], generator)]
    swap = ~wrong & (material.clean[second] > material.clean[first])
    return torch.where(swap, second, first), torch.where(swap, first, second), label


def prepare_preference(module: MnistCLIP, train: Decodings, settings: Training, generator: torch.Generator) -> Loss:
    """Loss of HPS: minus log-likelihood of the preferred of two images by the softmax of their cosines to the prompt.

    As HPSv2 is CLIP fine-tuned on preferences, the first steps use CLIP's loss: the pairs alone hardly teach the
    labels.
    """
    captions = module.tokenize(list(prompts(train.data)))
    contrastive = prepare_clip(module, train, settings, generator)

    def loss(step: int) -> tuple[Tensor, str]:
        if step < CONTRASTIVE * settings.steps:
            return contrastive(step)
        better, worse, label = draw_pairs(train, settings.batch // 2, generator)
        first, second = module.images(to_pixels(train.images[torch.cat((better, worse))])).chunk(2)
        margin = ((first - second) * module.texts(captions)[label]).sum(-1)
        return F.softplus(-module.model.logit_scale.exp() * margin).mean(), f"pairs {(margin > 0).float().mean():.2f}"

    return loss


@torch.no_grad()
def measure_preference(module: MnistCLIP, validation: Decodings, generator: torch.Generator) -> str:
    """Share of validation pairs that the network puts in the right order."""
    better, worse, label = draw_pairs(validation, 2000, generator)
    cosine = in_batches(module.embed_images, validation.images) @ module.embed_texts(prompts(validation.data)).T
    right = cosine[better, label] > cosine[worse, label]
    return f"validation pair accuracy {right.float().mean():.3f}"


def prepare_quality(module: Quality, train: Decodings, settings: Training, generator: torch.Generator) -> Loss:
    """Loss of a quality network: squared error of the predicted share of clean tokens."""

    def loss(step: int) -> tuple[Tensor, str]:
        chosen = draw_indices(settings.batch, len(train.images), generator)
        return F.mse_loss(module.rate(to_pixels(train.images[chosen])), train.clean[chosen]), ""

    return loss


def measure_quality(module: Quality, validation: Decodings, generator: torch.Generator) -> str:
    """Correlation of the scores with the share of clean tokens."""
    pair = torch.stack((in_batches(module.score, validation.images), validation.clean))
    return f"validation correlation {torch.corrcoef(pair)[0, 1]:.3f}"


TRAINERS: dict[str, tuple[Callable, Callable]] = {
    "classifier": (prepare_classifier, measure_classifier),
    "clip": (prepare_clip, measure_clip),
    "preference": (prepare_preference, measure_preference),
    "quality": (prepare_quality, measure_quality),
}
