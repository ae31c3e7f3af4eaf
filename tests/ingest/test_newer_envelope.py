"""Streams land with the newer envelope from every source, and readers of streams with several envelopes get one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from land_and_read import batch_of, data_keys, destination, sync, target, users
from servers import S3Server

from s3dest_dagster import SqlSource
from s3dest_dagster.batch import BadRecord, Batch, StreamBatch
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.errors import SchemaContractError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.read_limit import ReadLimit
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.record_changes import Change
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.shards import begin, commit, stage
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.sources.files import FileSource
from s3dest_dagster.sources.python import batches_and_bad_records
from s3dest_dagster.stream import Generation, Scope, Stream, Sync, SyncMode

SCHEMA = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "x": {"type": "number"}, "day": {"type": "string", "format": "date"}},
}
STREAM = Stream(name="users", namespace="public", json_schema=SCHEMA, sync_mode=SyncMode.APPEND)
SCOPE = Scope(STREAM.id)
ROWS: list[dict[str, Any]] = [
    {"id": 1, "x": 1.5, "day": "2026-01-05"},
    {"id": 2, "x": math.nan, "day": "2026-01-05"},
    {"id": 3, "x": 0.5, "day": "soon"},
]
NOT_FINITE = Change("x", "NULLED", "DESTINATION_SERIALIZATION_ERROR")
NO_DAY = Change("day", "NULLED", "DESTINATION_SERIALIZATION_ERROR")
TOO_LONG = Change("note", "TRUNCATED", "SOURCE_FIELD_SIZE_LIMITATION")
FLAT = Flattening.ROOT
FORMATS = [JsonlFormat(), CsvFormat(), CsvFormat(flattening=FLAT), AvroFormat(), ParquetFormat()]
OLDER = ("_airbyte_ab_id", "_airbyte_emitted_at")
NEWER = ("_airbyte_raw_id", "_airbyte_extracted_at", "_airbyte_meta", "_airbyte_generation_id")
Items = Iterable[StreamBatch | BadRecord | Batch]


def _place(server: S3Server, format_: Any = None, **settings: Any) -> S3Destination:
    chosen = {"format": format_ or ParquetFormat(), "envelope": "airbyte_1", "on_non_finite": "null"}
    return destination(server.new_bucket(), **chosen | settings)


def _land(server: S3Server, place: S3Destination, items: Items, of_sync: Sync, of: Stream = STREAM) -> Receipt:
    own = (item.batch if isinstance(item, StreamBatch) else item for item in items)
    with target(server, place) as opened:
        return land(own, opened, of, of_sync)


def _rows(server: S3Server, place: S3Destination) -> list[dict[str, Any]]:
    table = read_scope(server.open(place), place.template, SCOPE)
    assert table is not None
    return sorted(table.to_pylist(), key=lambda row: row["id"])


def _changes(row: dict[str, Any]) -> list[Change]:
    return [Change(**each) for each in row["_airbyte_meta"]["changes"]]


# ---------------------------------------------------------------------- every source


def _messages(folder: Path) -> Items:
    records = ({"stream": "users", "namespace": "public", "emitted_at": 7, "data": row} for row in ROWS)
    lines = (json.dumps({"type": "RECORD", "record": each}) + "\n" for each in records)
    return read_messages(BytesIO("".join(lines).encode()), [STREAM.id])


def _file(folder: Path) -> Items:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return FileSource(str(folder / "*.jsonl")).read(emitted_at=lambda: 7)


def _dicts(folder: Path) -> Items:
    return batches_and_bad_records(ROWS, emitted_at=lambda: 7)


def _table(folder: Path) -> Items:
    return batches_and_bad_records(pa.Table.from_pylist(ROWS), emitted_at=lambda: 7)


def _sql(folder: Path) -> Items:
    path = folder / "shop.duckdb"
    path.unlink(missing_ok=True)
    with duckdb.connect(str(path)) as connection:
        connection.execute("create table users (id bigint, x double, day varchar)")
        connection.executemany("insert into users values (?, ?, ?)", [list(row.values()) for row in ROWS])
    return list(SqlSource(f"duckdb:///{path}", table="users").read())


@pytest.mark.parametrize("road", [_messages, _file, _dicts, _table, _sql])
@pytest.mark.parametrize("settings", [CsvFormat(flattening=FLAT), ParquetFormat()], ids=["csv", "parquet"])
def test_records_of_every_source_tell_what_became_null(
    moto_s3: S3Server, tmp_path: Path, road: Callable[[Path], Items], settings: Any
) -> None:
    place = _place(moto_s3, settings)
    for number in ("7", "8"):
        receipt = _land(moto_s3, place, road(tmp_path), sync(number))
        assert receipt.counts.landed == 3
    rows = _rows(moto_s3, place)
    by_format = [NO_DAY] if settings.is_typed else []
    assert [_changes(row) for row in rows] == [each for each in ([], [NOT_FINITE], by_format) for _ in range(2)]
    assert [row["_airbyte_meta"]["sync_id"] for row in rows] == [7, 8] * 3
    assert {row["_airbyte_generation_id"] for row in rows} == {0}
    assert list(verify(moto_s3.open(place), place.template, SCOPE, deep=True).problems) == []


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_the_numbers_of_the_catalog_are_in_every_record(moto_s3: S3Server, settings: Any) -> None:
    place = _place(moto_s3, settings)
    for number in (13, 14):
        of = replace(STREAM, generation=Generation(number, sync_id=100 + number))
        for _ in range(2):
            _land(moto_s3, place, [batch_of([{"id": number}])], sync(f"sync of {number}"), of)
    found = [
        (row["id"], row["_airbyte_generation_id"], row["_airbyte_meta"]["sync_id"]) for row in _rows(moto_s3, place)
    ]
    assert found == [(13, 13, 113), (14, 14, 114)]


@pytest.mark.parametrize(
    ("sync_id", "number"),
    [("0", 0), ("42", 42), ("999999999999999", 10**15 - 1)]
    + [(text, int(sha256(text.encode()).hexdigest()[:13], 16)) for text in ("0042", "1000000000000000", "-1", "run 5")],
)
def test_without_a_catalog_the_sync_gives_its_number(moto_s3: S3Server, sync_id: str, number: int) -> None:
    assert sync(sync_id).number == number < 2**53
    place = _place(moto_s3)
    _land(moto_s3, place, [batch_of([{"id": 1}])], sync(sync_id), replace(STREAM, generation=Generation(3)))
    (row,) = _rows(moto_s3, place)
    assert (row["_airbyte_meta"]["sync_id"], row["_airbyte_generation_id"]) == (number, 3)


def test_all_workers_of_an_order_write_the_same_numbers(moto_s3: S3Server) -> None:
    place = _place(moto_s3)
    bucket, of = moto_s3.open(place), replace(STREAM, generation=Generation(5, sync_id=6))
    with target(moto_s3, place) as opened:
        order = begin(opened, of, sync("ordered"))
    receipts = [stage(order, [{"id": shard, "day": "x"}], shard=shard, s3=bucket) for shard in (1, 2)]
    commit(order, receipts, shards=[1, 2], s3=bucket)
    for row in _rows(moto_s3, place):
        assert (row["_airbyte_meta"]["sync_id"], row["_airbyte_generation_id"], _changes(row)) == (6, 5, [NO_DAY])


# ---------------------------------------------------------------------- changes on the way


def test_changes_stay_with_their_records_on_the_way(moto_s3: S3Server) -> None:
    """Directories, private fields and limits make other batches of a batch."""
    place = _place(moto_s3, s3_path_format="${STREAM_NAME}/${FIELDS}/")
    settings = {"partition_by": ["day"], "fields": {"mask": ["note"]}}
    properties = {**SCHEMA["properties"], "note": {"type": "string"}}  # type: ignore[dict-item]
    of = Stream(name="users", namespace="public", json_schema={"properties": properties}, settings=settings)  # type: ignore[arg-type]
    records = [{"id": number, "day": f"2026-01-0{1 + number % 2}", "note": "x"} for number in range(9)]
    batch = replace(batch_of(records), changes=dict.fromkeys((1, 4, 8), (TOO_LONG,)))
    limit = ReadLimit(8, None, lambda: 0.0)
    _land(moto_s3, place, limit.limited([batch], of.id), sync("limited"), of)
    assert [row["id"] for row in _rows(moto_s3, place) if _changes(row)] == [1, 4]


# ---------------------------------------------------------------------- several envelopes


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_readers_get_the_names_of_the_newest_envelope(moto_s3: S3Server, settings: Any) -> None:
    place = _place(moto_s3, settings)
    seen: list[tuple[list[str], list[tuple[bool, int | None]]]] = []
    for number, envelope in enumerate(["airbyte_0", "airbyte_1", "none", "airbyte_0", "airbyte_1"]):
        _land(moto_s3, replace(place, envelope=envelope), [batch_of([{"id": number}])], sync(str(number)))
        rows = _rows(moto_s3, place)
        names = [name for name in rows[0] if name in OLDER + NEWER]
        ids = [(row[names[0]] is not None, (row.get("_airbyte_meta") or {}).get("sync_id")) for row in rows]
        seen.append((names, ids))
    older, newer, own = (True, None), (False, None), list(OLDER)
    assert seen == [
        (own, [older]),
        (list(NEWER), [older, (True, 1)]),
        (list(NEWER), [older, (True, 1), newer]),
        (own, [older, older, newer, older]),
        (list(NEWER), [older, (True, 1), newer, older, (True, 4)]),
    ]
    assert list(verify(moto_s3.open(place), place.template, SCOPE, deep=True).problems) == []


def test_a_field_of_the_source_is_not_taken_for_a_column_of_another_envelope(moto_s3: S3Server) -> None:
    """Under the older envelope, the source may have a field with a name of the newer one."""
    own = {"properties": {"id": {"type": "integer"}, "_airbyte_raw_id": {"type": "string"}}}
    place = _place(moto_s3)
    record = {"id": 1, "_airbyte_raw_id": "mine"}
    _land(
        moto_s3, replace(place, envelope="airbyte_0"), [batch_of([record])], sync("1"), replace(STREAM, json_schema=own)
    )
    (row,) = _rows(moto_s3, place)
    assert (row["_airbyte_raw_id"], len(row["_airbyte_ab_id"])) == ("mine", 36)


def test_a_change_of_the_envelope_is_a_change_of_columns_that_a_contract_may_freeze(moto_s3: S3Server) -> None:
    place = _place(moto_s3)
    _land(moto_s3, replace(place, envelope="airbyte_0"), [batch_of(users(1, 1))], sync("1"))
    for frozen, name in (("new_column", NEWER[0]), ("missing_column", OLDER[0])):
        with pytest.raises(SchemaContractError, match=f"freezes {frozen}.*'{name}' of the envelope"):
            _land(moto_s3, replace(place, schema_contract={frozen: "freeze"}), [batch_of(users(2, 2))], sync("2"))
    receipt = _land(moto_s3, place, [batch_of(users(2, 2))], sync("2"))
    assert receipt.schema_changes is not None
    assert (receipt.schema_changes.added, receipt.schema_changes.removed) == (NEWER, OLDER)
    commit_log = CommitLog.of(moto_s3.open(place), place.template, SCOPE)
    live = commit_log.live_segments(commit_log.read_head().head)
    assert [each.schema.envelope for each in live] == ["airbyte_0", "airbyte_1"]


# ---------------------------------------------------------------------- what is said of the columns


def test_every_field_of_a_parquet_file_has_an_id_of_its_own(moto_s3: S3Server) -> None:
    place = _place(moto_s3)
    _land(moto_s3, place, [batch_of([{"id": 1}])], sync("1"))
    (key,) = data_keys(moto_s3, place.s3_bucket_name)
    found = moto_s3.open(place).get(key)
    assert found is not None
    shown = str(pq.ParquetFile(BytesIO(found[0])).schema)
    ids = [part.partition(" ")[0] for part in shown.split("field_id=")[2:]]
    own = [each for each in ids if each != "-1"]  # which stands for the groups that Parquet needs around items
    assert len(own) == len(set(own)) == 16
    assert len(ids) - len(own) == 2  # one for the changes, and one for the overflow


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CsvFormat(flattening=FLAT), ["string", "string", "string", "string"]),
        (JsonlFormat(), ["string", "string", "struct<`sync_id`:bigint,", "bigint"]),
        (ParquetFormat(), ["string", "timestamp", "struct<`sync_id`:bigint,", "bigint"]),
    ],
    ids=["csv", "jsonl", "parquet"],
)
def test_the_statement_for_athena_has_the_columns_of_the_envelope(
    moto_s3: S3Server, settings: Any, expected: list[str]
) -> None:
    place = _place(moto_s3, settings, s3_path_format="${STREAM_NAME}/${FIELDS}/")
    of = replace(STREAM, settings={"partition_by": ["id"]})
    with target(moto_s3, place) as opened:
        (planned,) = plan(opened, [of], sync("plan")).streams
    statement = next(each.text for each in planned.readers if each.reader == "Athena")
    for name, type_ in zip(NEWER, expected, strict=True):
        assert f"`{name}` {type_}" in statement
