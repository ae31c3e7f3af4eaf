"""CSV (RFC 4180): cells are taken from the source's JSON text, so that every value keeps its spelling.

Texts are quoted and numbers are not; a null or missing value is an empty cell without quotes, unless the settings say
otherwise. A cell has the record's value, regardless of the declared type of its column. Must not know: types.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from s3dest_dagster.batch import ArrowBatch, Batch, Tally, compact_json
from s3dest_dagster.columns.binary_columns import Member, Parts, glued, pieces
from s3dest_dagster.columns.conversion_log import Outcome, tally_of
from s3dest_dagster.columns.diagnostics import Diagnostic, cell_diagnostics
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.overflow import OverflowNames
from s3dest_dagster.columns.schemas import DATA, envelope_of, reserved_names
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats.csv_cells import Dialect, cell_rows, compact_lines, quoted, without_first_delimiter
from s3dest_dagster.formats.csv_columns import cells_of_column, cells_of_records
from s3dest_dagster.formats.csv_reading import record_reader, rows_of, unquoted
from s3dest_dagster.formats.protocol import Contents, OnMismatch
from s3dest_dagster.formats.reading import Line
from s3dest_dagster.formats.root_fields import RootFieldReader, RootFields
from s3dest_dagster.formats.text import JoinedLines, LineColumn, Lines, Text, TextEncoder
from s3dest_dagster.settings.formats import CsvFormat, Flattening


class Csv(Text[CsvFormat]):
    """Comma-separated values."""

    def encoder(self, contents: Contents, on_mismatch: OnMismatch) -> CsvEncoder:
        return CsvEncoder(self.settings, contents)

    @property
    def has_fixed_positions(self) -> bool:
        return self.is_flat and self.settings.column_order == "source"

    @property
    def has_header(self) -> bool:
        return self.is_flat

    def parse(self, text: bytes, record: Record) -> Iterator[Line]:
        dialect = Dialect.of(self.settings)
        declared = _header(self.settings, record, _sources(record))
        names, rows = rows_of(text, dialect, None if self.settings.header else declared)
        if all(field.id for field in record.fields) and len(names) == len(declared):
            # A header may have other names than the source. The record of a landed object has its columns in order.
            names = declared
        own = len(envelope_of(record).names)
        is_whole = not self.is_flat and names[own:] == [DATA]
        read = record_reader(names[own:], record, dialect)
        for cells in rows:
            data = unquoted(cells[own]) if is_whole else read(cells[own:])
            yield _line([unquoted(cell) for cell in cells[:own]], data)

    def diagnostics(self, record: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
        if not self.is_flat:
            return super().diagnostics(record, json_schema)
        return cell_diagnostics(record, json_schema, keeps_undeclared=self.settings.additional_properties_column)


class CsvEncoder(TextEncoder[CsvFormat]):
    """Lines of comma-separated values, with a header in every object unless the settings say otherwise."""

    def __init__(self, settings: CsvFormat, contents: Contents) -> None:
        super().__init__(settings, contents)
        # Without a header, a reader has only the record to tell the columns by.
        declared = contents.properties if settings.header else _sources(contents.record)
        self._dialect = Dialect.of(settings)
        self._names = _column_names(settings, contents.record, declared)
        self._reader = RootFieldReader(self._names) if self._is_flat else None
        self._drops_undeclared = contents.record.drops_undeclared
        header = _header(settings, contents.record, declared)
        _refuse_empty_lines(settings, contents.record, header)
        if settings.header:
            self.header = self._dialect.row([quoted(title.encode()) for title in _titled(header, contents.record)])

    @property
    def has_header(self) -> bool:
        return self._is_flat

    def lines(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> tuple[Lines, Tally]:
        if self._reader is None:
            return self._lines_with_data(raws, batch, entropy), Tally()
        fields = self._reader.read(raws)
        parts = self._envelope(batch, entropy)
        if self._names:
            cells = cell_rows(fields.texts, fields.breaks, len(self._names), self._dialect)
            parts.append(cells if parts else without_first_delimiter(cells))
        if self._settings.additional_properties_column:
            delimiter = self._dialect.delimiter if parts else b""
            parts += [delimiter, _additional_cells(self._kept(fields), len(raws), self._dialect.null)]
        return LineColumn(glued([*parts, b"\r\n"], len(raws))), _tally(fields, frozenset(self._names))

    def arrow_lines(self, batch: ArrowBatch, entropy: bytes) -> pa.Array | None:
        cells = self._cells_of_columns(batch.data)
        if cells is None:
            return None
        lines = self._envelope(batch, entropy)
        for parts in cells:
            lines += [self._dialect.delimiter, *parts] if lines else parts
        return glued([*lines, b"\r\n"], batch.num_rows)

    def _cells_of_columns(self, data: pa.RecordBatch) -> list[Parts] | None:
        """The cells after the envelope. None if they depend on JSON texts, or if some columns are undeclared."""
        if not self._is_flat:
            record = cells_of_records(data)
            return None if record is None else [record]
        columns = dict(zip(data.schema.names, data.columns, strict=True))
        if not columns.keys() <= set(self._names):
            return None
        absent: Parts = [self._dialect.null]
        cells = [
            cells_of_column(columns[name], self._dialect, name) if name in columns else absent for name in self._names
        ]
        return [*cells, absent] if self._settings.additional_properties_column else cells

    def _kept(self, fields: RootFields) -> RootFields:
        """The fields without undeclared ones if these are dropped."""
        if not self._drops_undeclared:
            return fields
        declared = frozenset(self._names)
        earlier = {
            row: [member for member in members if member[0] in declared] for row, members in fields.earlier.items()
        }
        return fields._replace(undeclared={}, earlier={row: members for row, members in earlier.items() if members})

    def _envelope(self, batch: Batch, entropy: bytes) -> Parts:
        """The cells of the envelope, without a delimiter after the last."""
        return self.envelope.cells(self._envelope_values(batch, entropy), self._dialect)

    def _lines_with_data(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> Lines:
        """Lines whose last cell is the whole record."""
        envelope = self._envelope(batch, entropy)
        before = self._dialect.delimiter if envelope else b""
        heads = pieces(glued([*envelope, before + b'"'], batch.num_rows))
        cells = compact_lines(raws).replace(b'"', b'""').split(b"\n")
        return JoinedLines(heads, cells, b'"\r\n')


def _line(envelope: Sequence[bytes], record: bytes) -> Line:
    """The line with these texts in the cells of its envelope."""
    if not envelope:
        return Line("", 0, record)
    record_id, emitted_at, *newer = envelope
    meta, generation_id = newer or (b"", b"")
    return Line(
        record_id.decode(), int(emitted_at), record, meta or b"null", int(generation_id) if generation_id else None
    )


def _sources(record: Record) -> list[str]:
    return [field.source for field in record.fields]


def _header(settings: CsvFormat, record: Record, declared: Iterable[str]) -> list[str]:
    """The names of all columns. `declared` has the schema's root properties."""
    envelope = envelope_of(record).names
    if settings.flattening is Flattening.NONE:
        return [*envelope, DATA]
    last = [OVERFLOW] if settings.additional_properties_column else []
    return [*envelope, *_column_names(settings, record, declared), *last]


