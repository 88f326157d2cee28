import copy
import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from torch import nn

from artune.config.run import Data, Network
from artune.errors import ArtuneError
from artune.models.encoders.build import build_network, load_network
from artune.models.weights.torchscript import is_torchscript, read_torchscript

IMAGENET = Data(source="imagenet", image_size=256, classes=1000)
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning")
CLIP = {
    "embed_dim": 16,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2},
}


def archive_of(path, pickled, storages=(), prefix="archive"):
    """Write a zip file with the layout of a TorchScript archive."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{prefix}/data.pkl", pickled)
        archive.writestr(f"{prefix}/constants.pkl", pickle.dumps(()))
        archive.writestr(f"{prefix}/code/__torch__.py", "raise SystemExit")
        for number, raw in enumerate(storages):
            archive.writestr(f"{prefix}/data/{number}", raw)
    return path


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A tiny CLIP in the form of OpenAI's files: a half-precision TorchScript archive with sizes among its weights."""
    folder = tmp_path_factory.mktemp("openai")
    (folder / "tiny.json").write_text(json.dumps(CLIP))
    torch.manual_seed(0)
    model = build_network(Network(kind="open_clip", architecture=str(folder / "tiny.json")), IMAGENET).eval()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.half().float()  # values that half precision can hold
    released = copy.deepcopy(model)
    for name, value in (("input_resolution", 32), ("context_length", 16), ("vocab_size", 49408)):
        vars(released).pop(name, None)
        released.register_buffer(name, torch.tensor(value))
    images, texts = torch.zeros(1, 3, 32, 32), torch.zeros(1, 16, dtype=torch.long)
    traced = torch.jit.trace_module(released, {"encode_image": images, "encode_text": texts}, check_trace=False).half()
    traced.save(str(folder / "ViT-Tiny.pt"))
    return folder, model


def test_openais_archive_gives_the_embeddings_of_its_model(released):
    folder, model = released
    loaded = load_network(
        folder / "ViT-Tiny.pt", Network(kind="open_clip", architecture=str(folder / "tiny.json")), IMAGENET
    )
    images = torch.randint(0, 256, (2, 3, 40, 32), dtype=torch.uint8)
    assert next(loaded.parameters()).dtype == torch.float32
    assert torch.equal(loaded.embed_images(images), model.embed_images(images))
    assert torch.equal(loaded.embed_texts(["a photo of tench"]), model.embed_texts(["a photo of tench"]))


def test_an_archive_is_told_from_other_files(released, tmp_path):
    folder, model = released
    torch.save(model.state_dict(), tmp_path / "plain.pt")
    assert is_torchscript(folder / "ViT-Tiny.pt")
    assert not is_torchscript(tmp_path / "plain.pt")
    assert not is_torchscript(tmp_path / "missing.pt")


def test_openais_weights_are_refused_where_the_activation_would_be_another(released, tmp_path):
    folder, _ = released
    (tmp_path / "gelu.json").write_text(json.dumps(CLIP | {"quick_gelu": False}))
    with pytest.raises(ArtuneError, match="need QuickGELU"):
        load_network(
            folder / "ViT-Tiny.pt", Network(kind="open_clip", architecture=str(tmp_path / "gelu.json")), IMAGENET
        )


def test_an_archive_of_another_size_is_refused_in_one_line(released, tmp_path):
    folder, _ = released
    (tmp_path / "wide.json").write_text(json.dumps(CLIP | {"embed_dim": 24}))
    with pytest.raises(ArtuneError, match="size mismatch") as caught:
        load_network(
            folder / "ViT-Tiny.pt", Network(kind="open_clip", architecture=str(tmp_path / "wide.json")), IMAGENET
        )
    assert "\n" not in str(caught.value)


def test_a_shared_storage_and_a_transposed_tensor_are_read_as_saved(tmp_path):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            whole = torch.arange(12.0).reshape(3, 4)
            self.register_buffer("turned", whole.T)
            self.register_buffer("part", whole[1:, 2])
            self.register_buffer("flag", torch.tensor(True))

        def forward(self, x):
            return x + self.part.sum()

    torch.jit.trace(Pair(), torch.zeros(1)).save(str(tmp_path / "pair.pt"))
    tensors = read_torchscript(tmp_path / "pair.pt")
    assert torch.equal(tensors["turned"], torch.arange(12.0).reshape(3, 4).T)
    assert torch.equal(tensors["part"], torch.tensor([6.0, 10.0]))
    assert tensors["flag"]


class Attack:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize(
    "call", [os.system, eval, exec, __import__, torch.load, getattr], ids=lambda call: call.__name__
)
def test_a_hostile_archive_runs_nothing(tmp_path, call):
    trace = tmp_path / "ran"
    path = archive_of(tmp_path / "hostile.pt", pickle.dumps(Attack(call, f"open({str(trace)!r}, 'w')"), protocol=2))
    with pytest.raises(ArtuneError, match="a file of weights does not need"):
        read_torchscript(path)
    assert not trace.exists()


def tensor_pickle(count, size, stride, offset=0):
    """The pickle that TorchScript writes for a module with one float32 tensor ``w``."""
    stream = io.BytesIO()

    class Storage:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return ("storage", torch.FloatStorage, "0", "cpu", count) if isinstance(value, Storage) else None

    from torch._utils import _rebuild_tensor_v2

    class Rebuilt:
        def __reduce__(self):
            return _rebuild_tensor_v2, (Storage(), offset, size, stride, False, None)

    Pickler(stream, protocol=2).dump(Rebuilt())
    return b"\x80\x02c__torch__\nA\n)\x81}X\x01\x00\x00\x00w" + stream.getvalue()[2:-1] + b"sb."


def test_a_handmade_tensor_is_read(tmp_path):
    raw = torch.arange(6.0).numpy().tobytes()
    path = archive_of(tmp_path / "good.pt", tensor_pickle(6, (2, 3), (3, 1)), [raw])
    assert torch.equal(read_torchscript(path)["w"], torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize(
    ("count", "size", "stride", "offset"),
    [(6, (2, 4), (4, 1), 0), (6, (2, 3), (3, 1), 1), (6, (2,), (-1,), 3), (6, (2, 3), (3,), 0), (7, (6,), (1,), 0)],
    ids=["too large", "beyond the end", "backwards", "ranks differ", "short storage"],
)
def test_a_tensor_that_reaches_out_of_its_storage_is_refused(tmp_path, count, size, stride, offset):
    raw = torch.arange(6.0).numpy().tobytes()
    path = archive_of(tmp_path / "bad.pt", tensor_pickle(count, size, stride, offset), [raw])
    with pytest.raises(ArtuneError, match=r"bad\.pt: truncated, damaged or not only weights"):
        read_torchscript(path)


def test_a_damaged_archive_is_refused_in_one_line(released, tmp_path):
    folder, _ = released
    raw = bytearray((folder / "ViT-Tiny.pt").read_bytes())
    at = raw.find(torch.ones(32).half().numpy().tobytes())  # weights of a layer norm
    assert at > 0
    raw[at] ^= 1
    (tmp_path / "flipped.pt").write_bytes(raw)
    with pytest.raises(ArtuneError, match="CRC") as caught:
        read_torchscript(tmp_path / "flipped.pt")
    assert "\n" not in str(caught.value)
