"""What every format offers: an encoder per stream and sync, a writer per object. It must not know any single format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import pyarrow as pa

from s3dest_dagster.batch import Batch, Tally
from s3dest_dagster.columns.json_schema import UnknownTypes, record_type
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.schemas import avro_schema_text, fingerprint
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.stream import Stream

Sink = Callable[[bytes], object]
"""Takes an object's bytes as they come, in order."""

Aside = Callable[[Callable[[], bytes]], Callable[[], bytes]]
"""Begins work aside, on a thread that is free; what it returns waits for the outcome. The work is pure, and needs the
interpreter's lock for little of its time."""


def at_once(work: Callable[[], bytes]) -> Callable[[], bytes]:
    """Does the work here and now."""
    outcome = work()
    return lambda: outcome


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch, ready to be written into any object of its stream.

    `payload` is private to the format. `nbytes` is the memory that it holds.
    """

    rows: int
    payload: bytes | list[bytes] | pa.RecordBatch
    nbytes: int
    tally: Tally = field(default_factory=Tally)


class ObjectWriter(Protocol):
    """One object being written; used by one thread at a time. Without `close` the object is incomplete."""

    @property
    def buffered(self) -> int:
        """Bytes of rows held back in memory (a Parquet row group); 0 for formats that hold none back."""

    @property
    def aside(self) -> int:
        """Bytes that are being worked on aside, or wait for it; they reach the sink with the next batch or the end."""

    def write(self, encoded: Encoded) -> None:
        """Appends a batch; bytes go to the sink as they come."""

    def flush_rows(self) -> None:
        """Gives up the rows held back, which cuts a row group short; nothing where none are."""

    def close(self) -> None:
        """Completes the object: what is held back, and the footer or trailer."""


class Encoder(Protocol):
    """A stream's records → bytes, for one sync.

    `extension` has its leading dot. `schema_text` is the Avro schema of the stream's records as JSON text, whatever
    the format, and `fingerprint` its SHA-256: equal fingerprints mean objects of equal columns. `holds_lock`: encoding
    has the interpreter's lock most of its time, so that a second thread gains nothing by it.
    """

    @property
    def extension(self) -> str: ...

    @property
    def schema_text(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def holds_lock(self) -> bool: ...

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        """Everything that can run in parallel: pure, may be called from several threads at once.

        `entropy` is 16 random bytes per record, for its id. Raises RecordError for a record that cannot be landed.
        """

    def open(self, sink: Sink, marker: bytes, aside: Aside = at_once) -> ObjectWriter:
        """Begins an object. `marker` is 16 random bytes (Avro's sync marker; the other formats ignore it). What can be
        done `aside` is (the compression of text); the bytes and their order are the same."""


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
