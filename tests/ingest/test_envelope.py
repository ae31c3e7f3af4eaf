"""A stream can land without an envelope. The manifest says so, and a change is a change of the columns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from land_and_read import START, batch_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.errors import SchemaContractError, SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, JsonlFormat, ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, SyncMode

APPENDED = stream(mode=SyncMode.APPEND)
SCOPE = Scope(APPENDED.id)
FORMATS = [JsonlFormat(), CsvFormat(), CsvFormat(flattening=Flattening.ROOT), AvroFormat(), ParquetFormat()]
ENVELOPE = ("_airbyte_ab_id", "_airbyte_emitted_at")


def _land(server: S3Server, place: S3Destination, rows: list[dict[str, Any]], sync_id: str) -> Receipt:
    with target(server, place) as opened:
        return land([batch_of(rows)], opened, APPENDED, sync(sync_id))


def _rows(bucket: Bucket, place: S3Destination) -> list[dict[str, Any]]:
    table = read_scope(bucket, place.template, SCOPE)
    assert table is not None
    return table.drop_columns(["_airbyte_additional_properties"]).to_pylist()


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_two_syncs_without_an_envelope_are_read_back_and_verified(moto_s3: S3Server, settings: Any) -> None:
    place = destination(moto_s3.new_bucket(), format=settings, envelope="none")
    for number, rows in enumerate((users(1, 3), users(4, 5))):
        receipt = _land(moto_s3, place, rows, f"{number}")
        assert receipt.schema_changes is None
    bucket = Bucket(moto_s3.client(), place.s3_bucket_name)
    assert _rows(bucket, place) == users(1, 5)
    assert list(verify(bucket, place.template, SCOPE, deep=True).problems) == []
    newest = CommitLog.of(bucket, place.template, SCOPE)
    assert [each.schema.envelope for each in newest.visible_segments(newest.read_head().head)] == ["none"]


@pytest.mark.parametrize("settings", FORMATS, ids=repr)
def test_a_change_of_the_envelope_is_reported_and_both_are_read(moto_s3: S3Server, settings: Any) -> None:
    bucket_name = moto_s3.new_bucket()
    places = [
        destination(bucket_name, format=settings, envelope=each) for each in ("airbyte_0", "none", "airbyte_0", "none")
    ]
    receipts = [_land(moto_s3, place, users(n, n), f"{n}") for n, place in enumerate(places)]
    changes = [each.schema_changes for each in receipts]
    assert changes[0] is None
    assert [(each.added, each.removed) for each in changes[1:] if each] == [
        ((), ENVELOPE),
        (ENVELOPE, ()),
        ((), ENVELOPE),
    ]
    rows = _rows(Bucket(moto_s3.client(), bucket_name), places[0])
    assert [{"id": row["id"], "name": row["name"]} for row in rows] == users(0, 3)
    assert [row["_airbyte_ab_id"] is None for row in rows] == [False, True, False, True]


def test_a_text_whose_keys_recur_needs_its_envelope() -> None:
    recurring = {"file_name_pattern": "latest{format_extension}", "s3_path_format": "${STREAM_NAME}/"}
    for settings in (JsonlFormat(), CsvFormat()):
        with pytest.raises(SettingsError, match="keys recur") as refused:
            destination("bucket", envelope="none", format=settings, **recurring)
        assert refused.value.setting == "envelope"
        destination("bucket", format=settings, **recurring)
        destination("bucket", envelope="none", format=settings)


@pytest.mark.parametrize("settings", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
def test_the_same_records_under_a_recurring_key_have_another_etag(moto_s3: S3Server, settings: Any) -> None:
    place = destination(
        moto_s3.new_bucket(),
        envelope="none",
        format=settings,
        s3_path_format="${STREAM_NAME}/",
        file_name_pattern="latest{format_extension}",
    )
    etags = set()
    for number in range(2):
        with target(moto_s3, place) as opened:
            receipt = land([batch_of(users(1, 2))], opened, stream(), sync(f"{number}", START))
        etags.add(Bucket(moto_s3.client(), place.s3_bucket_name).head(receipt.objects[0].key).etag)
    assert len(etags) == 2


@pytest.mark.parametrize(
    ("before", "now", "frozen"), [("none", "airbyte_0", "new_column"), ("airbyte_0", "none", "missing_column")]
)
def test_a_contract_that_freezes_columns_refuses_a_change_of_the_envelope(
    moto_s3: S3Server, before: Any, now: Any, frozen: str
) -> None:
    place = destination(moto_s3.new_bucket(), format=ParquetFormat(), envelope=before)
    _land(moto_s3, place, users(1, 1), "first")
    changed = replace(place, envelope=now, schema_contract={frozen: "freeze"})
    with pytest.raises(SchemaContractError, match=f"freezes {frozen}.*'{ENVELOPE[0]}' of the envelope"):
        _land(moto_s3, changed, users(2, 2), "second")
    with (
        target(moto_s3, changed) as opened,
        pytest.raises(SchemaContractError, match="Take the former envelope back"),
    ):
        plan(opened, [APPENDED], sync("plan"))
    assert _rows(Bucket(moto_s3.client(), place.s3_bucket_name), place)[0]["id"] == 1
    _land(moto_s3, replace(place, schema_contract="freeze"), users(2, 2), "second")
    for schema in (APPENDED.json_schema, None):
        with target(moto_s3, replace(changed, schema_contract="discard")) as opened:
            (planned,) = plan(opened, [replace(APPENDED, json_schema=schema)], sync("plan")).streams
        assert [(each.field, each.difference, each.verdict) for each in planned.column_changes] == [
            (name, frozen, "evolve") for name in ENVELOPE
        ]
    assert _land(moto_s3, replace(changed, schema_contract="evolve"), users(3, 3), "third").schema_changes is not None
