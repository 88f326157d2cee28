"""Structs of Thrift's compact protocol: what readers could understand differently is refused, in bounded time."""

import pyarrow
import pytest
from hostile import picture, saved, write_parquet
from parquet_pages import altered, varint, written

from artune.data.imagenet import open_split
from artune.data.reading.thrift import BINARY, INT_32, INT_64, LIST, STRUCT, TRUE, Thrift
from artune.errors import ArtuneError

TABLE = pyarrow.table({"image": [saved(picture(), "JPEG")] * 2, "label": [0, 1]})
VALUE = {
    1: (INT_32, -7), 2: (INT_64, 2**40), 3: (BINARY, b"abc"), 4: (TRUE, None), 5: (LIST, (INT_32, list(range(20)))),
    7: (STRUCT, {1: (LIST, (STRUCT, [{2: (BINARY, b"")}]))}),
}  # fmt: skip


def read(data, most=100, lists=None):
    return Thrift(most, lists or {}).struct(data, 0)


def test_values_are_read():
    found, end = read(written(VALUE) + b"rest")
    assert found == {
        (1, INT_32): -7, (2, INT_64): 2**40, (3, BINARY): b"abc", (4, TRUE): True, (5, LIST): list(range(20)),
        (7, STRUCT): {(1, LIST): [{(2, BINARY): b""}]},
    }  # fmt: skip
    assert end == len(written(VALUE))
    for cut in range(end):
        with pytest.raises(IndexError):
            read(written(VALUE)[:cut])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x15\x02\x05\x02\x04\0", "field 1 twice"),
        (b"\x15" + varint(2**32) + b"\0", "more than 32 bits"),
        (b"\x16" + b"\xff" * 20 + b"\0", "more than 64 bits"),
        (b"\x1b\x01\x55\x00\x00\0", "type 11"),  # a map
        (b"\x1d\x00\0", "type 13"),
        (b"\x1c" * 100 + b"\0" * 101, "too many"),
        (b"\x19" * 100, "too many"),
        (b"\x19\xf1" + varint(2**31 - 1) + bytes(1000), "too many"),
    ],
)
def test_what_is_none_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        read(data)


def test_all_structs_together_have_a_number_of_values():
    reader = Thrift(2, {})
    assert reader.struct(b"\x15\x02\0", 0) == reader.struct(b"\x15\x02\0", 0)
    with pytest.raises(ValueError, match="too many"):
        reader.struct(b"\x15\x02\0", 0)


def test_a_list_may_have_a_type():
    data = written({5: (LIST, (BINARY, [b"a"]))})
    assert read(data, lists={(0, 5): (BINARY,)})[0] == {(5, LIST): [b"a"]}
    with pytest.raises(ValueError, match="a list of values of type 8"):
        read(data, lists={(0, 5): (INT_32,)})


def test_a_list_of_another_type_in_a_file_is_refused(tmp_path):
    """The encodings of a column as single bytes; pyarrow reads them as the numbers that it expects."""

    def about(column):
        kind, (_, values) = column[2]
        column[2] = kind, (3, values)

    (tmp_path / "x.parquet").write_bytes(altered(write_parquet(TABLE), about=about))
    with pytest.raises(ArtuneError, match=r"x\.parquet: damaged parquet \(a header has a list of values of type 3"):
        open_split(tmp_path / "x.parquet")
