"""The interface of a format: one object with its encoder, its reader, and its answers for `plan`.

Must not know: any single format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import Batch, Tally
from s3dest_dagster.columns.converter import Converted
from s3dest_dagster.columns.diagnostics import Diagnostic, column_diagnostics
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW_NAMES
from s3dest_dagster.columns.overflow_changes import overflow_changes
from s3dest_dagster.columns.partition_values import Groups, RecordGrouper
from s3dest_dagster.columns.schemas import avro_schema_text, record_ids, text_fingerprint
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.formats.envelope import EnvelopeEncoder, EnvelopeValues, SyncNumbers
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.record_changes import joined_changes
from s3dest_dagster.settings.formats import CONNECTOR_TYPES, FormatSettings, TypeRules
from s3dest_dagster.settings.partition_fields import FieldValues
from s3dest_dagster.stream import Stream

Settings = TypeVar("Settings", bound=FormatSettings)
OnMismatch = Literal["overflow", "fail"]
_NOTHING = Tally()
"""All pieces that are held share it, since its mappings use more memory than a few records."""
_LONG_SPAN = 100
"""The mean number of rows in a span above which it costs less to copy the spans than to look up every row."""
Content = bytes | memoryview
"""The bytes of a whole object."""

Sink = Callable[[bytes], object]
"""Receives an object's bytes, piece by piece, in order."""
Background = Callable[[Callable[[], bytes]], Callable[[], bytes]]
"""Starts work on a free thread, and returns a function that waits for its result. The work has no side effects and
holds the interpreter's lock for a small part of its time."""

PROLEPTIC_CALENDAR: Mapping[str, str] = {"org.apache.spark.version": "3.1.0"}
"""Metadata of a file that tells Apache Spark that its dates and timestamps follow the format's definition.

For days before 1582-10-15 and times before 1900, Spark 2 used another calendar than Parquet and Avro define. If a file
does not name the version of Spark that wrote it, Spark 3 refuses such values, or reads them as Spark 2's if
`spark.sql.parquet.datetimeRebaseModeInRead` is LEGACY. From 3.1.0 on, all types follow the definition, unless the
metadata also has `org.apache.spark.legacyDateTime` or `legacyINT96`.
"""


def run_now(work: Callable[[], bytes]) -> Callable[[], bytes]:
    """A `Background` without a thread, which does the work immediately."""
    result = work()
    return lambda: result


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a stream's objects, for any format."""

    record: Record
    properties: tuple[str, ...]
    """The source's names of the root level, those of the record's columns first."""
    reports_new_fields: bool
    """Whether text formats count fields without a column as undeclared, even where these land in their place, so that
    they can get a column, and with it a name."""
    schema_text: str
    """The Avro schema of the records, as canonical JSON text."""
    fingerprint: str
    """SHA-256 of `schema_text`. If two fingerprints are equal, the objects have equal columns."""
    numbers: SyncNumbers
    """What the envelope says of the sync."""


def contents_of(
    stream: Stream,
    record: Record | None = None,
    *,
    reports_new_fields: bool = False,
    rules: TypeRules = CONNECTOR_TYPES,
    sync_number: int = 0,
) -> Contents:
    """The contents of the stream's objects.

    Args:
        stream: The stream, with its JSON schema.
        record: The stream's columns. Default: those of its JSON schema.
        reports_new_fields: See `Contents`.
        rules: The types of what the schema leaves open (see `record_type`).
        sync_number: The number of the sync, if the stream's generation does not name one.

    Raises:
        SchemaError: The stream has no JSON schema, or one that cannot be understood (see `record_type`).
    """
    if stream.json_schema is None:
        raise SchemaError(
            f"Stream {str(stream.id)!r} has no JSON schema. Declare one, or have it taken from the first batch.",
            stream=str(stream.id),
        )
    record = record or record_type(stream.json_schema, stream.name, stream.namespace, rules)
    declared = stream.json_schema.get("properties") or ()
    properties = (*(field.source for field in record.fields), *sorted(OVERFLOW_NAMES.intersection(declared)))
    schema_text = avro_schema_text(record)
    numbers = SyncNumbers(sync_number)
    if (generation := stream.generation) is not None:
        numbers = SyncNumbers(sync_number if generation.sync_id is None else generation.sync_id, generation.id)
    return Contents(record, properties, reports_new_fields, schema_text, text_fingerprint(schema_text), numbers)


Payload: TypeAlias = bytes | list[bytes] | pa.RecordBatch | pa.Array
"""Encoded records: private to the format."""


