"""Objects of others, odd keys and very many objects: what is adopted, and that everything else stays as it is."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from connector_files import connector_file, envelope, user
from land_and_read import START, batch_of, sync, target
from servers import S3Server

from s3dest_dagster.adoption import (
    SearchRequest,
    expected_columns,
    search,
)
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.commit.registry import check_entries
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.storage import each_in_parallel
from s3dest_dagster.stream import Stream, SyncMode

from .conftest import SCOPE, USERS, Lake, settings_of


def avro_file(*fields: dict[str, Any], rows: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """An Avro file with the envelope of the connector and these columns."""
    before = [{"name": "_airbyte_ab_id", "type": "string"}, {"name": "_airbyte_emitted_at", "type": "long"}]
    schema = {"type": "record", "name": "users", "fields": [*before, *fields]}
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), [{**envelope("0.6", 1), **row} for row in rows])
    return file.getvalue()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (avro_file({"name": "id", "type": {"type": "enum", "name": "e", "symbols": ["A"]}}), "'enum'"),
        (avro_file({"name": "id", "type": {"type": "map", "values": "long"}}), "'map'"),
        (avro_file({"name": "next", "type": ["null", "users"]}), "'users'"),
        (avro_file().replace(b'"fields"', b'"nields"'), "none of the columns that the connector writes"),
        (avro_file().replace(b'"type": "string"', b'"type": [[[[5]]]] '), "cannot be read as Avro"),
        (avro_file()[:40], "cannot be read as Avro"),
    ],
    ids=["enum", "map", "recursive", "without fields", "broken type", "cut off"],
)
def test_an_avro_file_of_somebody_else_is_ambiguous_and_the_search_goes_on(
    moto_s3: S3Server, body: bytes, reason: str
) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "avro"), "avro")
    keys = lake.fill()
    odd = "data/public/users/2026_01_05_1767571200000_0.avro"
    lake.server.client().put_object(Bucket=lake.settings.s3_bucket_name, Key=odd, Body=body)
    found = lake.search()
    assert [each.listed.key for each in found.recognised] == keys
    (left,) = found.ambiguous
    assert left.key == odd
    assert reason in left.reason


def union_file(name: str, values: Sequence[Any]) -> bytes:
    """A file of the newer connector with the column `either`: in Parquet, a struct of the member's type and a member
    for each type."""
    meta = {"_airbyte_meta": {"sync_id": 1, "changes": []}}
    rows = [envelope("1", number) | meta | {"id": number, "either": value} for number, value in enumerate(values)]
    if name == "parquet":
        for row in rows:
            kind = "string" if isinstance(row["either"], str) else "integer"
            row["either"] = {"type": kind, "string": None, "integer": None} | {kind: row["either"]}
            row["_airbyte_extracted_at"] = START
        change = pa.struct([(each, pa.string()) for each in ("field", "change", "reason")])
        types = [
            ("_airbyte_raw_id", pa.string()),
            ("_airbyte_extracted_at", pa.timestamp("ms", "UTC")),
            ("_airbyte_meta", pa.struct([("sync_id", pa.int64()), ("changes", pa.list_(change))])),
            ("_airbyte_generation_id", pa.int64()),
            ("id", pa.int64()),
            ("either", pa.struct([("type", pa.string()), ("string", pa.string()), ("integer", pa.int64())])),
        ]
        file = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows, pa.schema(types)), file)
        return file.getvalue()
    change = {"type": "record", "name": "change", "fields": [{"name": "field", "type": "string"}]}
    changes = [{"name": "sync_id", "type": "long"}, {"name": "changes", "type": {"type": "array", "items": change}}]
    fields = [
        {"name": "_airbyte_raw_id", "type": "string"},
        {"name": "_airbyte_extracted_at", "type": "long"},
        {"name": "_airbyte_meta", "type": {"type": "record", "name": "meta", "fields": changes}},
        {"name": "_airbyte_generation_id", "type": "long"},
        {"name": "id", "type": ["null", "long"]},
        {"name": "either", "type": ["null", "string", "long"]},
    ]
    file = io.BytesIO()
    schema = fastavro.parse_schema({"type": "record", "name": "users", "fields": fields})
    fastavro.writer(file, schema, [{key: row[key] for key in (each["name"] for each in fields)} for row in rows])
    return file.getvalue()


@pytest.mark.parametrize("name", ["avro", "parquet"])
def test_unions_of_the_newer_connector_are_adopted_read_and_appended_to(moto_s3: S3Server, name: str) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, name), name)
    schema = adopted_unions(lake, either={"oneOf": [{"type": "string"}, {"type": "integer"}]})
    assert [row["either"] for row in lake.rows()] == in_members("text", 7)
    stream = Stream(name="users", namespace="public", json_schema=schema, sync_mode=SyncMode.APPEND)
    for number in (10, 11):
        with target(lake.server, lake.settings) as opened:
            land([batch_of([{"id": number, "either": number}])], opened, stream, sync(f"sync-{number}"))
    assert [row["either"] for row in lake.rows()] == in_members("text", 7, 10, 11)
    assert not verify(lake.bucket, lake.settings.template, SCOPE, deep=True).problems


def test_a_union_of_the_newer_connector_that_is_not_declared_is_an_object(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "parquet"), "parquet")
    adopted_unions(lake)
    assert [row["either"] for row in lake.rows()] == [
        {"type": "string", "string": "text", "integer": None, "_airbyte_additional_properties": None},
        {"type": "integer", "string": None, "integer": 7, "_airbyte_additional_properties": None},
    ]
    assert not verify(lake.bucket, lake.settings.template, SCOPE, deep=True).problems


def adopted_unions(lake: Lake, **properties: Any) -> dict[str, Any]:
    """Adopts a file of the newer connector in which `either` is a text and a number. Returns the declared schema."""
    schema = {"type": "object", "properties": {"id": {"type": "integer"}, **properties}}
    key = f"data/public/users/2026_01_04_1767484800000_0.{lake.format}"
    body = union_file(lake.format, ["text", 7])
    lake.server.client().put_object(Bucket=lake.settings.s3_bucket_name, Key=key, Body=body)
    entry = check_entries(lake.bucket, lake.settings, [USERS])[0]
    declared = {USERS: expected_columns(record_type(schema, "users", "public"), entry.columns_beside(None))}
    (found,) = search(lake.bucket, lake.settings, SearchRequest(declared=declared, deep=True))
    assert len(lake.adopt(found=found).objects) == 1
    return schema


def in_members(*values: Any) -> list[dict[str, Any]]:
    """The values as readers get them: in a member for each type."""
    is_text = [isinstance(each, str) for each in values]
    return [
        {"string": each if text else None, "integer": None if text else each}
        for each, text in zip(values, is_text, strict=True)
    ]


def test_thousands_of_objects_of_all_pages_of_a_listing_are_adopted(one_lake: Lake) -> None:
    body = connector_file("jsonl", "0.6", [user(1)])
    bucket = one_lake.bucket
    keys = [f"data/public/users/2026_01_04_1767484800000_{number}.jsonl.gz" for number in range(1_100)]
    list(each_in_parallel(lambda key: bucket.put(key, body), keys))
    assert len(one_lake.adopt().objects) == len(keys)
    assert len(one_lake.ids()) == len(keys)
    one_lake.land(SyncMode.FULL_REFRESH, 2)
    assert one_lake.ids() == [2]
    assert len(one_lake.keys()) == 1


def test_others_stay_byte_for_byte_beside_odd_keys(moto_s3: S3Server) -> None:
    """Adopting, appending, refreshing and retiring touch nothing that was not adopted."""
    lake = Lake(moto_s3, settings_of(moto_s3, "jsonl", s3_bucket_path="dä ta+%20"), "jsonl")
    mine = connector_file("jsonl", "0.6", [user(1)])
    prefix = "dä ta+%20/public/"
    own = f"{prefix}users/2026_01_04_1767484800000_0.jsonl.gz"
    others = [
        f"{prefix}users/2026_01_04_1767484800000_0.jsonl.gz.bak",
        f"{prefix}users/copy of 2026_01_04_1767484800000_0.jsonl.gz",
        f"{prefix}users//2026_01_04_1767484800000_0.jsonl.gz",
        f"{prefix}users/2026_01_04_1767484800000_0.jsonl.gz/part",
        f"{prefix}users/\U0001f4a5 & <x>?#'\".csv",
        f"{prefix}users",
        f"{prefix}users/",
        f"{prefix}users2/2026_01_04_1767484800000_0.jsonl.gz",
        f"{prefix}Users/2026_01_04_1767484800000_0.jsonl.gz",
        "public/users/2026_01_04_1767484800000_0.jsonl.gz",
    ]
    client, name = lake.server.client(), lake.settings.s3_bucket_name
    for key in (own, *others):
        client.put_object(Bucket=name, Key=key, Body=mine)
    before = {key: client.head_object(Bucket=name, Key=key)["LastModified"] for key in others}
    adoption = lake.adopt(deep=True)
    assert [each.listed.key for each in adoption.objects] == [own]
    lake.land(SyncMode.APPEND, 2)
    assert lake.ids() == [1, 2]
    lake.land(SyncMode.FULL_REFRESH, 3)
    assert lake.ids() == [3]
    for key in others:
        assert client.get_object(Bucket=name, Key=key)["Body"].read() == mine
        assert client.head_object(Bucket=name, Key=key)["LastModified"] == before[key]
