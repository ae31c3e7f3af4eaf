"""The envelope of a stream's records in every form that objects have: members of JSON, cells, Avro's bytes, columns.

All formats get it here, so that they agree. What all records of a sync share is a constant, and so is the list of
changes of a record without any. Must not know: the records' own fields, how objects are written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.columns.binary_columns import Parts, ragged
from s3dest_dagster.columns.schemas import (
    CHANGE_TYPE,
    CHANGES_TYPE,
    ENVELOPES,
    META,
    META_TYPE,
    emitted_at_column,
    record_id_column,
)
from s3dest_dagster.formats.csv_cells import Dialect, quoted
from s3dest_dagster.formats.integers import decimal_texts, varint, varints
from s3dest_dagster.record_changes import Change, Changes, selected_changes

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from s3dest_dagster.settings.formats import EnvelopeName

_END = b"\0"
"""The end of an Avro array."""


@dataclass(frozen=True, slots=True)
class SyncNumbers:
    """The numbers that every record of a sync has in the envelope `airbyte_1`."""

    sync_id: int = 0
    """`_airbyte_meta.sync_id`."""
    generation_id: int = 0
    """`_airbyte_generation_id`."""


class EnvelopeValues(NamedTuple):
    """The values of a batch's envelope that differ from record to record."""

    ids: NDArray[np.uint8]
    """The record ids as ASCII texts, shape (n, 36)."""
    emitted_at: NDArray[np.int64]
    """Milliseconds since 1970."""
    changes: Changes
    """What was changed in the records."""

    def in_order(self, order: NDArray[np.int64]) -> EnvelopeValues:
        """The values of the records in another order. The ids are by chance, and stay where they are."""
        return EnvelopeValues(self.ids, self.emitted_at[order], selected_changes(self.changes, order.tolist()))


class EnvelopeEncoder:
    """Makes the envelope of one stream's records for one sync.

    Args:
        name: Which envelope the records have.
        numbers: What all records share.
    """

    def __init__(self, name: EnvelopeName, numbers: SyncNumbers) -> None:
        self.names = ENVELOPES[name].names
        """The names of its columns, in order. Empty if there is no envelope."""
        self.has_changes = META in self.names
        """Whether it says what was changed in a record."""
        self._numbers = numbers

    def json_members(self, values: EnvelopeValues, time_quote: bytes) -> Parts:
        """The members of a JSON object up to and with the comma after the last, after an opening brace."""
        if not self.names:
            return [b"{"]
        keys = [b'"%b":' % name.encode() for name in self.names]
        parts: Parts = [
            b"{%b" % keys[0] + b'"',
            values.ids,
            b'",%b%b' % (keys[1], time_quote),
            decimal_texts(values.emitted_at),
            time_quote + b",",
        ]
        if self.has_changes:
            parts += [keys[2], self._meta(values, self._json_meta), b",%b%d," % (keys[3], self._numbers.generation_id)]
        return parts

    def cells(self, values: EnvelopeValues, dialect: Dialect) -> Parts:
        """The cells of CSV, without a delimiter after the last."""
        if not self.names:
            return []
        id_quote = b'"' if dialect.quotes_plain_texts else b""
        number_quote = b'"' if dialect.quotes_numbers else b""
        between = id_quote + dialect.delimiter + number_quote
        parts: Parts = [id_quote, values.ids, between, decimal_texts(values.emitted_at), number_quote]
        if self.has_changes:
            generation = number_quote + b"%d" % self._numbers.generation_id + number_quote
            metas = self._meta(values, lambda changes: quoted(self._json_meta(changes)))
            parts += [dialect.delimiter, metas, dialect.delimiter + generation]
        return parts

    def avro_parts(self, values: EnvelopeValues) -> Parts:
        """The bytes before those of the fields in an Avro record."""
        if not self.names:
            return []
        parts: Parts = [varint(values.ids.shape[1]), values.ids, ragged(*varints(values.emitted_at))]
        if self.has_changes:
            parts += [self._meta(values, self._avro_meta), varint(self._numbers.generation_id)]
        return parts

    def columns(self, values: EnvelopeValues) -> list[pa.Array]:
        """The Arrow columns."""
        if not self.names:
            return []
        columns = [record_id_column(values.ids), emitted_at_column(values.emitted_at)]
        if self.has_changes:
            rows = len(values.ids)
            columns += [
                self._meta_column(values.changes, rows),
                pa.repeat(pa.scalar(self._numbers.generation_id, pa.int64()), rows),
            ]
        return columns

    # ------------------------------------------------------------------ _airbyte_meta

    def _meta(self, values: EnvelopeValues, form: Callable[[Sequence[Change]], bytes]) -> bytes | pa.Array:
        """`_airbyte_meta` of every record: a constant if no record was changed."""
        usual = form(())
        if not values.changes:
            return usual
        texts = [usual] * len(values.ids)
        for row, changes in values.changes.items():
            texts[row] = form(changes)
        return pa.array(texts, pa.binary())

    def _json_meta(self, changes: Sequence[Change]) -> bytes:
        return b'{"sync_id":%d,"changes":%b}' % (
            self._numbers.sync_id,
            msgspec.json.encode([change._asdict() for change in changes]),
        )

    def _avro_meta(self, changes: Sequence[Change]) -> bytes:
        texts = [text.encode() for text in chain.from_iterable(changes)]
        items = b"".join(varint(len(text)) + text for text in texts)
        block = varint(len(changes)) + items if changes else b""
        return varint(self._numbers.sync_id) + block + _END

    def _meta_column(self, changes: Changes, rows: int) -> pa.Array:
        sync_ids = pa.repeat(pa.scalar(self._numbers.sync_id, pa.int64()), rows)
        return pa.StructArray.from_arrays([sync_ids, _change_lists(changes, rows)], fields=list(META_TYPE))


def _change_lists(changes: Mapping[int, Sequence[Change]], rows: int) -> pa.Array:
    """The list of changes of every record."""
    ends = np.zeros(rows + 1, np.int32)
    for row, own in changes.items():
        ends[row + 1] = len(own)
    flat = [each for row in sorted(changes) for each in changes[row]]
    texts = [pa.array([each[number] for each in flat], pa.string()) for number in range(len(Change._fields))]
    items = pa.StructArray.from_arrays(texts, fields=list(CHANGE_TYPE))
    return pa.ListArray.from_arrays(np.cumsum(ends, dtype=np.int32), items, type=CHANGES_TYPE)
