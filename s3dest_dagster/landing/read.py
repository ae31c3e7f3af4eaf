"""A scope's records back from its objects, as its manifest lists them: whole generations, never a mixture.

The same columns whatever the format: the envelope, then the schema's fields. It must not list data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

import msgspec
import pyarrow as pa

from s3dest_dagster.destination import AvroFormat, CsvFormat, FormatSettings, JsonlFormat, ParquetFormat
from s3dest_dagster.errors import ObjectNotFoundError, SchemaError
from s3dest_dagster.formats import read_table, table_schema
from s3dest_dagster.keys import KeyTemplate, scope_root
from s3dest_dagster.landing.ledger import Ledger
from s3dest_dagster.landing.manifest import LandedObject, LandedSync, Segment
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream

_ATTEMPTS = 3
_FORMATS: dict[str, type[FormatSettings]] = {
    "Avro": AvroFormat,
    "Csv": CsvFormat,
    "Jsonl": JsonlFormat,
    "Parquet": ParquetFormat,
}


@dataclass(frozen=True, slots=True)
class LiveObject:
    """An object that the scope holds, the sync that landed it, and the segment that tells how to read it."""

    segment: Segment
    sync: LandedSync
    item: LandedObject


def live_objects(bucket: Bucket, template: KeyTemplate, scope: Scope) -> list[LiveObject]:
    """What the scope holds now, oldest sync first. `scope` with its stream's name as it stands in the bucket."""
    ledger = Ledger(bucket, scope_root(template, scope), scope)
    return [
        LiveObject(segment, sync, item)
        for segment in ledger.visible_segments()
        for sync in segment.syncs
        for item in sync.objects
    ]


def read_tables(bucket: Bucket, template: KeyTemplate, scope: Scope) -> Iterator[pa.Table]:
    """The scope's records, an object at a time.

    When a refresh deletes an object under the reader, it starts again if it has given nothing out yet, else it raises
    ObjectNotFoundError.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        given = False
        try:
            for each in live_objects(bucket, template, scope):
                table = _table_of(bucket, each)
                given = True
                yield table
            return
        except ObjectNotFoundError:
            if given or attempt == _ATTEMPTS:
                raise


def read_scope(bucket: Bucket, template: KeyTemplate, scope: Scope) -> pa.Table | None:
    """All records of the scope as one table; None when it holds none. Fields missing in older syncs are null."""
    tables = list(read_tables(bucket, template, scope))
    return pa.concat_tables(tables, promote_options="permissive") if tables else None


def scope_schema(bucket: Bucket, template: KeyTemplate, scope: Scope) -> pa.Schema | None:
    """The columns of all that the scope holds; None when nothing was ever landed there.

    Without columns when no record was. Raises SchemaError when a field has types that no one type can hold.
    """
    segments = Ledger(bucket, scope_root(template, scope), scope).visible_segments()
    if not segments:
        return None
    schemas = {each.fingerprint: stream_of(each) for each in segments if each.json_schema is not None}
    return unified(map(table_schema, schemas.values()), str(scope))


def unified(schemas: Iterable[pa.Schema], what: str) -> pa.Schema:
    """The columns of all of them, of the wider type where types differ. `what` is named where there is none."""
    try:
        return pa.unify_schemas([pa.schema([]), *schemas], promote_options="permissive")
    except pa.ArrowException as error:
        raise SchemaError(
            f"{what} cannot be read as one table, since its syncs had different schemas: {error}. Land it anew by a "
            "full refresh, or read its objects one by one.",
            stream=what,
        ) from error


def _table_of(bucket: Bucket, each: LiveObject) -> pa.Table:
    found = bucket.get(each.item.key)
    if found is None:
        raise ObjectNotFoundError(
            f"{bucket.uri(each.item.key)} is gone although the manifest of sync {each.sync.sync_id} lists it. "
            "A newer sync may have replaced it: read again. Otherwise `s3dest verify` tells what else is missing.",
            stream=each.segment.stream,
            partition=each.segment.partition,
            key=each.item.key,
        )
    return read_table(format_of(each.segment), stream_of(each.segment), found[0])


def format_of(segment: Segment) -> FormatSettings:
    """The format's settings that the segment's objects were written with."""
    kind = _FORMATS[str(segment.format["format_type"])]
    known = {each.name for each in fields(kind)}
    return kind(**{name: value for name, value in segment.format.items() if name in known})  # type: ignore[arg-type]


def stream_of(segment: Segment) -> Stream:
    """The stream as it was when the segment was written."""
    schema = msgspec.json.decode(segment.json_schema) if segment.json_schema is not None else None
    return Stream(
        name=segment.stream,
        namespace=segment.namespace,
        json_schema=schema,
        sync_mode=segment.sync_mode,  # type: ignore[arg-type]
    )
