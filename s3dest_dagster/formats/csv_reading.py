"""CSV lines back to JSON records: quoted cells were texts or nested values, unquoted ones numbers and booleans.

It must not know Arrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from s3dest_dagster.columns.envelope import DATA
from s3dest_dagster.columns.json_texts import Member, object_of, pairs_of
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.errors import RecordError

_CELL = re.compile(rb'("(?:[^"]|"")*"|[^,\r\n"]*)(,|\r?\n|\Z)')


def csv_records(text: bytes, record: Record) -> Iterator[tuple[str, int, bytes]]:
    """Id, emission time and JSON text of each line behind the header, flattened or not."""
    lines = _lines(text)
    names = [_unquoted(cell).decode() for cell in next(lines, [])]
    nested = {field.source for field in record.fields if field.kind.has_structure}
    for line in lines:
        record_id, emitted_at, *cells = line
        yield _unquoted(record_id).decode(), int(emitted_at), _record(names[2:], cells, nested)


def _record(names: Sequence[str], cells: Sequence[bytes], nested: set[str]) -> bytes:
    if names == [DATA]:
        return _unquoted(cells[0])
    members: list[Member] = []
    for name, cell in zip(names, cells, strict=True):
        if cell and name == OVERFLOW and cell.startswith(b'"{'):
            # First, as a name that stands there and in a column is an earlier value of that column.
            members = pairs_of(_unquoted(cell)) + members
        elif cell:
            members.append((name, _json(cell, name in nested)))
    return object_of(members)


def _json(cell: bytes, may_nest: bool) -> bytes:
    """The JSON text of a cell that is not empty."""
    if not cell.startswith(b'"'):
        return cell
    text = _unquoted(cell)
    if may_nest and text[:1] in (b"{", b"[") and _is_json(text):
        return text
    return msgspec.json.encode(text.decode())


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _lines(text: bytes) -> Iterator[list[bytes]]:
    line: list[bytes] = []
    position = 0
    while position < len(text):
        match = _CELL.match(text, position)
        if match is None:
            raise RecordError(f"The CSV text is damaged at byte {position}: {text[position : position + 80]!r}.")
        line.append(match[1])
        if match[2] != b",":
            yield line
            line = []
        position = match.end()


def _unquoted(cell: bytes) -> bytes:
    return cell[1:-1].replace(b'""', b'"') if cell.startswith(b'"') else cell