@dataclass(frozen=True, slots=True)
class EncodedGroups:
    """The groups of records of a batch that has the records with equal directories side by side."""

    values: Sequence[FieldValues]
    """The values of the directories of each group."""
    rows: Sequence[int]
    """The number of records up to the end of each group."""
    cuts: Sequence[int]
    """The position in the payload at which each group ends: private to the format."""


class Span(NamedTuple):
    """A part of the records of one of several encoded batches."""

    batch: int
    """The number of the batch."""
    rows: slice
    """Its records."""
    cut: slice
    """Its part of the payload."""


def cut_rows(
    payloads: Sequence[Any], pieces: Sequence[Sequence[Span]], concatenated: Callable[[Sequence[Any]], Any]
) -> Iterator[Any]:
    """Yields the rows of each piece. They share no memory with other pieces, as slices would.

    Args:
        payloads: Arrow arrays, or record batches of one schema.
        pieces: The spans of each piece. Together they have all rows.
        concatenated: Makes one array or record batch of several. It copies them, unless it is only one.
    """
    if len(pieces) == 1:
        yield concatenated(payloads)
        return
    rows = sum(map(len, payloads))
    if rows >= _LONG_SPAN * sum(map(len, pieces)):
        for spans in pieces:
            slices = [payloads[span.batch].slice(span.rows.start, span.rows.stop - span.rows.start) for span in spans]
            yield concatenated(slices) if len(slices) > 1 else slices[0].take(pa.array(np.arange(len(slices[0]))))
        return
    whole, starts = concatenated(payloads), np.cumsum([0, *map(len, payloads)])
    for spans in pieces:
        numbers = [np.arange(span.rows.start, span.rows.stop) + starts[span.batch] for span in spans]
        yield whole.take(pa.array(np.concatenate(numbers)))


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch, ready to be appended to any object of its stream."""

    rows: int
    payload: Payload
    """Private to the format."""
    nbytes: int
    """The memory that the payload uses."""
    tally: Tally = _NOTHING
    big_integers: frozenset[int] = frozenset()
    """The ids of the integer columns with values that a double cannot hold, in formats whose columns have types."""
    groups: EncodedGroups | None = None
    """The groups of a batch that must be cut before it is appended (see `Encoder.encode_groups`)."""


class ObjectWriter(Protocol):
    """One object that is being written, by one thread at a time. Without `close` the object is incomplete."""

    @property
    def buffered(self) -> int:
        """Bytes of rows held back in memory, such as a Parquet row group. 0 if the format holds no rows back."""

    @property
    def in_background(self) -> int:
        """Bytes of the work in the background. Its result reaches the sink with the next batch, or at the end."""

    def append(self, encoded: Encoded) -> None:
        """Appends a batch. Bytes go to the sink when they are ready."""

    def flush_rows(self) -> None:
        """Writes the rows that are held back, which ends a row group early. Does nothing if there are none."""

    def close(self) -> None:
        """Completes the object: writes the rows that are held back, and the footer or trailer."""


class Encoder(ABC):
    """Encodes a stream's records as bytes, for one sync."""

    holds_lock: ClassVar[bool] = False
    """Whether encoding holds the interpreter's lock most of the time, so that a second thread gains nothing."""

    def __init__(self, settings: FormatSettings, contents: Contents) -> None:
        self.extension = settings.extension
        self.record = contents.record
        self.schema_text = contents.schema_text
        self.fingerprint = contents.fingerprint
        self.envelope = EnvelopeEncoder(contents.record.envelope, contents.numbers)
        """Makes the envelope of the records."""
        self.grouper: RecordGrouper | None = None
        """Groups the records by their directories. None if the stream has none."""

    def continues(self, other: Encoder) -> bool:
        """Whether its batches can follow those of another encoder in one object."""
        return other is self

    def encodes_as(self, other: Encoder) -> bool:
        """Whether it encodes every batch as another encoder does."""
        return other is self

    @abstractmethod
    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        """Does all work that can run in parallel. It has no side effects, and several threads may call it together.

        Args:
            batch: The records.
            entropy: 16 random bytes per record, for its id.

        Raises:
            RecordError: A record cannot be landed.
        """

    def groups_as(self, other: Encoder) -> bool:
        """Whether it puts all records into the directories into which another encoder puts them."""
        if self.grouper is None or other.grouper is None:
            return self.grouper is other.grouper
        return self.grouper.fields == other.grouper.fields

    @abstractmethod
    def encode_groups(self, batch: Batch, entropy: bytes) -> Encoded:
        """As `encode`, for a stream with directories: all records are encoded at once, group after group.

        `pieces` cuts the result, which cannot be appended before. The batch has at least one record.

        Raises:
            RecordError: A record cannot be landed.
        """

    def _envelope_values(self, batch: Batch, entropy: bytes, converted: Converted | None = None) -> EnvelopeValues:
        """The values of a batch's envelope. What its conversion to columns has changed is among the changes."""
        changes = batch.changes
        if self.envelope.has_changes and converted is not None and converted.tally.overflowed:
            own = overflow_changes(converted.record, converted.data.columns, converted.tally)
            changes = joined_changes(changes, own)
        return EnvelopeValues(record_ids(entropy), batch.emitted_at, changes)

    def _groups_of(self, batch: Batch, columns: pa.RecordBatch) -> Groups:
        """The groups of a batch that was converted to columns."""
        assert self.grouper is not None, "a stream without directories has no groups"
        return self.grouper.group_columns(columns) or self.grouper.group(batch)

    def pieces(self, batches: Sequence[Encoded]) -> Iterator[tuple[FieldValues, Encoded]]:
        """Yields the records of several encoded batches by their directories, each as one piece, which can be appended.

        A piece shares no memory with other pieces, so that it can be held while they are written.

        Args:
            batches: Results of `encode_groups` of this encoder.
        """
        spans: dict[FieldValues, list[Span]] = {}
        for number, batch in enumerate(batches):
            assert batch.groups is not None, "the batches are grouped"
            row = cut = 0
            for values, row_end, cut_end in zip(batch.groups.values, batch.groups.rows, batch.groups.cuts, strict=True):
                spans.setdefault(values, []).append(Span(number, slice(row, row_end), slice(cut, cut_end)))
                row, cut = row_end, cut_end
        payloads = self._cut([batch.payload for batch in batches], list(spans.values()))
        for (values, own), (payload, nbytes) in zip(spans.items(), payloads, strict=True):
            yield values, Encoded(sum(each.rows.stop - each.rows.start for each in own), payload, nbytes)

    @abstractmethod
    def _cut(self, payloads: Sequence[Any], pieces: Sequence[Sequence[Span]]) -> Iterator[tuple[Payload, int]]:
        """Yields the payload of each piece, which consists of spans of the payloads, and the memory that it uses."""

    @abstractmethod
    def merged(self, pieces: Sequence[Encoded]) -> Encoded:
        """Several pieces of the same directories as one, in their order."""

    @abstractmethod
    def open(self, sink: Sink, marker: bytes, background: Background = run_now) -> ObjectWriter:
        """Begins an object.

        Args:
            sink: Receives the object's bytes.
            marker: 16 random bytes: Avro's sync marker, and metadata of a Parquet file without an envelope.
            background: Runs the compression of text. It does not affect the bytes or their order.
        """


