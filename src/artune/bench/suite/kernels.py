"""Attention kernels: which one PyTorch takes in decoding and training, and the time of each at the decoding shapes."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from artune.bench.measure import now
from artune.bench.random_weights import random_policy
from artune.bench.suite.parts import BACKBONE, SHARE, Row, Suite
from artune.bench.suite.worker import reason_of
from artune.models.policies.attention import Use, kernels
from artune.models.policies.cache import BucketedCache, KVCache
from artune.sampling.decoders import BUCKET

NAMES = {"flash": "flash", "efficient": "memory-efficient", "cudnn": "cuDNN"}
REFUSALS = ("No available kernel", "No viable backend")
CALLS = 20  # calls per timing, recorded as one CUDA graph, so that the launches cost nothing
FORCED = {"memory-efficient": SDPBackend.EFFICIENT_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION,
          "flash": SDPBackend.FLASH_ATTENTION}  # fmt: skip


def run(suite: Suite) -> None:
    """Note the kernels taken, then the microseconds of each forced kernel."""
    rows = [2 * suite.request(images=images).batch for images in (SHARE, None)]
    for case, call in steps(suite, rows[0]):
        suite.note({"case": case, "kernel": taken(call)})
    length = BUCKET if suite.small else 8 * BUCKET
    for number in rows[:1] if suite.small else rows:
        for extent in range(BUCKET, length + 1, BUCKET):
            for masked in (True, False):
                for name in FORCED:
                    suite.note(forced(suite, name, number, extent, length, masked))


def steps(suite: Suite, rows: int) -> list[tuple[str, Callable[[], object]]]:
    """The attention of a decoding step with a mask, of a plain one, and of a policy's forward pass in training.

    The two steps come twice: with the kernels that this code names, and as PyTorch would choose by itself.
    """
    backbone = suite.request().run.backbone
    shape = (rows, backbone.heads, backbone.tokens, backbone.dim // backbone.heads)
    one = torch.zeros(shape[0], shape[1], 1, shape[3], dtype=torch.bfloat16, device=suite.device)
    masked, plain = BucketedCache(1, shape, one, BUCKET), KVCache.allocate(1, shape, one)

    def masked_step() -> None:
        masked.begin(torch.zeros(shape[2], 1, device=suite.device))
        masked.attend(0, one, one, one)

    def plain_step() -> None:
        plain.attend(0, one, one, one)

    def named(use: Use, step: Callable[[], None]) -> Callable[[], None]:
        def within() -> None:
            with kernels(use, suite.device):
                step()

        return within

    def training(name: str) -> Callable[[], object]:
        sizes = suite.request(name).run.backbone.model_copy(update={"layers": 1})
        policy = random_policy(sizes, suite.device)
        tokens = torch.zeros(2, sizes.tokens, dtype=torch.long, device=suite.device)

        def forward() -> None:
            with torch.autocast(suite.device.type, torch.bfloat16):
                policy(tokens, tokens[:, 0])

        return forward

    return [
        ("decoding step with a mask", named(masked.use, masked_step)),
        ("plain decoding step", named(plain.use, plain_step)),
        ("decoding step with a mask, PyTorch's own choice", masked_step),
        ("plain decoding step, PyTorch's own choice", plain_step),
        *((f"training, {name}", training(name)) for name in (BACKBONE, "vqgan")),
    ]


class Operations(TorchDispatchMode):
    """Keeps the names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and keep its name."""
        self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def taken(call: Callable[[], object]) -> str:
    """The attention kernel that a call runs: flash, memory-efficient, cuDNN, or products and softmax."""
    with Operations() as operations:
        call()
    fused = [name for name in operations.seen if "dot_product" in name and "attention" in name]
    for name in fused:
        for part, kernel in NAMES.items():
            if part in name:
                return kernel
    return ", ".join(fused) or "products and softmax"


def forced(suite: Suite, name: str, rows: int, extent: int, length: int, masked: bool) -> Row:
    """Microseconds of one kernel for one token per row and ``extent`` keys, and seconds of its first call."""
    backbone, device = suite.request().run.backbone, suite.device
    heads, width = backbone.heads, backbone.dim // backbone.heads
    keys, values = torch.randn(2, rows, heads, length, width, device=device).bfloat16()[..., :extent, :].unbind()
    query = torch.randn(rows, heads, 1, width, device=device).bfloat16()
    mask = torch.zeros(1, 1, 1, extent, device=device, dtype=torch.bfloat16) if masked else None

    def call() -> Tensor:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)

    row: Row = {"case": "forced", "mask": masked, "rows": rows, "keys": extent, "kernel": name}
    with sdpa_kernel([FORCED[name]]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one per reason for which a kernel is not allowed
        try:
            began = now(device)
            call()
            first = now(device) - began
            each = microseconds(call, device)
        except RuntimeError as error:
            if device.type == "cuda":  # a recording that fails leaves its own stream as the current one
                torch.cuda.set_stream(torch.cuda.default_stream(device))
            refused = any(text in str(error) for text in REFUSALS)
            return row | {"first call ms": None, "us": None, "remark": "not allowed" if refused else reason_of(error)}
    return row | {"first call ms": first * 1e3, "us": each, "remark": None}


def microseconds(call: Callable[[], object], device: torch.device) -> float:
    """Microseconds per call; on CUDA of a recorded graph of :data:`CALLS` calls, the best of five replays."""

    def many() -> None:
        for _ in range(CALLS):
            call()

    again: Callable[[], object] = many
    if device.type == "cuda":
        many()
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize(device)
        with torch.cuda.graph(graph):
            many()
        again = graph.replay
    found = []
    for _ in range(5):
        began = now(device)
        again()
        found.append((now(device) - began) / CALLS * 1e6)
    return min(found)
