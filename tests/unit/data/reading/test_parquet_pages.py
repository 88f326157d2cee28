"""Parquet pages whose headers lie, and pages that unpack to more than they say: one line each, in bounds."""

import copy
import io
import itertools

import pandas
import parquet_pages as parts
import pyarrow
import pyarrow.parquet
import pyarrow.parquet.encryption
import pytest
from confined import Confined
from hostile import picture, saved, write_parquet
from parquet_pages import altered, put, varint, written

from artune.data.imagenet import open_split
from artune.errors import ArtuneError

PICTURE = saved(picture(), "JPEG")
GIGABYTE = 10**9
CODECS = {"SNAPPY": "snappy", "GZIP": "gzip", "ZSTD": "zstd", "BROTLI": "brotli", "LZ4": "lz4_raw"}


@pytest.fixture(scope="module")
def confined(tmp_path_factory):
    """Reads a shard and its images in a child process, within two seconds and a gigabyte; returns the error's line."""
    with Confined("parquet", tmp_path_factory.mktemp("pages")) as reader:
        yield reader


def shard(image=(PICTURE, PICTURE), label=(0, 1), **options):
    image, label = (array if isinstance(array, pyarrow.Array) else pyarrow.array(array) for array in (image, label))
    return write_parquet(pyarrow.Table.from_arrays([image, label], names=["image", "label"]), **options)


def plain(**options):
    return shard(use_dictionary=False, **options)


def claiming(data, change, column=0, about=lambda about: None):
    """The file with ``change`` made in each page header of a column."""

    def pages(found):
        for header, _ in found:
            change(header)
        return found

    return altered(data, pages, about, column)


def grown(data, codec, more, claims, dictionary=None, about=lambda about: None):
    """The first page unpacks to ``more`` further zero bytes, and its header claims them or not."""

    def pages(found):
        header, body = found[0]
        size = header[parts.UNPACKED][1]
        body = pyarrow.compress(pyarrow.decompress(body, size, codec).to_pybytes() + bytes(more), codec, asbytes=True)
        put(header, f2=size + more * claims, f3=len(body))
        if dictionary is not None:
            put(header[parts.DICTIONARY][1], f1=dictionary)
        return [(header, body), *found[1:]]

    return altered(data, pages, about)


def deltas(encoding, count):
    """A page of two values whose list of lengths, a single block without a bit per length, claims ``count`` of them."""

    def pages(found):
        ((header, body),) = found
        levels = body[: 4 + int.from_bytes(body[:4], "little")]
        body = levels + (varint(count) + varint(1) + varint(count) + bytes(3)) * 2
        put(header, f2=len(body), f3=len(body))
        put(header[parts.DATA][1], f2=encoding)
        return [(header, body)]

    return altered(plain(compression="none"), pages)


def empty_pages(count, codec="zstd"):
    """Pages without a value before the others."""

    def pages(found):
        header, body = copy.deepcopy(found[0][0]), pyarrow.compress(b"", codec, asbytes=True)
        header[parts.DATA][1].pop(5, None)
        put(header, f2=0, f3=len(body))
        put(header[parts.DATA][1], f1=0)
        return [((written(header) + body) * count, b""), *found]

    return altered(plain(compression=codec), pages)


def of_width(width):
    """Rows without an image, in a column of images of a fixed width."""
    image = pyarrow.nulls(2, pyarrow.binary(len(PICTURE)))
    data = shard(image, store_schema=False, write_statistics=False)
    begin = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer, _ = parts.parse(data, begin)
    put(footer[2][1][1][1], f2=width)
    end = written(footer)
    return data[:begin] + end + len(end).to_bytes(4, "little") + b"PAR1"


def two_in_one(found):
    """The header of the first page with its sizes twice; readers may take the first or the last."""
    header, body = found[0]
    return [(written(header)[:-1] + b"\x05\x02" + varint(2**31) + b"\0", body), *found[1:]]


def claims(**values):
    return lambda struct: put(struct, **values)


def in_data(**values):
    return lambda header: put(header[parts.DATA][1], **values) if parts.DATA in header else None


