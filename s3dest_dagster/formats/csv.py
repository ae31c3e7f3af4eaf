"""CSV (RFC 4180): cells are taken from the source's JSON text, so that every value keeps its spelling.

A JSON number, a boolean, or a text without escapes already is its CSV cell. Only escapes, nested values and nulls need
work. Texts are quoted and numbers are not; a null or missing value is an empty cell without quotes. A cell has the
record's value, regardless of the declared type of its column. Must not know: types.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import Batch, Tally, compact_json
from s3dest_dagster.columns.binary_columns import (
    Bytes,
    Member,
    Parts,
    Positions,
    binary_array,
    content,
    glued,
    object_of,
    pairs_of,
    pieces,
    table_of,
)
from s3dest_dagster.columns.conversion_log import Outcome, tally_of
from s3dest_dagster.columns.diagnostics import Diagnostic, cell_diagnostics
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.overflow import OverflowNames
from s3dest_dagster.columns.schemas import DATA, EMITTED_AT, RECORD_ID, record_ids, reserved_names
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats.protocol import Contents, OnMismatch
from s3dest_dagster.formats.reading import Line
from s3dest_dagster.formats.root_fields import RootFieldReader, RootFields
from s3dest_dagster.formats.text import Text, TextEncoder, decimal_texts, join_lines
from s3dest_dagster.settings.formats import CsvFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Csv(Text[CsvFormat]):
    """Comma-separated values."""

    def encoder(self, contents: Contents, on_mismatch: OnMismatch) -> CsvEncoder:
        return CsvEncoder(self.settings, contents)

    def parse(self, text: bytes, record: Record) -> Iterator[Line]:
        return _records(text, record)

    def diagnostics(self, record: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
        if not self.is_flat:
            return super().diagnostics(record, json_schema)
        return cell_diagnostics(record, json_schema, keeps_undeclared=self.settings.additional_properties_column)


class CsvEncoder(TextEncoder[CsvFormat]):
    """Lines of comma-separated values, with a header in every object."""

    def __init__(self, settings: CsvFormat, contents: Contents) -> None:
        super().__init__(settings, contents)
        self._names = _column_names(settings, contents.properties)
        self._reader = RootFieldReader(self._names) if self._is_flat else None
        names = [RECORD_ID, EMITTED_AT, *(self._names if self._is_flat else [DATA])]
        if settings.additional_properties_column:
            names.append(OVERFLOW)
        self.header = b",".join(_quoted(name.encode()) for name in names) + b"\r\n"

    def lines(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> tuple[bytes, Tally]:
        if self._reader is None:
            return _lines_with_data(raws, batch, entropy), Tally()
        fields = self._reader.read(raws)
        parts = _envelope(batch, entropy)
        if self._names:
            parts.append(cell_rows(fields.texts, fields.breaks, len(self._names)))
        if self._settings.additional_properties_column:
            parts += [b",", _additional_cells(fields, len(raws))]
        lines = glued([*parts, b"\r\n"], len(raws))
        return bytes(content(lines)), _tally(fields, frozenset(self._names))


def _column_names(settings: CsvFormat, properties: Iterable[str]) -> list[str]:
    """The columns of a flattened object between the envelope and the additional properties.

    They are the schema's root properties in the order of their UTF-16 code units. A property with the name of another
    column gets no column; its fields count as undeclared.
    """
    reserved = reserved_names(overflow=settings.additional_properties_column)
    return sorted(set(properties) - reserved, key=lambda name: name.encode("utf-16-be"))


def _envelope(batch: Batch, entropy: bytes) -> Parts:
    return [b'"', record_ids(entropy), b'",', decimal_texts(batch.emitted_at)]


def _lines_with_data(raws: Sequence[bytes], batch: Batch, entropy: bytes) -> bytes:
    """Lines whose last cell is the whole record."""
    heads = pieces(glued([*_envelope(batch, entropy), b',"'], batch.num_rows))
    cells = compact_lines(raws).replace(b'"', b'""').split(b"\n")
    return join_lines(heads, cells, b'"\r\n')


def _additional_cells(fields: RootFields, rows: int) -> pa.Array:
    """The cells with the fields of records that have no column."""
    cells = [b""] * rows
    for row in fields.undeclared.keys() | fields.earlier.keys():
        cells[row] = _additional_cell(fields.undeclared.get(row, {}), fields.earlier.get(row, ()))
    return pa.array(cells, pa.binary())


def _additional_cell(undeclared: Mapping[str, msgspec.Raw], earlier: Iterable[Member]) -> bytes:
    """One JSON object, sorted by name, with a record's undeclared fields and the earlier values of repeated names."""
    members, names = dict(undeclared), OverflowNames(undeclared)
    for name, value in earlier:
        members[names.allocate(name)] = msgspec.Raw(value)
    return _quoted(compact_json(msgspec.json.encode(dict(sorted(members.items())))))


