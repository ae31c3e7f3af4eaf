"""How the columns of a sync differ from those of the scope's last sync.

Must not know: S3, the stream's registry.
"""

from __future__ import annotations

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schema_differences import ColumnChange, Difference
from s3dest_dagster.columns.schemas import ENVELOPES, envelope_of, paths
from s3dest_dagster.commit.segment import Retyped, SchemaChanges
from s3dest_dagster.errors import SchemaContractError
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import EnvelopeName
from s3dest_dagster.settings.schema_contract import Verdict
from s3dest_dagster.stream import Stream

_ENVELOPE = "envelope"
"""The type of the envelope's columns, in words."""


def _column_types(record: Record) -> dict[str, str]:
    """The types of all columns in words, those of the envelope first."""
    return dict.fromkeys(envelope_of(record).names, _ENVELOPE) | dict(paths(record))


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


def envelope_changes(stream: Stream, destination: S3Destination, before: EnvelopeName) -> tuple[ColumnChange, ...]:
    """The columns of the envelope that come or go after a sync that had the envelope `before`.

    Raises:
        SchemaContractError: The stream's contract freezes that.
    """
    contract = stream.settings.schema_contract or destination.contract
    old, new = ENVELOPES[before].names, ENVELOPES[destination.envelope].names
    changes = [
        *(ColumnChange(Difference.NEW_COLUMN, (name,), "", _ENVELOPE) for name in new if name not in old),
        *(ColumnChange(Difference.MISSING_COLUMN, (name,), _ENVELOPE, "") for name in old if name not in new),
    ]
    for change in changes:
        if getattr(contract, change.difference) is Verdict.FREEZE:
            raise SchemaContractError(
                f"Stream {str(stream.id)!r}: envelope is {destination.envelope!r}, the last sync had another one, and "
                f"the stream's schema contract freezes {change.difference}. Nothing with the difference was published. "
                f"Take the former envelope back, or set {change.difference} of the schema_contract to 'evolve'.",
                stream=str(stream.id),
                field=change.field,
            )
    return tuple(changes)
