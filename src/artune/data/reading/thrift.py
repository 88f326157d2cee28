"""Reads structs in Thrift's compact protocol, of which the headers in a parquet file consist."""

from collections.abc import Mapping
from typing import Any

TRUE, FALSE, BYTE, INT_16, INT_32, INT_64, DOUBLE, BINARY, LIST, STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 9, 12  # types
BITS = {INT_16: 16, INT_32: 32, INT_64: 64}
DEEPEST = 16  # structs and lists in one another; a parquet file has six

Struct = dict[tuple[int, int], Any]


class Thrift:
    """Reads structs until it has met ``most`` values, in all of them together: that bounds its time and memory.

    Parquet has no sets and maps, and a struct has no field twice; such ones are refused, because readers differ in what
    they make of them. So are numbers with more bits than their type.

    Args:
        most: number of values, at most.
        lists: the types that the elements of a list may have, by the depth of its struct and its number in the struct;
            Thrift's C++ code reads the type that it expects, whatever the list claims.
    """

    def __init__(self, most: int, lists: Mapping[tuple[int, int], tuple[int, ...]]) -> None:
        self.left, self.lists = most, lists

    def struct(self, data: bytes, at: int, depth: int = 0) -> tuple[Struct, int]:
        """The fields of the struct that begins at byte ``at``, by their number and type, and the place after it.

        Raises:
            IndexError: the struct does not end in ``data``.
            ValueError: it is damaged, or has more values than are read.
        """
        fields: Struct = {}
        number = 0
        while head := data[at]:
            kind, at = head & 15, at + 1
            if head >> 4:
                number += head >> 4
            else:
                number, at = _whole(data, at, 16)
            if (number, kind) in fields:
                raise ValueError(f"a header has field {number} twice")
            if kind == LIST and (element := data[at] & 15) not in self.lists.get((depth, number), (element,)):
                raise ValueError(f"a header has a list of values of type {element}")
            if kind in (TRUE, FALSE):
                fields[number, kind] = kind == TRUE
            else:
                fields[number, kind], at = self._value(data, at, kind, depth + 1)
        return fields, at + 1

    def _value(self, data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
        self.left -= 1
        if self.left < 0 or depth > DEEPEST:
            raise ValueError("its headers have too many values")
        if kind in BITS:
            return _whole(data, at, BITS[kind])
        if kind == STRUCT:
            return self.struct(data, at, depth)
        if kind == BINARY:
            length, at = _unsigned(data, at)
            return data[at : at + length], _inside(data, at + length)
        if kind in (BYTE, TRUE, FALSE):  # the last two in lists
            return data[at], at + 1
        if kind == DOUBLE:
            return data[at : at + 8], _inside(data, at + 8)
        if kind != LIST:
            raise ValueError(f"a header has a value of type {kind}")
        count, kind = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _unsigned(data, at)
        found = []
        for _ in range(count):
            value, at = self._value(data, at, kind, depth + 1)
            found.append(value)
        return found, at


def _inside(data: bytes, at: int) -> int:
    """The place ``at`` if no more than all of ``data`` is before it."""
    if at > len(data):
        raise IndexError("the data end before")
    return at


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while (byte := data[at]) > 127:
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if shift > 63:
            raise ValueError("a header has a number of more than 64 bits")
    return value | byte << shift, at + 1


def _whole(data: bytes, at: int, bits: int) -> tuple[int, int]:
    value, at = _unsigned(data, at)
    if value >> bits:
        raise ValueError(f"a header has a number of more than {bits} bits")
    return (value >> 1) ^ -(value & 1), at
