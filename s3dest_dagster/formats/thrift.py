"""Thrift's compact protocol, read and written without loss: what Parquet's page headers and footers are made of.

A struct is a list of [field id, type, value]; what is not understood goes through unchanged. It must not know Parquet.
Protocol: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from __future__ import annotations

from typing import Any

Struct = list[list[Any]]

TRUE, FALSE, I8, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_LONG_LIST = 15


class ThriftReader:
    """Reads values from `data` at `position`. Raises IndexError where the data ends too early."""

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
        if kind in (TRUE, FALSE, I8):  # booleans have a byte of their own within lists only
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
    out = bytearray()
    _write_struct(out, fields)
    return bytes(out)


def get(fields: Struct, number: int) -> Any:
    """The value of a field; None where the struct does not have it."""
    return next((value for found, _, value in fields if found == number), None)


def put(fields: Struct, number: int, value: Any) -> None:
    """Replaces the value of a field that the struct has."""
    next(field for field in fields if field[0] == number)[2] = value


def _write_struct(out: bytearray, fields: Struct) -> None:
    last = 0
    for number, kind, value in fields:
        delta = number - last
        if 0 < delta < 16:
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            _write_varint(out, number << 1)
        if kind not in (TRUE, FALSE):
            _write_value(out, kind, value)
        last = number
    out.append(0)


def _write_value(out: bytearray, kind: int, value: Any) -> None:
    if kind in (TRUE, FALSE, I8):
        out.append(value)
    elif kind in (I16, I32, I64):
        _write_varint(out, value << 1 if value >= 0 else (-value << 1) - 1)
    elif kind == DOUBLE:
        out += value
    elif kind == BINARY:
        _write_varint(out, len(value))
        out += value
    elif kind in (LIST, SET):
        _write_list(out, *value)
    else:
        _write_struct(out, value)


def _write_list(out: bytearray, kind: int, values: list[Any]) -> None:
    if len(values) < _LONG_LIST:
        out.append(len(values) << 4 | kind)
    else:
        out.append(_LONG_LIST << 4 | kind)
        _write_varint(out, len(values))
    for value in values:
        _write_value(out, kind, value)


def _write_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
