"""Builds images, tars and parquet shards with altered headers, sizes and types."""

import functools
import io
import random
import struct
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet
from PIL import Image

HUGE = [0, 1, 2, 255, 5700, 8000, 65_500, 2**15, 2**16 - 1, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1]


def picture(mode="RGB", size=(24, 16)):
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    image = Image.fromarray(noise, "RGBA")
    if mode == "I;16":
        return Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    return image.convert(mode)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def images():
    """Valid images of all kinds, and files of other formats."""
    small, rgb, more = picture(size=(3, 2)), picture(), [picture("L").convert("RGB"), picture("RGBA").convert("RGB")]
    return [
        saved(rgb, "JPEG"), saved(rgb, "JPEG", progressive=True), saved(picture("CMYK"), "JPEG"), saved(small, "JPEG"),
        saved(picture("L"), "JPEG"), saved(rgb, "JPEG", progressive=True, subsampling=0, restart_marker_blocks=1),
        saved(rgb, "PNG"), saved(picture("I;16"), "PNG"), saved(picture("P"), "PNG", transparency=0), saved(picture("LA"), "PNG"),
        saved(picture("RGBA"), "PNG"), saved(picture("1"), "PNG"), saved(rgb, "PNG", save_all=True, append_images=more),
        saved(rgb, "WEBP"), saved(picture("RGBA"), "WEBP", lossless=True), saved(rgb, "WEBP", save_all=True, append_images=more),
        saved(rgb, "GIF"), saved(rgb, "BMP"), saved(rgb, "TIFF"), saved(rgb, "EPS"), saved(rgb, "PPM"),
    ]  # fmt: skip


# -- PNG ------------------------------------------------------------------------------------------------------------


def chunk(kind, data, length=None):
    crc = zlib.crc32(kind + data) & 0xFFFFFFFF
    return struct.pack(">I", len(data) if length is None else length) + kind + data + struct.pack(">I", crc)


def png(width, height, depth=8, colour=2, rows=b"", interlace=0, before=b""):
    """A PNG whose header claims what it likes."""
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + pixels + chunk(b"IEND", b"")


def chunks_of(data):
    at, found = 8, []
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def altered_png(data, draw: random.Random):
    chunks = chunks_of(data)
    for _ in range(draw.randint(1, 3)):
        at, action = draw.randrange(len(chunks)), draw.randrange(6)
        kind, body = chunks[at]
        if action == 0:
            chunks.insert(draw.randrange(len(chunks) + 1), (kind, body))
        elif action == 1 and len(chunks) > 1:
            del chunks[at]
        elif action == 2:
            draw.shuffle(chunks)
        elif action == 3:
            bomb = draw.choice([b"zTXt", b"iCCP", b"iTXt", b"tEXt", b"IDAT", b"acTL", b"fcTL", b"fdAT", b"eXIf"])
            packed = zlib.compress(bytes(draw.choice([0, 10**5, 2 * 10**6])))
            chunks.insert(at, (bomb, draw.choice([b"a\0\0", b"a\0\1\0\0\0", b"", b"\0\0\0\1"]) + packed))
        elif len(body) >= 4:
            place = draw.randrange(len(body) - 3)
            value = struct.pack(">I", draw.choice(HUGE) & 0xFFFFFFFF)
            chunks[at] = kind, body[:place] + value + body[place + 4 :]
    odd = draw.choice([None, None, None, 2**31 - 1, 2**32 - 1, 0])
    return data[:8] + b"".join(chunk(k, b, odd if not n else None) for n, (k, b) in enumerate(chunks))


# -- JPEG -----------------------------------------------------------------------------------------------------------


def segments_of(data):
    """Head, and pairs of a marker and its body; the last one holds the rest of the file."""
    at, found = 2, []
    while data[at + 1] != 0xDA:
        length = struct.unpack(">H", data[at + 2 : at + 4])[0]
        found.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return found, data[at:]


def segment(marker, body):
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(width, height, progressive=False):
    """A JPEG of a few pixels that claims to be of another size."""
    segments, scans = segments_of(saved(picture(), "JPEG", progressive=progressive))
    segments = [
        (marker, body[:1] + struct.pack(">HH", height, width) + body[5:] if 0xC0 <= marker <= 0xC2 else body)
        for marker, body in segments
    ]
    return b"\xff\xd8" + b"".join(segment(*part) for part in segments) + scans


