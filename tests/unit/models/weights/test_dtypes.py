"""Dtypes of released weights: floats of two, four or eight bytes are read, all others are refused in one line."""

import time

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from artune.errors import ArtuneError
from artune.models.weights.checkpoints import load_into, unusable
from artune.models.weights.pickles import read_pickled
from artune.models.weights.torchscript import load_torchscript

FLOAT8 = sorted(name for name in dir(torch) if name.startswith("float8_"))
WEIGHT = torch.arange(12.0).reshape(4, 3) / 8


class Small(nn.Module):
    """A module with a weight and a counter, as a batch norm has."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 3))
        self.register_buffer("count", torch.tensor(0))

    def forward(self, x):
        return x + self.weight


def written(folder, container, state):
    """A file of this state in a container of weights."""
    path = folder / f"foreign.{'safetensors' if container == 'safetensors' else 'pt'}"
    if container == "safetensors":
        save_file(state, path)
    elif container == "with an object that torch refuses":
        torch.save({"state_dict": state, "callbacks": Small()}, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=container == "zip")
    return path


CONTAINERS = ["safetensors", "zip", "before torch 1.6", "with an object that torch refuses"]


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", [*FLOAT8, "int8", "uint8", "int64", "bool", "complex64"])
def test_a_dtype_that_would_be_cast_to_other_weights_is_one_line_with_file_tensor_and_dtype(tmp_path, container, name):
    weight = WEIGHT.to(getattr(torch, name))
    path = written(tmp_path, container, {"weight": weight, "count": torch.tensor(3)})
    with pytest.raises(ArtuneError) as caught:
        load_into(Small(), path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ")
    assert f"weights of a type that is not read: weight (file {name}); save them as float32" in line
    assert "\n" not in line
    assert "missing" not in line


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_floats_of_two_four_and_eight_bytes_are_read(tmp_path, container, name):
    weight = WEIGHT.to(getattr(torch, name))
    module = Small()
    load_into(module, written(tmp_path, container, {"weight": weight, "count": torch.tensor(3)}))
    assert torch.equal(module.weight, WEIGHT)
    assert module.weight.dtype == torch.float32
    assert module.count == 3


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (lambda: torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8), "qint8"),
        (WEIGHT.to_sparse, "float32 sparse"),
        (WEIGHT.to_sparse_csr, "float32 sparse"),
        (lambda: torch.empty(4, 3, device="meta"), "float32 without values"),
    ],
    ids=["quantised", "sparse", "sparse by rows", "meta"],
)
@pytest.mark.filterwarnings("ignore")  # on sparse rows in beta state
def test_what_is_no_dense_array_is_one_line(tmp_path, made, kind):
    torch.save({"weight": made(), "count": torch.tensor(3)}, tmp_path / "foreign.pt")
    with pytest.raises(
        ArtuneError, match=rf"foreign\.pt: .*weights of a type that is not read: weight \(file {kind}\)"
    ):
        load_into(Small(), tmp_path / "foreign.pt")


def test_a_float_in_the_place_of_a_counter_is_refused(tmp_path):
    torch.save({"weight": WEIGHT, "count": torch.tensor(3.0)}, tmp_path / "foreign.pt")
    with pytest.raises(ArtuneError, match=r"weights of a type that is not read: count \(file float32\)"):
        load_into(Small(), tmp_path / "foreign.pt")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64, torch.float64, torch.bfloat16])
def test_torchscript_archives_are_held_to_the_same_dtypes(tmp_path, dtype):
    module = Small()
    module.weight = nn.Parameter(WEIGHT.to(dtype), requires_grad=False)
    torch.jit.trace(module, torch.ones(4, 3).to(dtype), check_trace=False).save(tmp_path / "clip.pt")
    fresh = Small()
    if dtype in (torch.float64, torch.bfloat16):
        load_torchscript(fresh, tmp_path / "clip.pt")
        assert torch.equal(fresh.weight, WEIGHT)
        return
    with pytest.raises(ArtuneError, match=rf"clip\.pt: .*weight \(file {str(dtype).removeprefix('torch.')}\)"):
        load_torchscript(fresh, tmp_path / "clip.pt")


def test_weights_of_a_torchscript_archive_that_are_not_finite_are_refused(tmp_path):
    module = Small()
    module.weight = nn.Parameter(torch.full((4, 3), torch.nan))
    torch.jit.trace(module, torch.ones(4, 3), check_trace=False).save(tmp_path / "clip.pt")
    with pytest.raises(ArtuneError, match=r"clip\.pt: NaN or infinite: weight"):
        load_torchscript(Small(), tmp_path / "clip.pt")


def test_float8_is_read_as_it_is_where_torch_refuses_the_file(tmp_path):
    path = written(tmp_path, CONTAINERS[-1], {"weight": WEIGHT.to(torch.float8_e4m3fn)})
    found = read_pickled(path)["state_dict"]["weight"]
    assert torch.equal(found.float(), WEIGHT.to(torch.float8_e4m3fn).float())


def overlong():
    """A tensor of 32 GB in a few bytes of storage, and one whose values no memory could hold."""
    return torch.zeros(1).expand(2**21, 2**12), torch.zeros(2**20).as_strided((2**20, 2**20), (0, 1))


@pytest.mark.parametrize("which", [0, 1], ids=["expanded", "strided"])
def test_a_misshapen_tensor_that_claims_far_more_than_it_holds_is_refused_at_once(tmp_path, which):
    torch.save({"weight": overlong()[which], "count": torch.tensor(3)}, tmp_path / "foreign.pt")
    begin = time.monotonic()
    with pytest.raises(ArtuneError, match=r"foreign\.pt: does not fit this Small; misshapen weight"):
        load_into(Small(), tmp_path / "foreign.pt")
    assert time.monotonic() - begin < 2


@pytest.mark.filterwarnings("ignore")  # on nested tensors in prototype state
@pytest.mark.parametrize("layout", [torch.strided, torch.jagged])
def test_a_nested_tensor_is_one_line(tmp_path, layout):
    nested = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=layout)
    state = {"weight": nested, "count": torch.tensor(3), "tok_embeddings.weight": nested}
    wanted = Small().state_dict()
    assert unusable(state, wanted)[0].startswith("weights of a type that is not read: weight (file float32 nested)")
    torch.save(state, tmp_path / "foreign.pt")
    with pytest.raises(ArtuneError, match=r"foreign\.pt: ") as caught:
        load_into(Small(), tmp_path / "foreign.pt")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [1e300, -1e39])
def test_values_that_the_type_of_the_model_cannot_hold_are_refused(tmp_path, value):
    torch.save({"weight": torch.full((4, 3), value, dtype=torch.float64), "count": torch.tensor(3)}, tmp_path / "x.pt")
    with pytest.raises(ArtuneError, match=r"too large for the model's type: weight \(float32\)"):
        load_into(Small(), tmp_path / "x.pt")
    torch.save({"weight": torch.full((4, 3), 1e5), "count": torch.tensor(3)}, tmp_path / "y.pt")
    load_into(Small(), tmp_path / "y.pt")
    with pytest.raises(ArtuneError, match=r"too large for the model's type: weight \(float16\)"):
        load_into(Small().half(), tmp_path / "y.pt")


def test_a_line_about_values_does_not_send_to_the_sizes(tmp_path):
    torch.save({"weight": torch.full((4, 3), torch.nan), "count": torch.tensor(3)}, tmp_path / "x.pt")
    with pytest.raises(ArtuneError, match=r"NaN or infinite: weight; get the file") as caught:
        load_into(Small(), tmp_path / "x.pt")
    assert "sizes" not in str(caught.value)