def _tally(fields: RootFields, declared: Collection[str]) -> Tally:
    """The counts of values other than null by undeclared field, and of earlier values by repeated name."""
    undeclared = ((name, value) for members in fields.undeclared.values() for name, value in members.items())
    counts = Counter((Outcome.UNDECLARED, name) for name, value in undeclared if bytes(value) != b"null")
    for members in fields.earlier.values():
        counts.update((Outcome.OVERFLOWED if name in declared else Outcome.UNDECLARED, name) for name, _ in members)
    return tally_of(counts)


# ---------------------------------------------------------------------- cells of a whole batch

_BACKSLASH = ord("\\")
_NULL = b"null"
_NUL = "\0"
_as_texts = msgspec.json.Decoder(list[str]).decode


def _quoted(text: bytes) -> bytes:
    """Any text as a cell."""
    return b'"' + text.replace(b'"', b'""') + b'"'


def cell_rows(texts: Bytes, breaks: Positions, columns: int) -> pa.Array:
    """The cells of every record as one binary value, with a comma before every cell.

    A number, a boolean and a string without escapes are their own cell. Null and an absent value become an empty cell.
    A string with escapes becomes its characters, and a nested value becomes compact JSON; both are quoted.

    Args:
        texts: The JSON texts, record by record. There is a line break before every text, and one more at the end.
        breaks: The positions of these line breaks.
        columns: The number of texts per record.
    """
    first = texts[breaks[:-1] + 1]
    nested = (first == ord("{")) | (first == ord("["))
    cells, breaks = _without_nulls(texts, breaks, np.flatnonzero(first == _NULL[0]))
    escaped = _with_backslash(cells, breaks) & ~nested
    cells[breaks] = ord(",")
    positions = np.flatnonzero(nested | escaped)
    if not len(positions):
        return binary_array(breaks[::columns], pa.py_buffer(cells))
    starts, ends = breaks[positions] + 1, breaks[positions + 1]
    whole = cells.tobytes()
    values = [whole[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    _replace_each(values, np.flatnonzero(nested[positions]), _nested_cells)
    _replace_each(values, np.flatnonzero(escaped[positions]), _escaped_cells)
    growth = np.zeros(len(breaks), np.int64)
    growth[positions + 1] = np.fromiter(map(len, values), np.int64) - (ends - starts)
    row_ends = (breaks + np.cumsum(growth))[::columns]
    return binary_array(row_ends, pa.py_buffer(_with_replaced(whole, starts, ends, values)))


def _without_nulls(texts: Bytes, breaks: Positions, nulls: Positions) -> tuple[Bytes, Positions]:
    """A copy of the texts in which the `nulls` are empty, and the positions of its line breaks."""
    if not len(nulls):
        return texts.copy(), breaks
    keep = np.ones(len(texts), np.bool_)
    starts = breaks[nulls]
    for position in range(len(_NULL)):
        keep[starts + position + 1] = False
    removed = np.zeros(len(breaks), np.int64)
    removed[nulls + 1] = len(_NULL)
    return texts[keep], breaks - np.cumsum(removed)


def _with_backslash(texts: Bytes, breaks: Positions) -> NDArray[np.bool_]:
    """True for the texts that have a backslash."""
    found = np.zeros(len(breaks) - 1, np.bool_)
    found[np.searchsorted(breaks, np.flatnonzero(texts == _BACKSLASH)) - 1] = True
    return found


def _replace_each(values: list[bytes], positions: Positions, replace: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replaces the values at these positions with one call."""
    if not len(positions):
        return
    numbers = positions.tolist()
    for number, value in zip(numbers, replace([values[number] for number in numbers]), strict=True):
        values[number] = value


def _nested_cells(values: Sequence[bytes]) -> list[bytes]:
    return _all_quoted(compact_lines(values), b"\n")


def _escaped_cells(values: Sequence[bytes]) -> list[bytes]:
    texts = _as_texts(b"[%b]" % b",".join(values))
    joined = _NUL.join(texts)
    if joined.count(_NUL) >= len(texts):
        return [_quoted(text.encode()) for text in texts]
    return _all_quoted(joined.encode(), _NUL.encode())


def _all_quoted(texts: bytes, separator: bytes) -> list[bytes]:
    """The texts as cells. The separator is a byte that no text contains."""
    return _quoted(texts).replace(separator, b'"%b"' % separator).split(separator)


def _with_replaced(text: bytes, starts: Positions, ends: Positions, values: Sequence[bytes]) -> bytes:
    """The text with other bytes in these ranges, which are in order and do not overlap."""
    kept = zip([0, *ends.tolist()], [*starts.tolist(), len(text)], strict=True)
    parts = [b""] * (2 * len(values) + 1)
    parts[0::2] = [text[start:end] for start, end in kept]
    parts[1::2] = values
    return b"".join(parts)


# ---------------------------------------------------------------------- JSON without blanks

_BEFORE_BLANK, _AFTER_BLANK = table_of(b"{[,:"), table_of(b",:]}")


def compact_lines(raws: Sequence[bytes]) -> bytes:
    """The JSON texts, which have no line breaks, in compact form and joined by line breaks."""
    lines = b"\n".join(raws)
    suspects = _lines_with_suspicious_blanks(lines)
    if not len(suspects):
        return lines
    texts = list(raws)
    for number in suspects.tolist():
        texts[number] = compact_json(texts[number])
    return b"\n".join(texts)


def _lines_with_suspicious_blanks(lines: bytes) -> NDArray[np.int64]:
    """The numbers of the lines that may have a blank outside of strings.

    Between two JSON tokens there is always punctuation, so a run of blanks begins after punctuation or ends before it.
    Blanks in strings can also look like that, which only costs time.
    """
    characters = np.frombuffer(lines, np.uint8)
    blank = characters == ord(" ")
    for other in (b"\t", b"\r"):
        if other in lines:
            blank |= characters == other[0]
    positions = np.flatnonzero(blank)
    suspicious = _BEFORE_BLANK[characters[positions - 1]] | _AFTER_BLANK[characters[positions + 1]]
    if not suspicious.any():
        return np.zeros(0, np.int64)
    line_ends = np.flatnonzero(characters == ord("\n"))
    return np.unique(np.searchsorted(line_ends, positions[suspicious]))


# ---------------------------------------------------------------------- reading

_CELL = re.compile(rb'("(?:[^"]|"")*"|[^,\r\n"]*)(,|\r?\n|\Z)')


def _records(text: bytes, record: Record) -> Iterator[Line]:
    """Yields the records of the lines after the header, flattened or not.

    A quoted cell was a text or a nested value; an unquoted cell was a number or a boolean.
    """
    lines = _cells_of_lines(text)
    names = [_unquoted(cell).decode() for cell in next(lines, [])]
    nested = {field.source for field in record.fields if field.kind.has_structure}
    for record_id, emitted_at, *cells in lines:
        yield _unquoted(record_id).decode(), int(emitted_at), _record_text(names[2:], cells, nested)


def _record_text(names: Sequence[str], cells: Sequence[bytes], nested: set[str]) -> bytes:
    if names == [DATA]:
        return _unquoted(cells[0])
    members: list[Member] = []
    for name, cell in zip(names, cells, strict=True):
        if cell and name == OVERFLOW and cell.startswith(b'"{'):
            # These come first, since a name that also has a column holds an earlier value of that column.
            members = pairs_of(_unquoted(cell)) + members
        elif cell:
            members.append((name, _json_text(cell, name in nested)))
    return object_of(members)


def _json_text(cell: bytes, may_nest: bool) -> bytes:
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


def _cells_of_lines(text: bytes) -> Iterator[list[bytes]]:
    cells: list[bytes] = []
    position = 0
    while position < len(text):
        match = _CELL.match(text, position)
        if match is None:
            raise RecordError(f"The CSV text is damaged at byte {position}: {text[position : position + 80]!r}.")
        cells.append(match[1])
        if match[2] != b",":
            yield cells
            cells = []
        position = match.end()


def _unquoted(cell: bytes) -> bytes:
    return cell[1:-1].replace(b'""', b'"') if cell.startswith(b'"') else cell