def altered_jpeg(data, draw: random.Random):
    segments, rest = segments_of(data)
    for _ in range(draw.randint(1, 3)):
        at, action = draw.randrange(len(segments)), draw.randrange(5)
        marker, body = segments[at]
        if action == 0:
            segments.insert(draw.randrange(len(segments) + 1), (marker, body))
        elif action == 1 and len(segments) > 1:
            del segments[at]
        elif action == 2:
            segments[at] = (
                draw.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xDB, 0xDD, 0xE1, 0xE2, 0xEE, 0xFE, 0xDC, 0xC9]),
                body,
            )
        elif action == 3 and len(body) > 5:
            place = 1 if 0xC0 <= marker <= 0xC2 else draw.randrange(len(body) - 4)
            sizes = struct.pack(">HH", draw.choice(HUGE) & 0xFFFF, draw.choice(HUGE) & 0xFFFF)
            segments[at] = marker, body[:place] + sizes + body[place + 4 :]
        else:
            rest = rest * draw.choice([2, 50]) if len(rest) < 10_000 else rest
    filler = b"\xff" * draw.choice([0, 0, 0, 1, 10**5])
    return b"\xff\xd8" + filler + b"".join(segment(*part) for part in segments) + rest


# -- WebP -----------------------------------------------------------------------------------------------------------


def altered_webp(data, draw: random.Random):
    at, found = 12, []
    while at + 8 <= len(data):
        kind, length = struct.unpack("<4sI", data[at : at + 8])
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    for _ in range(draw.randint(1, 3)):
        place, action = draw.randrange(len(found)), draw.randrange(4)
        kind, body = found[place]
        if action == 0:
            found.insert(draw.randrange(len(found) + 1), (kind, body))
        elif action == 1:
            found.insert(
                0,
                (
                    b"VP8X",
                    bytes([draw.randrange(64), 0, 0, 0]) + draw.choice([b"\xff" * 6, b"\xff\x3f\0" * 2, b"\0" * 6]),
                ),
            )
        elif action == 2:
            found[place] = draw.choice([b"VP8 ", b"VP8L", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XXXX"]), body
        elif len(body) > 4:
            spot = draw.randrange(len(body) - 3)
            value = struct.pack("<I", draw.choice(HUGE) & 0xFFFFFFFF)
            found[place] = kind, body[:spot] + value + body[spot + 4 :]
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(b)) + b + bytes(len(b) % 2) for k, b in found)
    return b"RIFF" + struct.pack("<I", draw.choice([len(body), len(body), 2**32 - 2])) + body


def altered_image(data, draw: random.Random):
    kinds = {b"\x89P": altered_png, b"\xff\xd8": altered_jpeg, b"RI": altered_webp}
    return kinds.get(data[:2], lambda data, _: data)(data, draw)


# -- tar ------------------------------------------------------------------------------------------------------------


def number(value, width):
    """A tar's number: octal, or base 256 for large and negative ones."""
    if 0 <= value < 8 ** (width - 1):
        return b"%0*o\0" % (width - 1, value)
    return (value + (256**width if value < 0 else 128 * 256 ** (width - 1))).to_bytes(width, "big")


def entry(name, data=b"", kind=b"0", size=None, link=b"", checksum=None, magic=b"ustar\x0000", body=True):
    """A member of a tar, with any header."""
    head = (
        name[:100].ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number(len(data) if size is None else size, 12)
    )
    head += b"00000000000\0" + b" " * 8 + kind + link[:100].ljust(100, b"\0") + magic.ljust(8, b"\0")
    head = bytearray(head.ljust(512, b"\0"))
    head[148:156] = b"%06o\0 " % (sum(head) if checksum is None else checksum)
    return bytes(head) + (data + bytes(-len(data) % 512) if body else b"")


def pax(records, kind=b"x", size=None):
    lines = b""
    for key, value in records:
        line = b" " + key + b"=" + value + b"\n"
        length = len(line) + len(str(len(line) + 2))
        lines += str(length).encode() + line
    return entry(b"PaxHeader", lines, kind, size)


END = bytes(1024)


SYNSETS = (b"n01440764", b"n01443537")  # of ImageNet; other names would be refused before any image is read


