"""CUDA without a GPU: tensors with a device and a shape but no memory, and modes that refuse what stops a GPU."""

from collections import Counter
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from artune.data.pixels import _pil_weights
from artune.models.policies.llamagen import rotary_table

CUDA = torch.device("cuda:0")
aten = torch.ops.aten
# Operations whose result lies on the host, or whose shape depends on values: the host waits for the device.
READS = {
    aten._local_scalar_dense, aten.item, aten.is_nonzero, aten.equal, aten.nonzero, aten.masked_select, aten._unique2,
    aten.unique_dim, aten.unique_consecutive, aten.bincount, aten.histc,
}  # fmt: skip
CACHED = (rotary_table, _pil_weights)  # functions that keep tensors; a fake one serves its own mode only
MASKED = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}


class HostReadError(RuntimeError):
    """A step made the host wait for the device."""


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def refuse_host_read(function, arguments):
    """Raise a HostReadError if ``function`` hands a value of the device to the host."""
    packet = function.overloadpacket
    if packet in READS:
        raise HostReadError(f"{function}: the step reads a value of the device on the host")
    if packet in MASKED and any(index.dtype in (torch.bool, torch.uint8) for index in tensors(arguments[1])):
        raise HostReadError(f"{function}: the step picks rows by a mask, so the host waits for their number")


class OnDevice(TorchDispatchMode):
    """Refuses host reads and copies to the host; ``recorded`` refuses copies from it too, as recording a graph does.

    Attributes:
        answers: values that host reads get, one for each that is known and allowed.
        seen: how often each operation ran, by name.
    """

    def __init__(self, recorded=False, answers=()):
        super().__init__()
        self.recorded, self.answers, self.seen = recorded, list(answers), Counter()

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        if function is aten._local_scalar_dense.default and self.answers:
            return self.answers.pop(0)
        refuse_host_read(function, arguments)
        result = function(*arguments, **(keywords or {}))
        self.seen[function.overloadpacket._qualified_op_name.removeprefix("aten::")] += 1
        before = {tensor.device.type for tensor in tensors((arguments, keywords))}
        after = {tensor.device.type for tensor in tensors(result)}
        if "cuda" in before and "cpu" in after:
            raise HostReadError(f"{function}: the step copies a tensor of the device to the host")
        if self.recorded and "cpu" in before | after:
            raise HostReadError(f"{function}: the step uses a tensor of the host, which a graph cannot record")
        return result


def convert(module, function, recurse=True):
    """``nn.Module._apply`` with new parameters: PyTorch's own swaps them in place, which fake tensors do not allow."""
    with torch.no_grad():
        for part in module.modules() if recurse else (module,):
            for name, weight in part._parameters.items():
                if weight is not None:
                    part._parameters[name] = nn.Parameter(function(weight), weight.requires_grad)
            for name, buffer in part._buffers.items():
                if buffer is not None:
                    part._buffers[name] = function(buffer)
    return module


def on_cuda(make):
    """The frozen network that ``make`` builds, with fake weights on CUDA; only what ``Module.to`` moves lies there."""
    with unset_fake_temporarily(), torch.device("meta"):
        network = make().eval().requires_grad_(False)
    return convert(network, lambda weight: torch.empty(weight.shape, dtype=weight.dtype, device=CUDA))


@contextmanager
def fake_cuda():
    """Within it all new tensors are fake, on the device that the code names; an operation on two devices raises."""
    for function in CACHED:
        function.cache_clear()
    try:
        with (
            FakeTensorMode(),
            patch.object(nn.Module, "_apply", convert),
            patch("torch.cuda.amp.common.amp_definitely_not_available", lambda: False),  # else autocast is off
            patch("torch.cuda.is_bf16_supported", lambda *_: True),
        ):
            yield CUDA
    finally:
        for function in CACHED:
            function.cache_clear()
