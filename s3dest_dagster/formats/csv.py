"""CSV (RFC 4180): cells are cut from the source's own JSON text, so that every value keeps its spelling.

A JSON number, boolean or text without escapes already is its CSV cell; only escapes, nested values and nulls need work.
Texts are quoted and numbers are not, null and missing are an empty unquoted cell. It must not know types: a cell is
what the record says, whatever its column was declared as.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec
import pyarrow as pa

from s3dest_dagster.batch import Batch, Tally
from s3dest_dagster.columns.binary_columns import Parts, content, glued, pieces
from s3dest_dagster.columns.conversion_log import Outcome, tally_of
from s3dest_dagster.columns.envelope import DATA, EMITTED_AT, RECORD_ID, record_ids
from s3dest_dagster.columns.json_texts import Member
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.overflow import OverflowNames
from s3dest_dagster.formats.arrow_json import json_texts
from s3dest_dagster.formats.csv_cells import cell_rows, quoted
from s3dest_dagster.formats.json_rows import JsonRows, RootFields, compact, compact_lines
from s3dest_dagster.formats.protocol import Aside, Contents, Encoded, Sink, at_once
from s3dest_dagster.formats.text import TextObject, decimal_texts, spliced
from s3dest_dagster.settings.formats import CsvFormat, Flattening


class CsvEncoder:
    """Lines of comma-separated values, with a header in every object."""

    holds_lock = True

    def __init__(self, settings: CsvFormat, contents: Contents, properties: Iterable[str]) -> None:
        self.extension = settings.extension
        self.schema_text = contents.schema_text
        self.fingerprint = contents.fingerprint
        self._settings = settings
        self._flat = settings.flattening is Flattening.ROOT
        self._names = column_names(settings, properties)
        self._rows = JsonRows(self._names) if self._flat else None

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        if not batch.num_rows:
            return Encoded(0, b"", 0)
        raws = json_texts(batch)
        if self._rows is None:
            lines, tally = self._with_data(raws, batch, entropy), Tally()
        else:
            lines, tally = self._flattened(self._rows, raws, batch, entropy)
        return Encoded(batch.num_rows, lines, len(lines), tally)

    def open(self, sink: Sink, marker: bytes, aside: Aside = at_once) -> TextObject:
        return TextObject(sink, self._settings, self._header(), aside=aside)

    def _header(self) -> bytes:
        names = [RECORD_ID, EMITTED_AT, *(self._names if self._flat else [DATA])]
        if self._settings.additional_properties_column:
            names.append(OVERFLOW)
        return b",".join(quoted(name.encode()) for name in names) + b"\r\n"

    def _with_data(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> bytes:
        """Lines whose last cell is the whole record."""
        heads = pieces(glued([*_envelope(batch, entropy), b',"'], batch.num_rows))
        cells = compact_lines(raws).replace(b'"', b'""').split(b"\n")
        return spliced(heads, cells, b'"\r\n')

    def _flattened(self, rows: JsonRows, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> tuple[bytes, Tally]:
        found = rows.root_fields(raws)
        parts: Parts = _envelope(batch, entropy)
        if self._names:
            parts.append(cell_rows(found.texts, found.breaks, len(self._names)))
        if self._settings.additional_properties_column:
            parts += [b",", _additional(found, len(raws))]
        lines = glued([*parts, b"\r\n"], len(raws))
        return bytes(content(lines)), _tally(found, frozenset(self._names))


def column_names(settings: CsvFormat, properties: Iterable[str]) -> list[str]:
    """The columns of a flattened object between the envelope and the additional properties: the schema's root
    properties in the order of their UTF-16 code units. Names that are taken by other columns are no columns; the
    fields count as undeclared."""
    taken = {RECORD_ID, EMITTED_AT} | ({OVERFLOW} if settings.additional_properties_column else set())
    return sorted(set(properties) - taken, key=lambda name: name.encode("utf-16-be"))


def _envelope(batch: Batch, entropy: bytes) -> Parts:
    return [b'"', record_ids(entropy), b'",', decimal_texts(batch.emitted_at)]


def _additional(found: RootFields, rows: int) -> pa.Array:
    """The cells of what records have beyond the columns."""
    cells = [b""] * rows
    for row in found.undeclared.keys() | found.earlier.keys():
        cells[row] = _beyond(found.undeclared.get(row, {}), found.earlier.get(row, ()))
    return pa.array(cells, pa.binary())


def _beyond(undeclared: Mapping[str, msgspec.Raw], earlier: Iterable[Member]) -> bytes:
    """What a record has beyond the columns as one JSON object, sorted by name: its undeclared fields, and the earlier
    values of names that stand twice in it."""
    members, names = dict(undeclared), OverflowNames(undeclared)
    for name, value in earlier:
        members[names.allocate(name)] = msgspec.Raw(value)
    return quoted(compact(msgspec.json.encode(dict(sorted(members.items())))))


def _tally(found: RootFields, declared: Collection[str]) -> Tally:
    """How often each undeclared field had a value (a null is none), and each name one that another stood behind."""
    undeclared = ((name, value) for members in found.undeclared.values() for name, value in members.items())
    counts = Counter((Outcome.UNDECLARED, name) for name, value in undeclared if bytes(value) != b"null")
    for members in found.earlier.values():
        counts.update((Outcome.OVERFLOWED if name in declared else Outcome.UNDECLARED, name) for name, _ in members)
    return tally_of(counts)
