"""Reads CSV in any dialect that the library writes. Must not know: how cells are made.

A quoted cell was a text or a nested value; a cell without quotes was a number, a boolean, null or, with quoting
"minimal", a text. If the dialect quotes numbers or booleans, too, the field's kind says whether it was a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from s3dest_dagster.columns.binary_columns import Member, object_of, pairs_of
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats.csv_cells import Dialect

_SCALAR = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false")
"""The JSON text of a number or a boolean."""
ReadCell = Callable[[bytes], bytes]
"""The JSON text of a cell that is not null."""


def rows_of(text: bytes, dialect: Dialect, columns: Sequence[str] | None) -> tuple[list[str], Iterator[list[bytes]]]:
    """The names of the columns, and the cells of every row as they are written.

    Args:
        text: The content of an object.
        dialect: The dialect.
        columns: The names of the columns if the object does not begin with them.

    Raises:
        RecordError: While the rows are read: the text is damaged. The message has the position.
    """
    lines = _cells_of_lines(text, dialect)
    names = [unquoted(cell).decode() for cell in next(lines, [])] if columns is None else list(columns)
    return names, lines


def record_reader(names: Sequence[str], record: Record, dialect: Dialect) -> Callable[[Sequence[bytes]], bytes]:
    """A function that returns the JSON text of the record with these cells."""
    kinds = {field.source: field.kind for field in record.fields}
    readers = [(name, _cell_reader(kinds.get(name), dialect)) for name in names]

    def read(cells: Sequence[bytes]) -> bytes:
        members: list[Member] = []
        for (name, read_cell), cell in zip(readers, cells, strict=True):
            if not cell or cell == dialect.null:
                continue
            if name == OVERFLOW and cell.startswith(b'"{'):
                # These come first, since a name that also has a column holds an earlier value of that column.
                members = pairs_of(unquoted(cell)) + members
            else:
                members.append((name, read_cell(cell)))
        return object_of(members)

    return read


def unquoted(cell: bytes) -> bytes:
    """The text of a cell."""
    return cell[1:-1].replace(b'""', b'"') if cell.startswith(b'"') else cell


def _cell_reader(kind: Kind | None, dialect: Dialect) -> ReadCell:
    may_nest = kind is not None and kind.has_structure
    is_text = kind is None or STRING in kind.as_branches()
    may_be_scalar = (dialect.quotes_numbers or dialect.quotes_booleans) and not is_text

    def read(cell: bytes) -> bytes:
        text = unquoted(cell)
        if (text is cell or may_be_scalar) and _SCALAR.fullmatch(text):
            return text
        if may_nest and text[:1] in (b"{", b"[") and _is_json(text):
            return text
        return msgspec.json.encode(text.decode())

    return read


def _is_json(text: bytes) -> bool:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError:
        return False
    return True


def _cells_of_lines(text: bytes, dialect: Dialect) -> Iterator[list[bytes]]:
    delimiter = re.escape(dialect.delimiter)
    pattern = re.compile(rb'("(?:[^"]|"")*"|[^%b\r\n"]*)(%b|\r?\n|\Z)' % (delimiter, delimiter))
    cells: list[bytes] = []
    position = 0
    while position < len(text):
        match = pattern.match(text, position)
        if match is None:
            raise RecordError(f"The CSV text is damaged at byte {position}: {text[position : position + 80]!r}.")
        cells.append(match[1])
        if match[2] != dialect.delimiter:
            yield cells
            cells = []
        position = match.end()
