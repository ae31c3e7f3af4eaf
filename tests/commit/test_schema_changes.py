"""The receipt lists what changed in the columns of a stream since its last sync."""

from __future__ import annotations

from land_and_read import batches_of, destination, sync, target
from servers import S3Server

from s3dest_dagster.commit.segment import Retyped, SchemaChanges
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.stream import Stream

ADDRESS = {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}}
BEFORE = {"properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "address": ADDRESS}}
MOVED = {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "string"}}}
AFTER = {
    "properties": {
        "id": {"type": "number"},
        "address": MOVED,
        "tags": {"type": "array", "items": {"type": "object", **BEFORE}},
    }
}


def _stream(schema: dict) -> Stream:
    return Stream(name="users", json_schema=schema)


def test_added_removed_and_retyped_fields_are_reported_once(moto_s3: S3Server) -> None:
    with target(moto_s3, destination(moto_s3.new_bucket())) as opened:
        receipts = [
            land(batches_of([{"id": 1}]), opened, _stream(schema), sync(f"s{number}"))
            for number, schema in enumerate((BEFORE, BEFORE, AFTER, AFTER))
        ]
    changes = receipts[2].schema_changes
    assert changes == SchemaChanges(
        added=(
            "tags",
            "tags[]",
            "tags[].id",
            "tags[].name",
            "tags[].address",
            "tags[].address.city",
            "tags[].address.zip",
        ),
        removed=("name",),
        retyped=(Retyped("id", "integer", "number"), Retyped("address.zip", "integer", "string")),
    )
    assert [receipts[number].schema_changes for number in (0, 1, 3)] == [None, None, None]


def test_a_sync_without_records_keeps_the_schema(moto_s3: S3Server) -> None:
    with target(moto_s3, destination(moto_s3.new_bucket())) as opened:
        land(batches_of([{"id": 1}]), opened, _stream(BEFORE), sync("s1"))
        land([], opened, _stream(BEFORE), sync("s2"))
        changed = land(
            batches_of([{"id": 1}]), opened, _stream({"properties": {"id": {"type": "integer"}}}), sync("s3")
        )
    assert changed.schema_changes.removed == ("name", "address", "address.city", "address.zip")