def _titled(header: Sequence[str], record: Record) -> list[str]:
    """The header in which the columns have the names that were chosen for them."""
    titles = {field.source: field.name for field in record.fields if field.is_titled}
    return [titles.get(name, name) for name in header]


def _refuse_empty_lines(settings: CsvFormat, record: Record, header: Sequence[str]) -> None:
    """Raises SettingsError if the line of a record could be empty, since readers skip such lines."""
    if len(header) > 1 or (header and (settings.null_text or settings.flattening is Flattening.NONE)):
        return
    what = "no column" if not header else f"only the column {header[0]!r}, whose nulls would be empty lines"
    raise SettingsError(
        f"Stream {record.name!r} has {what}, without an envelope, and readers skip empty lines. Set null_text"
        f"{'' if header else ' and additional_properties_column'}, or keep the envelope.",
        stream=record.name,
        setting="envelope",
    )


def _column_names(settings: CsvFormat, record: Record, declared: Iterable[str]) -> list[str]:
    """The columns of a flattened object between the envelope and the additional properties.

    They are the schema's root properties, in its order or in the order of their UTF-16 code units. A property with the
    name of another column gets no column; its fields count as undeclared.
    """
    reserved = reserved_names(record, overflow=settings.additional_properties_column)
    names = [name for name in dict.fromkeys(declared) if name not in reserved]
    return names if settings.column_order == "source" else sorted(names, key=lambda name: name.encode("utf-16-be"))


def _additional_cells(fields: RootFields, rows: int, null: bytes) -> pa.Array:
    """The cells with the fields of records that have no column."""
    cells = [null] * rows
    for row in fields.undeclared.keys() | fields.earlier.keys():
        cells[row] = _additional_cell(fields.undeclared.get(row, {}), fields.earlier.get(row, ()))
    return pa.array(cells, pa.binary())


def _additional_cell(undeclared: Mapping[str, msgspec.Raw], earlier: Iterable[Member]) -> bytes:
    """One JSON object, sorted by name, with a record's undeclared fields and the earlier values of repeated names."""
    members, names = dict(undeclared), OverflowNames(undeclared)
    for name, value in earlier:
        members[names.allocate(name)] = msgspec.Raw(value)
    return quoted(compact_json(msgspec.json.encode(dict(sorted(members.items())))))


def _tally(fields: RootFields, declared: Collection[str]) -> Tally:
    """The counts of values other than null by undeclared field, and of earlier values by repeated name."""
    undeclared = ((name, value) for members in fields.undeclared.values() for name, value in members.items())
    counts = Counter((Outcome.UNDECLARED, name) for name, value in undeclared if bytes(value) != b"null")
    for members in fields.earlier.values():
        counts.update((Outcome.OVERFLOWED if name in declared else Outcome.UNDECLARED, name) for name, _ in members)
    return tally_of(counts)
