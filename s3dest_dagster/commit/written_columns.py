"""The columns with which the objects of a segment were written, and those that a stream has or had, as manifests record
them.

Must not know: S3, how columns change.
"""

from __future__ import annotations

from functools import lru_cache

import msgspec

from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.merged_columns import WrittenColumns
from s3dest_dagster.columns.record_json import record_from_json, record_to_json
from s3dest_dagster.columns.schema_differences import ENVELOPE
from s3dest_dagster.columns.schemas import envelope_of, paths
from s3dest_dagster.columns.stream_columns import StreamColumns
from s3dest_dagster.commit.segment import Retyped, SchemaChanges, Segment
from s3dest_dagster.settings.formats import format_class


def columns_text(record: Record) -> str:
    """A record type in the form in which a segment has it."""
    return msgspec.json.encode(record_to_json(record)).decode()


def written_columns(segment: Segment, key: str | None = None) -> WrittenColumns | None:
    """The columns of one object of a segment, or of its last object if no key is given.

    A segment that does not record its columns has those of its JSON schema. None if it has neither.
    """
    text = next((each.columns for each in segment.schema.earlier if key in each.keys), segment.schema.columns)
    record = record_of(text) if text is not None else _declared_record(segment)
    return WrittenColumns(record, is_typed=is_typed(segment)) if record is not None else None


def all_written_columns(segment: Segment) -> list[WrittenColumns]:
    """The columns of all objects of a segment, those of the last object last."""
    last = written_columns(segment)
    earlier = (WrittenColumns(record_of(each.columns), is_typed=is_typed(segment)) for each in segment.schema.earlier)
    return [*earlier, last] if last is not None else list(earlier)


def is_typed(segment: Segment) -> bool:
    """Whether the columns of the segment's objects have types."""
    return format_class(str(segment.format["format_type"])).is_typed


@lru_cache(8)
def columns_of_stream(text: str | None) -> StreamColumns:
    """The columns that a registry holds as text."""
    return StreamColumns.from_json(msgspec.json.decode(text)) if text is not None else StreamColumns()


def text_of_columns(columns: StreamColumns, before: str | None) -> str | None:
    """The columns of a stream as its registry holds them: the text `before` if that means the same."""
    same = columns == columns_of_stream(before)
    return before if same else msgspec.json.encode(columns.to_json()).decode()


def schema_changes(before: Record, now: Record) -> SchemaChanges:
    """The differences between two record types of a stream, as changes of its columns. Nested columns have dotted
    paths."""
    old, new = _column_types(before), _column_types(now)
    return SchemaChanges(
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        retyped=tuple(
            Retyped(name, old[name], type_) for name, type_ in new.items() if name in old and old[name] != type_
        ),
    )


def _column_types(record: Record) -> dict[str, str]:
    """The types of all columns in words, those of the envelope first."""
    return dict.fromkeys(envelope_of(record).names, ENVELOPE) | dict(paths(record))


def _declared_record(segment: Segment) -> Record | None:
    text, stream = segment.schema.json_schema, segment.location
    if text is None:
        return None
    return record_type(msgspec.json.decode(text), stream.stream, stream.namespace)


@lru_cache(64)
def record_of(text: str) -> Record:
    """The record type that a segment holds as text."""
    return record_from_json(msgspec.json.decode(text))