def random_tar(draw: random.Random, pictures, depth=0):
    parts, calm = [], draw.random() < 0.4
    for at in range(draw.randint(1, 4)):
        data = draw.choice(pictures) if draw.random() < 0.8 else draw.randbytes(draw.randrange(700))
        synset, other = SYNSETS[at % 2], SYNSETS[1]
        name = draw.choice([b"%s/%d.png" % (synset, at), b"%s_%d.JPEG" % (synset, at), b"/etc/x.png",
                            other + b"/x.png", SYNSETS[0] + b"/y.webp", b"../x.png", other + b"/" + b"a" * 80 + b".png",
                            b"n\xff\n1/b.png", b"n1/README", *([] if calm else [b"", b"n2.tar"])])  # fmt: skip
        odd = draw.random() if not calm or (at == 1 and draw.random() < 0.5) else 0.7
        if odd < 0.2:
            size = draw.choice([*HUGE, -1, -512, -(2**62), -(2**70), 2**70, 10**12])
            parts.append(draw.choice([pax([(b"size", str(size).encode())]), entry(name, data, size=size)]))
        elif odd < 0.35:
            kind = draw.choice(
                [b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S", b"L", b"K", b"x", b"g", b"X", b"D", b"V", b"\0"]
            )
            parts.append(entry(name, data, kind, link=b"/etc/passwd", size=draw.choice([None, None, *HUGE, -512])))
        elif odd < 0.5:
            key = draw.choice([b"path", b"size", b"GNU.sparse.major", b"GNU.sparse.map", b"GNU.sparse.size", b"hdrcharset",
                               b"GNU.sparse.numblocks", b"GNU.sparse.realsize", b"mtime", b"linkpath"])  # fmt: skip
            value = draw.choice(
                [b"1", b"0", b"1,2,3", b"BINARY", b"9" * 5000, b"-5", b"x" * 40_000, b"1" * 20_000, b"n0/a.png"]
            )
            more = [(b"GNU.sparse.minor", b"0")] if draw.random() < 0.5 else []
            parts.append(pax([(key, value), *more], draw.choice([b"x", b"g", b"X"]), draw.choice([None, None, *HUGE])))
        elif odd < 0.6:
            length, times = draw.choice([(10, 1), (10, 2000), (600, 1), (600, 40), (40_000, 1), (40_000, 5)])
            parts.append(entry(b"././@LongLink", b"y" * length, b"L") * times)
        if odd > 0.9 and not depth:
            inner = random_tar(draw, pictures, 1)
            parts.append(entry(SYNSETS[at % 2] + b".tar", inner, size=draw.choice([None, None, 2**40, 2**62, 512])))
        else:
            parts.append(entry(name, data, checksum=0 if odd > 0.87 else None))
    whole = b"".join(parts) + (END if calm else draw.choice([END, END, b"", b"\0" * 512, b"x" * 300]))
    return whole[: draw.randrange(len(whole) + 1)] if not calm and draw.random() < 0.2 else whole


# -- parquet --------------------------------------------------------------------------------------------------------


def write_parquet(table, **options):
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer, **options)
    return buffer.getvalue()