CASES = {
    "2 GB, of a page": (lambda: claiming(plain(), claims(f2=2**31 - 1)), "claims to be 2,147,483,647 bytes"),
    "2 GB, of a page and its column": (lambda: claiming(plain(), claims(f2=2**31 - 1), 0, claims(f6=2**31 - 1)), "would unpack to"),
    "2 GB, of a page of labels": (lambda: claiming(plain(), claims(f2=2**31 - 1), 1), "column label of row group 0 claims"),
    "240 MB, of a page and its column": (lambda: claiming(plain(), claims(f2=240 * 10**6), 0, claims(f6=250 * 10**6)), "write_batch_size"),
    "a size below 0": (lambda: claiming(plain(), claims(f2=-1)), "claims to be -1 bytes"),
    "bytes in the file below 0": (lambda: claiming(plain(), claims(f3=-1)), "-1 of them in the file"),
    "more bytes in the file than the column": (lambda: claiming(plain(), claims(f3=2**31 - 1)), "2,147,483,647 of them"),
    "a size of more than 32 bits": (lambda: claiming(plain(), claims(f2=2**40)), "more than 32 bits"),
    "a size twice": (lambda: altered(plain(), two_in_one), "twice"),
    "a column with too many bytes": (lambda: altered(plain(), about=claims(f7=10**6)), "lies outside"),
    "a column with bytes below 0": (lambda: altered(plain(), about=claims(f7=-1)), "damaged"),
    "a column that ends inside of a page": (lambda: altered(plain(), about=claims(f7=1000)), "damaged"),
    "a column before the file": (lambda: altered(plain(), about=claims(f9=-5)), "damaged"),
    "2^31 values of a page": (lambda: claiming(plain(), in_data(f1=2**31 - 1)), "pages have more"),
    "2^31 values of a page and its column": (lambda: claiming(plain(), in_data(f1=2**31 - 1), 0, claims(f5=2**31 - 1)), "for 2 rows"),
    "2^31 labels of a page and its column": (lambda: claiming(shard(), in_data(f1=2**31 - 1), 1, claims(f5=2**31 - 1)), "for 2 rows"),
    "a value below 0": (lambda: claiming(plain(), in_data(f1=-1)), "damaged"),
    "fewer values": (lambda: claiming(plain(), in_data(f1=1)), "its pages have 1"),
    "2^31 values of a dictionary": (lambda: grown(shard(compression="zstd"), "zstd", 0, 0, 2**31 - 1), "2,147,483,647 values"),
    "60 million values of a dictionary": (
        lambda: grown(shard(compression="zstd"), "zstd", 240 * 10**6, 1, 60 * 10**6, claims(f6=250 * 10**6)), "60,000,000 values"),
    "a billion lengths": (lambda: deltas(6, 2**30), "encoded as DELTA_LENGTH_BYTE_ARRAY; write the file again"),
    "a billion prefixes": (lambda: deltas(7, 2**29), "encoded as DELTA_BYTE_ARRAY; write the file again"),
    "a gigabyte in each row": (lambda: of_width(GIGABYTE), "1,000,000,000 bytes in each row; store them as binary"),
    "256 KiB in each row": (lambda: of_width(2**18), "has no image"),
    "a million empty pages": (lambda: empty_pages(10**6), "too many values"),
    "30,000 empty pages": (lambda: empty_pages(30_000), "damaged"),
    "a header without an end": (lambda: altered(plain(), lambda found: [(b"\x18" + varint(10**6), bytes(100))]), "no end"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_claims_of_pages_are_checked(case, confined):
    make, message = CASES[case]
    with pytest.raises(ArtuneError, match=message) as caught:
        raise ArtuneError(confined(make()))
    assert str(caught.value).startswith("x.parquet: ")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("claimed", [True, False])
def test_a_page_that_unpacks_to_a_gigabyte_is_refused(codec, claimed, confined):
    """By its claim, or, if it claims less, by the fixed size of the memory that it is unpacked to."""
    more = GIGABYTE if codec != "BROTLI" else GIGABYTE // 5  # whose compression is slow
    assert "x.parquet: damaged parquet (" in confined(grown(plain(compression=codec), CODECS[codec], more, claimed))


def test_many_pages_of_a_column_that_claims_little_are_refused(confined):
    """A hundred pages of 20 MB each, in a column that claims to be small and to have that many values."""
    image, options = pyarrow.array([PICTURE] * 100), {"use_dictionary": False, "compression": "zstd"}
    data = shard(image, [0] * 100, data_page_size=1, write_batch_size=1, **options)
    assert "claims to be" in confined(claiming(data, lambda header: put(header, f2=2 * 10**7)))


def test_an_image_of_the_largest_page_is_refused_in_bounds(confined):
    said = confined(shard([bytes(range(250)) * 716_000], [0], compression="none", use_dictionary=False))
    assert said == "x.parquet: row 0 of row group 0 has 179,000,000 bytes; at most 67,108,864 are read; save it smaller"


STRUCTS = pyarrow.array([{"bytes": PICTURE, "path": "a"}] * 2)
OPTIONS = [
    *({"compression": codec, "use_dictionary": distinct, "data_page_version": version}
      for codec, distinct, version in itertools.product(["none", *CODECS], [True, False], ["1.0", "2.0"])),
    {"write_page_index": True}, {"write_page_checksum": True}, {"write_statistics": False}, {"store_schema": False},
    {"use_content_defined_chunking": True}, {"row_group_size": 1}, {"data_page_size": 1, "write_batch_size": 1},
    {"use_byte_stream_split": ["label"], "use_dictionary": False}, {"column_encoding": {"label": "DELTA_BINARY_PACKED"}, "use_dictionary": False},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("image", [pyarrow.array([PICTURE, PICTURE]), STRUCTS], ids=["bytes", "structs"])
def test_files_as_writers_write_them_are_read(image, options, tmp_path):
    (tmp_path / "x.parquet").write_bytes(shard(image, **options))
    assert [record.read() for record in open_split(tmp_path / "x.parquet").records()] == [PICTURE, PICTURE]


def test_files_put_together_again_are_read(confined):
    """What the other tests alter is intact without their changes."""
    assert confined(altered(shard())) == confined(altered(plain(compression="zstd"))) == ""


@pytest.mark.parametrize("compression", ["snappy", "gzip", "zstd", None])
def test_a_file_of_pandas_is_read(compression, tmp_path):
    table = pandas.DataFrame({"image": [PICTURE, PICTURE], "label": [0, 1]}, index=["a", "b"])
    table.to_parquet(tmp_path / "x.parquet", compression=compression)
    assert len([record.read() for record in open_split(tmp_path / "x.parquet").records()]) == 2


def test_large_statistics_in_the_headers_are_read(tmp_path):
    """A header longer than the bytes that are read of it at first."""
    image = pyarrow.array([PICTURE + bytes([n]) * 3000 for n in range(20)])
    data = shard(image, [0] * 20, use_dictionary=False, data_page_size=1, write_batch_size=1)
    (tmp_path / "x.parquet").write_bytes(data)
    assert data.count(PICTURE) > 40
    assert [record.read() for record in open_split(tmp_path / "x.parquet").records()] == image.to_pylist()


def test_a_file_of_many_small_pages_is_read(confined):
    pictures = pyarrow.array([PICTURE] * 300)
    assert confined(shard(pictures, [0] * 300, use_dictionary=False, data_page_size=1, write_batch_size=1)) == ""


class Keys(pyarrow.parquet.encryption.KmsClient):
    def wrap_key(self, key_bytes, master_key_identifier):
        return key_bytes.hex()

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return bytes.fromhex(wrapped_key)


@pytest.mark.parametrize("plaintext_footer", [True, False])
def test_an_encrypted_file_is_refused(plaintext_footer, tmp_path):
    encryption = pyarrow.parquet.encryption
    settings = encryption.EncryptionConfiguration(
        footer_key="a", column_keys={"b": ["image"]}, plaintext_footer=plaintext_footer
    )
    factory = encryption.CryptoFactory(lambda _: Keys())
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    buffer, table = io.BytesIO(), pyarrow.table({"image": [PICTURE] * 2, "label": [0, 1]})
    with pyarrow.parquet.ParquetWriter(buffer, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    (tmp_path / "x.parquet").write_bytes(buffer.getvalue())
    with pytest.raises(ArtuneError, match=r"x\.parquet: .*(encrypt|decrypt)"):
        [record.read() for record in open_split(tmp_path / "x.parquet").records()]
