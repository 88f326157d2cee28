"""The command ``selfcheck``: the paper's own networks at full size with random weights, one after the other.

It checks on any machine, without released weights, that each network is built, runs, stays finite and fits into
memory, and that cached decoding and half precision of the policy agree with its plain forward pass. It needs neither
Snakemake nor MLflow.
"""

import contextlib
import ctypes
import gc
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from artune.bench.measure import dtype_name
from artune.bench.random_weights import random_policy
from artune.config.registry import Registry
from artune.config.sizes import decoded_size
from artune.data.prompts import prompts
from artune.errors import ArtuneError, unknown
from artune.models.encoders.build import build_network
from artune.models.tokenizers.build import build_tokenizer
from artune.runtime.files import write_json
from artune.runtime.seeds import generator_for
from artune.sampling.cached_decoding import decoder_for
from artune.sampling.decoders import PlainDecoder
from artune.sampling.forced import forced_steps
from artune.tracking.provenance import provenance

ON_CPU, ON_GPU = 2, 16  # images per batch
TOKENS, CROPS = 32, 2  # per image on a CPU, instead of 256 or 576 tokens and 20 crops, which take minutes
# Largest accepted errors, in standard deviations of the logits.
ERRORS = {torch.float32: 1e-4, torch.bfloat16: 0.3}


@dataclass(frozen=True)
class Machine:
    """Device and precision of the networks."""

    device: torch.device
    dtype: torch.dtype

    @property
    def on_cpu(self) -> bool:
        """Whether the device is a CPU, where batches are small."""
        return self.device.type == "cpu"

    @property
    def images(self) -> int:
        """Images per batch."""
        return ON_CPU if self.on_cpu else ON_GPU

    def draw(self, high: int, *shape: int) -> Tensor:
        """Random whole numbers from 0 to below ``high``, int64, the same on every machine."""
        return torch.randint(high, shape, generator=generator_for("selfcheck", high, *shape)).to(self.device)


@dataclass(frozen=True)
class Part:
    """A network: how to build it, its precision, and a run of one batch, which returns its size and findings."""

    name: str
    build: Callable[[], nn.Module]
    dtype: torch.dtype
    run: Callable[[Any], tuple[str, str]]


@dataclass(frozen=True)
class CheckRow:
    """Time and memory of a network; ``peak_gb`` is the memory of the whole process on a CPU, PyTorch's on a GPU."""

    network: str
    parameters: int
    dtype: str
    batch: str
    build_s: float
    run_s: float
    cpu_s: float  # CPU seconds of build and run over all threads; other load on the machine does not change them
    peak_gb: float
    seen: str


def selfcheck(
    registry: Registry, backbone: str, machine: Machine, output: Path | None = None
) -> tuple[list[CheckRow], str]:
    """Build and run every network, freeing each before the next.

    Args:
        registry: settings of the imagenet scale.
        backbone: a policy of ``backbones.yaml``, which is checked with its tokenizer.
        machine: device and dtype; the tokenizer and Inception are always float32, as in a run.
        output: JSON file to write.

    Returns:
        One row per network, and a summary of one line.

    Raises:
        ArtuneError: the backbone is unknown, or a check has failed, which the message names.
    """
    rows = [check_part(part, machine) for part in network_parts(registry, backbone, machine)]
    peak = max(row.peak_gb for row in rows)
    if output is not None:
        about = {
            "device": machine.device.type,
            "dtype": dtype_name(machine.dtype),
            "backbone": backbone,
            "peak_gb": peak,
        }
        write_json(output, about | {"rows": [asdict(row) for row in rows], "versions": provenance(machine.device)})
    where = f"on {machine.device.type} in {dtype_name(machine.dtype)}"
    line = f"{len(rows)} networks {where}, all checks passed, peak {peak:.1f} GB"
    return rows, f"{output}: {line}" if output else line


def network_parts(registry: Registry, backbone: str, machine: Machine) -> list[Part]:
    """The networks of a run on ``backbone``, in the order in which an iteration uses them."""
    if backbone not in registry.backbones:
        raise ArtuneError(f"--backbone: {unknown(backbone, registry.backbones)}")
    policy, data = registry.backbones[backbone], registry.data
    tokenizer = registry.tokenizers[policy.tokenizer]
    side = decoded_size(policy, tokenizer)
    images = machine.draw(256, machine.images, 3, data.image_size, data.image_size).to(torch.uint8)
    texts = prompts(data)[:8]

    def network(name: str, dtype: torch.dtype, run: Callable[[Any], tuple[str, str]]) -> Part:
        return Part(name, lambda: build_network(registry.networks[name], data), dtype, run)

    return [
        Part(
            backbone,
            lambda: random_policy(policy, torch.device("cpu")),
            machine.dtype,
            lambda found: run_policy(found, machine),
        ),
        Part(
            policy.tokenizer,
            lambda: build_tokenizer(tokenizer, side),
            torch.float32,
            lambda found: run_tokenizer(found, machine, policy.tokens),
        ),
        network("clip", machine.dtype, lambda found: run_clip(found, images, texts)),
        network("hps", machine.dtype, lambda found: run_clip(found, images, texts)),
        network("maniqa", machine.dtype, lambda found: run_maniqa(found, images, machine)),
        network("inception", torch.float32, lambda found: run_inception(found, images)),
    ]


