"""Parquet shards with other columns, bombs and false claims: one line each, in bounded time and memory."""

import pyarrow
import pytest
from confined import Confined
from hostile import hostile_file, picture, saved, write_parquet

from artune.data.crops import load_images
from artune.data.imagenet import open_split
from artune.errors import ArtuneError

PICTURE = saved(picture(), "JPEG")
STRUCT = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Reads a shard and its images in a child process, within two seconds and a gigabyte; returns the error's line."""
    with Confined("parquet", tmp_path_factory.mktemp("confined")) as reader:
        yield reader


def shard(image, label=(0, 1), **options):
    image = image if isinstance(image, pyarrow.Array) else pyarrow.array(image)
    label = label if isinstance(label, pyarrow.Array) else pyarrow.array(label)
    return write_parquet(pyarrow.Table.from_arrays([image, label], names=["image", "label"]), **options)


def repeated(value, count):
    """A column with one value ``count`` times, which takes the place of one in the file."""
    indices = pyarrow.array([0], pyarrow.int32()).take(pyarrow.array([0] * count))
    return pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([value], pyarrow.binary()))


BOTH = [PICTURE, PICTURE]
CASES = {
    "structs without bytes": (lambda: shard([{"path": "a.JPEG"}] * 2), "no field bytes"),
    "structs with a path and null bytes": (lambda: shard(pyarrow.array([{"bytes": None, "path": "a.JPEG"}] * 2, STRUCT)),
                                           "not their paths"),
    "structs with bytes of integers": (lambda: shard([{"bytes": 1}] * 2), "not of bytes"),
    "structs in structs": (lambda: shard([{"bytes": {"bytes": PICTURE}}] * 2), "not of bytes"),
    "null images": (lambda: shard(pyarrow.array([None, None], pyarrow.binary())), "has no image"),
    "null structs": (lambda: shard(pyarrow.array([None, None], STRUCT)), "has no image"),
    "integers as images": (lambda: shard([1, 2]), "image is of type int64"),
    "text as images": (lambda: shard(["a", "b"]), "image is of type string"),
    "lists as images": (lambda: shard([[PICTURE], [PICTURE]]), "image is of type list"),
    "no images": (lambda: shard(pyarrow.array([], pyarrow.binary()), pyarrow.array([], pyarrow.int64())), "holds no images"),
    "labels of text": (lambda: shard(BOTH, ["n01440764", "n01443537"]), "label is of type string"),
    "labels of floats": (lambda: shard(BOTH, [0.0, 1.0]), "label is of type double"),
    "labels in lists": (lambda: shard(BOTH, [[0], [1]]), "label is of type list"),
    "labels of booleans": (lambda: shard(BOTH, [False, True]), "label is of type bool"),
    "null labels": (lambda: shard(BOTH, [0, None]), "without a label"),
    "only null labels": (lambda: shard(BOTH, pyarrow.nulls(2)), "label is of type null"),
    "negative labels": (lambda: shard(BOTH, [0, -1]), "without a gap"),
    "labels of 2^62": (lambda: shard(BOTH, [0, 2**62]), "without a gap"),
    "labels of 2^64 - 1": (lambda: shard(BOTH, pyarrow.array([0, 2**64 - 1], pyarrow.uint64())), "without a gap"),
    "labels that count from 1": (lambda: shard(BOTH, [1, 2]), "without a gap"),
    "one image of 10 MB in 100,000 rows": (lambda: shard(repeated(bytes(10**7), 100_000), [0] * 100_000), "row 0: damaged image"),
    "the same, as a compressed bomb": (lambda: shard([bytes(3 * 10**8)], [0], compression="zstd", use_dictionary=False), "would unpack to"),
    "an image of 80 MB": (lambda: shard([bytes(range(256)) * 312_500], [0], compression="none"), "80,000,000 bytes"),
    "17 million rows": (lambda: shard(repeated(PICTURE, 17 * 2**20), pyarrow.array(bytes(17 * 2**20), pyarrow.uint8())), "claims"),
    "a name twice": (lambda: write_parquet(pyarrow.Table.from_arrays([pyarrow.array(BOTH)] * 2, names=["image"] * 2)), "more than one"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_other_columns_and_bombs_are_one_line(case, confined):
    make, message = CASES[case]
    with pytest.raises(ArtuneError, match=message) as caught:
        raise ArtuneError(confined(make()))
    assert str(caught.value).startswith(("x.parquet", "."))


@pytest.mark.parametrize("compression", ["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_every_compression_is_read(compression, version, confined):
    assert (
        confined(shard([{"bytes": PICTURE, "path": "a"}] * 2, compression=compression, data_page_version=version)) == ""
    )


@pytest.mark.parametrize("kind", [pyarrow.binary(), pyarrow.large_binary(), pyarrow.binary(len(PICTURE))])
@pytest.mark.parametrize("label", [pyarrow.uint8(), pyarrow.int16(), pyarrow.int64(), pyarrow.uint64()])
def test_every_type_of_bytes_and_integers_is_read(kind, label, confined):
    assert confined(shard(pyarrow.array(BOTH, kind), pyarrow.array([0, 1], label))) == ""


def test_a_dictionary_of_images_is_read(confined):
    assert confined(shard(pyarrow.array(BOTH).dictionary_encode(), [0, 0])) == ""


def test_a_large_row_group_is_read_in_bounded_memory(tmp_path_factory):
    """300 MB in one row group, of which a few rows are in memory at a time."""
    small = saved(picture(), "PNG")
    rows = [small + number.to_bytes(4, "little") + bytes(10**6) for number in range(300)]  # bytes after a PNG's end
    with Confined("parquet", tmp_path_factory.mktemp("large")) as reader:
        reader.seconds, reader.megabytes = 60, 100
        data = shard(rows, [0] * len(rows), compression="none", use_dictionary=False, write_batch_size=1)
        del rows
        assert reader(data) == ""


def test_a_wrong_description_of_a_column_does_not_end_the_process(confined):
    """pyarrow ends the process where it is asked for it; a fuzz test had found this file."""
    assert "damaged" in confined(hostile_file("parquet", 8288))


def test_images_are_read_in_any_order(tmp_path):
    pictures = [saved(picture(size=(4 + n, 4)), "PNG") for n in range(6)]
    (tmp_path / "x.parquet").write_bytes(shard(pictures, list(range(6)), row_group_size=4))
    records = list(open_split(tmp_path / "x.parquet").records())
    for number in (3, 1, 5, 0, 4, 2, 2):
        assert records[number].read() == pictures[number]


def test_fewer_rows_than_claimed_are_one_line(tmp_path):
    """The description of one file at the end of another with fewer rows."""
    many = shard(BOTH * 2, [0, 1, 2, 3], use_dictionary=False, compression="none", store_schema=False)
    few = shard(BOTH, [0, 1], use_dictionary=False, compression="none", store_schema=False)
    footer = int.from_bytes(many[-8:-4], "little") + 8
    body = few[: -8 - int.from_bytes(few[-8:-4], "little")]
    (tmp_path / "x.parquet").write_bytes(body.ljust(len(many) - footer, b"\0") + many[-footer:])
    with pytest.raises(ArtuneError, match="damaged parquet"):
        list(load_images(open_split(tmp_path / "x.parquet"), lambda image: image))


def test_a_shard_without_images_or_with_a_column_twice_is_not_called_damaged(tmp_path):
    (tmp_path / "x.parquet").write_bytes(shard(pyarrow.array([None, None], pyarrow.binary())))
    with pytest.raises(ArtuneError, match=r"x\.parquet: row 0 of row group 0 has no image; embed") as caught:
        [record.read() for record in open_split(tmp_path / "x.parquet").records()]
    assert "damaged" not in str(caught.value)
    columns = [pyarrow.array([b"x"]), pyarrow.array([0]), pyarrow.array([0])]
    table = pyarrow.Table.from_arrays(columns, names=["image", "label", "label"])
    (tmp_path / "y.parquet").write_bytes(write_parquet(table))
    with pytest.raises(ArtuneError, match=r"y\.parquet: has more than one column label; keep one"):
        open_split(tmp_path / "y.parquet")