class Format(ABC, Generic[Settings]):
    """A file format with its settings. The table of the formats is `settings.formats.FORMATS`.

    The defaults here suit a format whose columns have types.
    """

    has_null_columns: ClassVar[bool] = False
    """Whether a field whose only declared type is null gets a column."""
    row_group_setting: ClassVar[str] = ""
    """The setting for the size, in MB of 2²⁰, of the rows held back in memory. Empty if no rows are held back."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @abstractmethod
    def encoder(self, contents: Contents, on_mismatch: OnMismatch) -> Encoder:
        """The encoder for one stream and sync. `on_mismatch` affects only formats whose columns have types."""

    @abstractmethod
    def read(self, record: Record, content: Content, written: Record, rows: RowFilter | None = None) -> pa.Table:
        """The records of one object, in its order, with the envelope columns and the fields of `record`.

        `written` is the record type with which the object was written. A format without types has names from it.
        Records that `rows` does not select may be left out, where that saves reading them.

        Raises:
            RecordError: The content is not in this format.
        """

    @property
    def has_fixed_positions(self) -> bool:
        """Whether readers find columns by their positions, so that a column stays when its property is gone."""
        return False

    def check_installed(self) -> None:
        """Raises MissingExtraError if the settings need an optional package that is not installed."""

    def stored_record(self, record: Record) -> Record:
        """The record type that the objects have."""
        return record

    def renamed(self, record: Record) -> dict[str, str]:
        """The root's fields that have another name in the objects than at the source, and these names."""
        return {each.source: each.name for each in record.fields if each.source != each.name}

    def diagnostics(self, record: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
        """The diagnostics of fields that the format does not keep as declared."""
        return column_diagnostics(record, self.stored_record(record), json_schema)

    def without_effect(self) -> Iterator[str]:
        """Yields a sentence for every setting that is accepted but has no effect."""
        return iter(())