def check_part(part: Part, machine: Machine) -> CheckRow:
    """Build a network, run one batch and free the network."""
    _forget_peak(machine)
    torch.manual_seed(0)
    began, worked = time.monotonic(), time.process_time()
    module = part.build().eval().requires_grad_(False).to(part.dtype).to(machine.device)
    built = time.monotonic()
    with torch.no_grad():
        batch, seen = part.run(module)
    if not machine.on_cpu:
        torch.cuda.synchronize(machine.device)
    row = CheckRow(
        network=part.name,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        dtype=dtype_name(part.dtype),
        batch=batch,
        build_s=round(built - began, 1),
        run_s=round(time.monotonic() - built, 1),
        cpu_s=round(time.process_time() - worked, 1),
        peak_gb=round(_peak(machine) / 1e9, 2),
        seen=seen,
    )
    del module
    gc.collect()
    if not machine.on_cpu:
        torch.cuda.empty_cache()
    return row


def run_policy(policy: Any, machine: Machine) -> tuple[str, str]:
    """Compare cached decoding, plain and as in sampling, with the teacher-forced forward, and bfloat16 with float32."""
    length = min(TOKENS, policy.tokens) if machine.on_cpu else policy.tokens
    classes = machine.draw(policy.classes, machine.images)
    tokens = machine.draw(policy.codebook_size, machine.images, length)
    forced = _finite(policy(tokens, classes))
    accepted = ERRORS[machine.dtype]
    plain = _error(forced_steps(PlainDecoder(policy), classes, tokens), forced, accepted, "cached decoding")
    decoder = decoder_for(policy, classes)
    fast = _error(forced_steps(decoder, classes, tokens), forced, accepted, "the decoding of sampling")
    seen = f"cached decoding {plain:.1e} off, {type(decoder).__name__} of sampling {fast:.1e}"
    del decoder  # frees its cache before the policy is copied
    if machine.dtype == torch.float32:
        half = policy.bfloat16()(tokens, classes)
        seen += f", bfloat16 {_error(half, forced, ERRORS[torch.bfloat16], 'bfloat16'):.1e}"
    return f"{machine.images} x {length} tokens", seen


def run_tokenizer(tokenizer: Any, machine: Machine, tokens: int) -> tuple[str, str]:
    """Decode random codes to images and encode those images."""
    ids = machine.draw(tokenizer.codebook_size, machine.images, tokens)
    images = _finite(tokenizer.decode(ids))
    again = tokenizer.encode(images.clamp(-1, 1))
    _require(again.shape == ids.shape, f"{tokens} codes came back as {tuple(again.shape)}")
    return f"{len(images)} images of {images.shape[-1]}", f"values {images.min():.1f} to {images.max():.1f}"


def run_clip(network: Any, images: Tensor, texts: tuple[str, ...]) -> tuple[str, str]:
    """Compute cosines between embeddings of images and prompts, all unit vectors."""
    cosines = _finite(network.embed_images(images)) @ _finite(network.embed_texts(texts)).T
    _require(bool((cosines.abs() <= 1.01).all()), "a cosine is above 1")
    return f"{len(images)} images, {len(texts)} prompts", f"cosines {cosines.min():.3f} to {cosines.max():.3f}"


def run_maniqa(network: Any, images: Tensor, machine: Machine) -> tuple[str, str]:
    """Score images from all their crops, on a CPU from :data:`CROPS` of them."""
    crops = min(CROPS, network.sizes.crops) if machine.on_cpu else network.sizes.crops
    network.sizes = replace(network.sizes, crops=crops)
    scores = _finite(network.score(images))
    return f"{len(images)} images, {crops} crops", f"scores {scores.min():.3f} to {scores.max():.3f}"


def run_inception(network: Any, images: Tensor) -> tuple[str, str]:
    """Compute features and class probabilities."""
    features, probabilities = _finite(network.features(images)), _finite(network.probabilities(images))
    _require(bool((probabilities.sum(1) - 1).abs().max() < 1e-4), "class probabilities do not sum to 1")
    return f"{len(images)} images", f"features of width {features.shape[1]}, spread {features.std():.2f}"


def _error(found: Tensor, expected: Tensor, accepted: float, what: str) -> float:
    """Largest difference in standard deviations of ``expected``."""
    error = float((_finite(found) - expected).abs().max() / expected.std())
    off = f"{what} differs by {error:.1e} of the logits' spread from the teacher-forced forward"
    _require(error < accepted, f"{off}, more than {accepted:.0e}")
    return error


def _finite(found: Tensor) -> Tensor:
    _require(bool(found.isfinite().all()), "NaN or infinity came out")
    return found


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ArtuneError(f"selfcheck: {otherwise}")


def _forget_peak(machine: Machine) -> None:
    """Reset the peak of memory; if the system does not allow it, the peak stays that of the whole process."""
    if not machine.on_cpu:
        torch.cuda.reset_peak_memory_stats(machine.device)
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # memory left by the previous network
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak(machine: Machine) -> int:
    """Peak of memory in bytes since :func:`_forget_peak`."""
    if not machine.on_cpu:
        return torch.cuda.max_memory_allocated(machine.device)
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
