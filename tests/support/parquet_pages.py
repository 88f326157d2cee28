"""Takes small parquet files to pieces and puts them together with other page headers, pages and claims."""

STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, STRUCT = 0, 1, 2, 3, 7, 8, 9, 12  # types of Thrift's compact protocol
TYPE, UNPACKED, PACKED, DATA, DICTIONARY, DATA_2 = 1, 2, 3, 5, 7, 8  # fields of a page's header
VALUES, TOTAL_UNPACKED, TOTAL_PACKED, FIRST, FIRST_DICTIONARY = 5, 6, 7, 9, 11  # fields of the description of a column


def unsigned(data, at):
    value = shift = 0
    while data[at] > 127:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
    return value | data[at] << shift, at + 1


def varint(value):
    parts = bytearray()
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def parse(data, at, kind=STRUCT):
    """A value as Python's: a struct as {field: (type, value)}, a list as (type, values); and the place after it."""
    if kind == STRUCT:
        fields, number = {}, 0
        while head := data[at]:
            number, at = number + (head >> 4), at + 1
            assert head >> 4, "pyarrow numbers by steps"
            if head & 15 in (TRUE, FALSE):
                fields[number] = head & 15, None
            else:
                value, at = parse(data, at, head & 15)
                fields[number] = head & 15, value
        return fields, at + 1
    if kind == LIST:
        count, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if count == 15:
            count, at = unsigned(data, at)
        values = []
        for _ in range(count):
            value, at = parse(data, at, kind)
            values.append(value)
        return (kind, values), at
    if kind in (BYTE, TRUE, FALSE):
        return data[at], at + 1
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    value, at = unsigned(data, at)
    if kind == BINARY:
        return data[at : at + value], at + value
    return (value >> 1) ^ -(value & 1), at


def written(value, kind=STRUCT):
    if kind == STRUCT:
        parts, last = [], 0
        for number, (kind, field) in sorted(value.items()):
            parts += [bytes([number - last << 4 | kind]), b"" if kind in (TRUE, FALSE) else written(field, kind)]
            last = number
        return b"".join(parts) + bytes([STOP])
    if kind == LIST:
        return bytes([0xF0 | value[0]]) + varint(len(value[1])) + b"".join(written(v, value[0]) for v in value[1])
    if kind in (BYTE, TRUE, FALSE):
        return bytes([value])
    if kind == DOUBLE:
        return value
    if kind == BINARY:
        return varint(len(value)) + value
    return varint(value << 1 if value >= 0 else -value * 2 - 1)


def put(struct, **values):
    """Set integers in a parsed struct whose fields are there: ``put(header, f2=100)``."""
    for name, value in values.items():
        struct[int(name[1:])] = struct[int(name[1:])][0], value


def pages_of(data, about):
    """Pairs of a header and the bytes after it, of a column."""
    at = min(about[n][1] for n in (FIRST, FIRST_DICTIONARY) if n in about)
    end, found = at + about[TOTAL_PACKED][1], []
    while at < end:
        header, begin = parse(data, at)
        at = begin + header[PACKED][1]
        found.append((header, data[begin:at]))
    return found


def altered(data, pages=lambda pages: pages, about=lambda about: None, column=0):
    """The file with other pages of a column in each row group, and other claims about them.

    Args:
        data: the file, as pyarrow writes it.
        pages: takes the pages (:func:`pages_of`) and returns pages, or pairs of bytes.
        about: changes the parsed description of the column at the end, when all the others fit the new pages.
    """
    footer, _ = parse(data, len(data) - 8 - int.from_bytes(data[-8:-4], "little"))
    out = bytearray(b"PAR1")
    for group in footer[4][1][1]:
        for number, chunk in enumerate(group[1][1][1]):
            own = chunk[3][1]
            found = pages_of(data, own)
            found = pages(found) if number == column else found
            begin, first = len(out), None
            for header, body in found:
                if first is None and not (isinstance(header, dict) and header[TYPE][1] == 2):
                    first = len(out)
                out += (header if isinstance(header, bytes) else written(header)) + body
            put(own, **{f"f{FIRST}": begin if first is None else first, f"f{TOTAL_PACKED}": len(out) - begin})
            if FIRST_DICTIONARY in own:
                put(own, **{f"f{FIRST_DICTIONARY}": begin})
            for name in (4, 5, 6, 7):  # the places of indices, which are left out
                chunk.pop(name, None)
            if number == column:
                about(own)
    end = written(footer)
    return bytes(out) + end + len(end).to_bytes(4, "little") + b"PAR1"
