"""How the columns of a sync differ from those of the scope's last sync.

Must not know: S3, the stream's registry.
"""

from __future__ import annotations

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schema_differences import ENVELOPE
from s3dest_dagster.columns.schemas import envelope_of, paths
from s3dest_dagster.commit.segment import Retyped, SchemaChanges


def _column_types(record: Record) -> dict[str, str]:
    """The types of all columns in words, those of the envelope first."""
    return dict.fromkeys(envelope_of(record).names, ENVELOPE) | dict(paths(record))


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
