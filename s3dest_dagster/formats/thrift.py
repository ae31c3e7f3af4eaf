"""Thrift's compact protocol, in which Parquet writes page headers and the footer.

Structs are read and written without loss: unknown fields pass through. Must not know: Parquet.

The protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Struct = list[list[Any]]
"""Fields as [field id, type, value]. Unknown ones pass through unchanged."""

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
STOP = b"\0"
"""The end of a struct."""
_LONG_LIST = 15


class ThriftReader:
    """Reads values from `data` at `position`. Raises IndexError if the data ends too early."""

    def __init__(self, data: bytes | bytearray | memoryview, position: int = 0) -> None:
        self._data = data
        self.position = position

    def struct(self) -> Struct:
        fields: Struct = []
        number = 0
        while header := self._byte():
            delta, kind = header >> 4, header & 0x0F
            number = number + delta if delta else self._zigzag()
            fields.append([number, kind, None if kind in (TRUE, FALSE) else self._value(kind)])
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (TRUE, FALSE, I8):  # only in lists does a boolean have its own byte
            return self._byte()
        if kind in (I16, I32, I64):
            return self._zigzag()
        if kind == DOUBLE:
            return self._bytes(8)
        if kind == BINARY:
            return self._bytes(self._varint())
        if kind in (LIST, SET):
            return self._list()
        if kind == STRUCT:
            return self.struct()
        raise ValueError(f"Thrift type {kind} has no place in Parquet's metadata; the file is damaged.")

    def _list(self) -> tuple[int, list[Any]]:
        header = self._byte()
        size, kind = header >> 4, header & 0x0F
        if size == _LONG_LIST:
            size = self._varint()
        return kind, [self._value(kind) for _ in range(size)]

    def _byte(self) -> int:
        value = self._data[self.position]
        self.position += 1
        return value

    def _bytes(self, size: int) -> bytes:
        end = self.position + size
        if end > len(self._data):
            raise IndexError(f"thrift value ends at {end}, behind the data")
        value = bytes(self._data[self.position : end])
        self.position = end
        return value

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)


def thrift_bytes(fields: Struct) -> bytes:
    """A struct as bytes."""
    return thrift_fields(fields) + STOP


def thrift_fields(fields: Struct, after: int = 0) -> bytes:
    """Fields of a struct as bytes, without its end. `after` is the id of the field before them."""
    out = bytearray()
    _append_fields(out, fields, after)
    return bytes(out)


def thrift_list(kind: int, size: int) -> bytes:
    """What precedes the values of a list."""
    out = bytearray()
    _append_list_head(out, kind, size)
    return bytes(out)


def thrift_list_field(number: int, kind: int, values: Sequence[bytes], after: int) -> bytes:
    """A field that is a list of values, which are bytes already. `after` is the id of the field before it."""
    return bytes([number - after << 4 | LIST]) + thrift_list(kind, len(values)) + b"".join(values)


def get(fields: Struct, number: int) -> Any:
    """The value of a field; None if the struct lacks it."""
    return next((value for own, _, value in fields if own == number), None)


def put(fields: Struct, number: int, value: Any) -> None:
    """Replaces the value of a field, which the struct must have."""
    next(field for field in fields if field[0] == number)[2] = value


def _append_fields(out: bytearray, fields: Struct, last: int) -> None:
    for number, kind, value in fields:
        delta = number - last
        if 0 < delta < 16:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _append_varint(out, number << 1)
        if kind not in (TRUE, FALSE):
            _append_value(out, kind, value)
        last = number


def _append_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (TRUE, FALSE, I8):
        out.append(value)
    elif kind in (I16, I32, I64):
        _append_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)
    elif kind == DOUBLE:
        out += value
    elif kind == BINARY:
        _append_varint(out, len(value))
        out += value
    elif kind in (LIST, SET):
        _append_list(out, *value)
    else:
        _append_fields(out, value, 0)
        out.append(0)


def _append_list(out: bytearray, kind: int, values: list[Any]) -> None:
    _append_list_head(out, kind, len(values))
    for value in values:
        _append_value(out, kind, value)


def _append_list_head(out: bytearray, kind: int, size: int) -> None:
    if size < _LONG_LIST:
        out.append(size << 4 | kind)
    else:
        out.append(_LONG_LIST << 4 | kind)
        _append_varint(out, size)


def _append_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def varint(value: int) -> bytes:
    """A number that is not negative, in as few bytes of seven bits as it needs, the lowest first."""
    out = bytearray()
    _append_varint(out, value)
    return bytes(out)