def random_table(draw: random.Random, pictures):
    count = draw.randrange(6)
    data = [draw.choice([*pictures, b"", b"x" * 100]) for _ in range(count)]
    if draw.random() < 0.1:
        data = [bytes(draw.choice([10**6, 4 * 10**6]))] * count
    columns = [
        lambda: pyarrow.array(data, pyarrow.binary()),
        lambda: pyarrow.array(data, pyarrow.large_binary()),
        lambda: pyarrow.array([{"bytes": d, "path": "x"} for d in data], pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})),
        lambda: pyarrow.array([{"bytes": None, "path": "x"} for _ in data], pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})),
        lambda: pyarrow.array([{"path": "x"} for _ in data], pyarrow.struct({"path": pyarrow.string()})),
        lambda: pyarrow.array([{"bytes": 3} for _ in data], pyarrow.struct({"bytes": pyarrow.int32()})),
        lambda: pyarrow.array([None for _ in data], pyarrow.binary()),
        lambda: pyarrow.array([None for _ in data], pyarrow.struct({"bytes": pyarrow.binary()})),
        lambda: pyarrow.array(data, pyarrow.binary()).dictionary_encode(),
        lambda: pyarrow.array(["text"] * count),
        lambda: pyarrow.array(list(range(count)), pyarrow.int64()),
        lambda: pyarrow.array([[d] for d in data], pyarrow.list_(pyarrow.binary())),
        lambda: pyarrow.array([{"bytes": {"bytes": d}} for d in data], pyarrow.struct({"bytes": pyarrow.struct({"bytes": pyarrow.binary()})})),
    ]  # fmt: skip
    numbers = list(range(count))
    labels = [
        lambda: pyarrow.array(numbers, pyarrow.int64()),
        lambda: pyarrow.array([0] * count, pyarrow.uint8()),
        lambda: pyarrow.array([-1] * count, pyarrow.int32()),
        lambda: pyarrow.array([None] * count, pyarrow.int64()),
        lambda: pyarrow.array([2**62] * count, pyarrow.int64()),
        lambda: pyarrow.array(["n01440764"] * count),
        lambda: pyarrow.array([float(n) for n in numbers]),
        lambda: pyarrow.array([[n] for n in numbers], pyarrow.list_(pyarrow.int64())),
        lambda: pyarrow.array(numbers, pyarrow.int64()).dictionary_encode(),
        lambda: pyarrow.array([True] * count, pyarrow.bool_()),
        lambda: pyarrow.nulls(count),
    ]
    usual = draw.random() < 0.6  # most files are read to their end
    image = (columns[draw.randrange(3)] if usual else draw.choice(columns))()
    label = (labels[0] if usual else draw.choice(labels))()
    names = (
        ["image", "label"]
        if usual
        else draw.choice([["image", "label"], ["image", "image"], ["label", "x"], ["image", "labels"]])
    )
    return pyarrow.Table.from_arrays([image, label], names=names)


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value % 128 | 128])
        value //= 128
    return out + bytes([value])


def random_parquet(draw: random.Random, pictures):
    options = {
        "compression": draw.choice(["NONE", "SNAPPY", "GZIP", "ZSTD", "BROTLI", "LZ4"]),
        "use_dictionary": draw.random() < 0.5,
        "row_group_size": draw.choice([1, 2, 100]),
        "data_page_version": draw.choice(["1.0", "2.0"]),
        "store_schema": draw.random() < 0.7,
        "write_page_checksum": draw.random() < 0.2,
    }
    data = write_parquet(random_table(draw, pictures), **options)
    action, length = draw.randrange(5), int.from_bytes(data[-8:-4], "little")
    body, footer = data[: -8 - length], data[-8 - length : -8]
    for _ in range(draw.randint(1, 4) if action > 1 else 0):
        if action == 2 or len(body) < 40:  # a number in the description of the file
            at = draw.randrange(len(footer))
            footer = footer[:at] + varint(draw.choice(HUGE)) + footer[at + draw.randint(1, 3) :]
        elif action == 3:  # a number in a page's header
            at = draw.randrange(4, min(len(body), 60))
            body = body[:at] + varint(draw.choice(HUGE)) + body[at + draw.randint(1, 3) :]
        else:
            at = draw.randrange(len(footer))
            footer = footer[:at] + bytes([footer[at] ^ draw.randint(1, 255)]) + footer[at + 1 :]
    size = len(footer) if action != 4 or draw.random() < 0.5 else draw.choice(HUGE) & 0xFFFFFFFF
    return body + footer + size.to_bytes(4, "little") + b"PAR1"


# -- one file of a kind -----------------------------------------------------------------------------------------------


def damaged(data, draw: random.Random):
    """The bytes cut, or with a few of them changed."""
    if draw.random() < 0.3:
        return data[: draw.randrange(len(data) + 1)]
    data = bytearray(data)
    for _ in range(draw.randint(1, 8) if data else 0):
        data[draw.randrange(len(data))] ^= draw.randint(1, 255)
    return bytes(data)


def hostile_file(kind, number):
    """File ``number`` of a kind, always the same: valid, altered in its structure, damaged, or all of it."""
    draw, pictures = random.Random(f"{kind} {number}"), images()
    if kind == "image":
        data = draw.choice(pictures)
        data = altered_image(data, draw) if draw.random() < 0.8 else data
    else:
        data = {"tar": random_tar, "parquet": random_parquet}[kind](draw, pictures[:16])
    return damaged(data, draw) if draw.random() < 0.3 else data
