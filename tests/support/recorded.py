"""CUDA graphs without a GPU: the recorded operations of a step, run again with their very tensors.

Like a CUDA graph, a replay knows no Python: host values are those of the recording, tensors are read and written at the
addresses of the recording, and what the recorded code would allocate or move afterwards is not seen.
"""

from contextlib import contextmanager
from unittest.mock import patch

import torch
from fake_cuda import OnDevice, refuse_host_read, tensors
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from artune.sampling import decoders


class Recorder(TorchDispatchMode):
    """Records operations; afterwards the tensors that they changed hold what they held before, as after a capture."""

    def __init__(self):
        super().__init__()
        self.steps, self.before = [], {}

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        refuse_host_read(function, arguments)
        keywords = keywords or {}
        self._remember(function, arguments, keywords)
        result = function(*arguments, **keywords)
        # Not the objects but their memory: an object can be given other memory, of which a graph would not know.
        at = tree_map_only(torch.Tensor, torch.Tensor.detach, (arguments, keywords, result))
        self.steps.append((function, *at))
        return result

    def _remember(self, function, arguments, keywords):
        for place, argument in enumerate(function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write:
                given = arguments[place] if place < len(arguments) else keywords.get(argument.name)
                for tensor in tensors(given):
                    storage = tensor.untyped_storage()
                    self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))

    def restore(self):
        for storage, content in self.before.values():
            storage.copy_(content)


class Graph:
    """Stands for ``torch.cuda.CUDAGraph``."""

    def __init__(self):
        self.mode = Recorder()

    def capture_begin(self):
        self.mode.__enter__()

    def capture_end(self):
        self.mode.__exit__(None, None, None)
        self.mode.restore()

    @torch.no_grad()
    def replay(self):
        for function, arguments, keywords, recorded in self.mode.steps:
            found = function(*arguments, **keywords)
            fresh = [value.alias_info is None for value in function._schema.returns]
            if len(fresh) == 1 and fresh[0]:
                for old, new in zip(tree_leaves(recorded), tree_leaves(found), strict=True):
                    old.copy_(new)
            elif any(fresh):
                for old, new, is_fresh in zip(recorded, found, fresh, strict=True):
                    if is_fresh and isinstance(new, torch.Tensor):
                        old.copy_(new)


class FakeGraph(Graph):
    """A graph on fake tensors: refuses what a recording would refuse, and replays nothing."""

    def __init__(self):
        self.mode = OnDevice(recorded=True)

    def capture_end(self):
        self.mode.__exit__(None, None, None)

    def replay(self):
        return None


class BrokenGraph(Graph):
    """A graph whose recording fails when it ends, as after an operation that must not be recorded."""

    def capture_end(self):
        super().capture_end()
        raise RuntimeError("operation failed due to a previous error during capture")


class Stream:
    """Stands for ``torch.cuda.Stream``."""

    def wait_stream(self, other):
        assert isinstance(other, Stream)


class Cuda:
    """Stands for the part of ``torch.cuda`` that records graphs.

    Attributes:
        default: the stream of a new process.
        current: the present stream.
        captures: number of recordings begun.
    """

    def __init__(self, kind):
        self.default = self.current = Stream()
        self.kind, self.captures = kind, 0

    def set_stream(self, stream):
        self.current = stream

    @contextmanager
    def stream(self, stream):
        before, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = before

    @contextmanager
    def graph(self, graph):
        """As torch.cuda.graph, which leaves its stream only after a capture_end that did not raise."""
        before, self.current = self.current, Stream()
        self.captures += 1
        graph.capture_begin()
        try:
            yield
        finally:
            graph.capture_end()
            self.current = before


@contextmanager
def recording(kind=Graph, devices=("cpu",)):
    """Steps on ``devices`` are recorded as graphs of ``kind``; yields the :class:`Cuda` that records them."""
    cuda = Cuda(kind)
    with (
        patch.multiple(
            torch.cuda,
            CUDAGraph=kind,
            Stream=Stream,
            graph=cuda.graph,
            stream=cuda.stream,
            set_stream=cuda.set_stream,
            current_stream=lambda *_: cuda.current,
        ),
        patch.object(decoders, "RECORDED", set(devices)),
    ):
        yield cuda
