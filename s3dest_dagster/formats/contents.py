"""What the objects of a stream hold: its record type, and the texts that name it. It must not know any format."""

from __future__ import annotations

from dataclasses import dataclass

from s3dest_dagster.errors import SchemaError
from s3dest_dagster.schema import avro_schema_text, fingerprint, record_type
from s3dest_dagster.schema.json_schema import UnknownTypes
from s3dest_dagster.schema.types import Record
from s3dest_dagster.stream import Stream


@dataclass(frozen=True, slots=True)
class Contents:
    """A stream's record type, its Avro schema as canonical JSON text, and that text's SHA-256."""

    record: Record
    schema_text: str
    fingerprint: str


def contents_of(stream: Stream, *, unknown_types: UnknownTypes = "text") -> Contents:
    """Raises SchemaError when the stream has no JSON schema, or one that cannot be understood (see `record_type`)."""
    if stream.json_schema is None:
        raise SchemaError(
            f"Stream {str(stream.id)!r} has no JSON schema. Declare one, or have it taken from the first batch.",
            stream=str(stream.id),
        )
    record = record_type(stream.json_schema, stream.name, stream.namespace, unknown_types=unknown_types)
    return Contents(record, avro_schema_text(record), fingerprint(record))
