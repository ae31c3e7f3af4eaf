"""Objects that the connector has left, in every format and of both eras, become the stream's own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from connector_files import EXTENSIONS, GENERATION_ID, SCHEMA, connector_file, user
from failing_clients import FailingClient, OvertakenClient
from land_and_read import START, batch_of, sync, target
from servers import S3Server

from s3dest_dagster.adoption import (
    SearchRequest,
    forget_adopted,
    search,
)
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.commit.registry import check_entries
from s3dest_dagster.commit.retirement import content_of, restore, retire
from s3dest_dagster.commit.stream_transfer import NewName, move_stream
from s3dest_dagster.errors import CommitError, OwnershipError, S3DestError, SettingsError, SupersededError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import live_objects
from s3dest_dagster.inspection.verify import stray_keys, verify
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Generation, Stream, StreamId, SyncMode

from .conftest import FOREIGN, OTHERS, SCOPE, STREAM, USERS, Lake, settings_of

# ---------------------------------------------------------------------- every format


def test_objects_of_both_eras_are_read_as_one_table(lake: Lake) -> None:
    keys = lake.fill()
    adoption = lake.adopt()
    assert [each.listed.key for each in adoption.objects] == keys
    rows = lake.rows()
    assert [(row["id"], row["name"], row["price"], row["tags"]) for row in rows] == [
        (number, f"user {number}", number + 0.5, ["a", "b"]) for number in range(1, 6)
    ]
    assert {str(row["born"]) for row in rows} == {"2001-02-03"}


def test_ids_and_times_of_both_eras_are_in_one_column(lake: Lake) -> None:
    lake.fill()
    lake.adopt()
    lake.land(SyncMode.APPEND, 6)
    for row in lake.rows():
        assert len(row["_airbyte_ab_id"]) == 36
        assert row["_airbyte_emitted_at"].year == 2026
        assert "_airbyte_raw_id" not in row


def test_what_the_newer_connector_says_of_a_record_is_read(lake: Lake) -> None:
    lake.put("data/public/users/2026_01_06_1767657600000_0", "1", [user(3)])
    lake.adopt()
    (row,) = lake.rows()
    assert row["_airbyte_meta"]["sync_id"] == 42
    assert [each["change"] for each in row["_airbyte_meta"]["changes"]] == ["TRUNCATED"]
    assert row["_airbyte_generation_id"] == GENERATION_ID


def test_adopted_objects_are_verified_by_content(lake: Lake) -> None:
    lake.fill()
    lake.adopt(deep=True)
    verified = verify(lake.bucket, lake.settings.template, SCOPE, deep=True)
    assert (verified.problems, verified.objects, verified.rows, verified.uncounted) == ((), 3, 5, 0)


def test_an_append_adds_to_adopted_objects(lake: Lake) -> None:
    keys = lake.fill()
    lake.adopt()
    lake.land(SyncMode.APPEND, 6)
    lake.land(SyncMode.APPEND, 7)
    assert lake.ids() == [1, 2, 3, 4, 5, 6, 7]
    assert set(keys) < set(lake.keys())
    assert not verify(lake.bucket, lake.settings.template, SCOPE, deep=True).problems


def test_a_full_refresh_replaces_adopted_objects_and_nothing_else(lake: Lake) -> None:
    keys = lake.fill()
    lake.adopt()
    receipt = lake.land(SyncMode.FULL_REFRESH, 9)
    assert sorted(receipt.removed) == sorted(keys)
    assert lake.ids() == [9]
    assert lake.keys() == sorted([FOREIGN, OTHERS.format(EXTENSIONS[lake.format]), receipt.objects[0].key])


def test_nothing_is_adopted_twice(lake: Lake) -> None:
    lake.fill()
    lake.adopt()
    assert not lake.search().recognised
    assert not lake.adopt().objects
    assert lake.ids() == [1, 2, 3, 4, 5]


def test_what_was_adopted_is_forgotten_and_not_deleted(lake: Lake) -> None:
    keys = lake.fill()
    before = lake.keys()
    lake.adopt()
    assert [each.key for each in forget_adopted(lake.bucket, lake.settings, USERS)] == keys
    assert lake.keys() == before
    assert lake.ids() == []
    assert not forget_adopted(lake.bucket, lake.settings, USERS)
    assert len(lake.adopt().objects) == 3
    assert lake.ids() == [1, 2, 3, 4, 5]


# ---------------------------------------------------------------------- what is recognised


def test_a_search_changes_nothing_and_tells_recognised_from_foreign(one_lake: Lake) -> None:
    keys = one_lake.fill()
    before = list(one_lake.bucket.list_objects(""))
    found = one_lake.search()
    assert [each.listed.key for each in found.recognised] == keys
    assert found.foreign == (FOREIGN,)
    assert [each.generation_id for each in found.recognised] == [None, GENERATION_ID, GENERATION_ID]
    assert [each.rows for each in found.recognised] == [None, None, None]
    assert list(one_lake.bucket.list_objects("")) == before


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"s3_bucket_path": ""}, "/public/users/2026_01_04_1767484800000_0.jsonl.gz"),
        ({"s3_bucket_path": ""}, "/public/users/2026_01_04_1767484800000_0.jsonl.gz-1"),
        ({}, "data/public/users/2026_01_04_1767484800000_8f14e45f-ceea-467f-a9f0-5d2b6c1c3f3e.jsonl.gz"),
        ({}, "data/public/users/2026_01_04_1767484800000_1234.jsonl.gz-12"),
        (
            {"file_name_pattern": "{timestamp:micros}_{part_number}{format_extension}"},
            "data/public/users/2026_01_04_1767484800000_{timestamp:micros}_0.jsonl.gz",
        ),
    ],
)
def test_every_spelling_of_the_connector_is_adopted_and_replaced(moto_s3: S3Server, settings, key: str) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "jsonl", **settings), "jsonl")
    body = connector_file("jsonl", "0.6", [user(1)])
    moto_s3.client().put_object(Bucket=lake.settings.s3_bucket_name, Key=key, Body=body)
    assert [each.listed.key for each in lake.adopt().objects] == [key]
    assert lake.ids() == [1]
    assert lake.land(SyncMode.FULL_REFRESH, 2).removed == (key,)
    assert lake.ids() == [2]
    assert len(lake.keys()) == 1


def test_a_name_whose_letters_the_connector_loses_is_adopted(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "jsonl"), "jsonl")
    lake.put("data/public/___/2026_01_04_1767484800000_0", "0.6", [user(1)])
    one, other = StreamId("public", "用户表"), StreamId("public", "支付表")
    assert len(lake.search(streams=[one]).recognised) == 1
    found = lake.search(streams=[one, other])
    assert not found.recognised
    assert "another stream of the catalog has such keys, too" in found.ambiguous[0].reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "it has no record"),
        (b'{"id": 1}\n', "none of the columns that the connector writes"),
        (b"no json\n", "cannot be read as JSONL"),
        (connector_file("flat jsonl", "0.6", [user(1)]), "its records are flattened"),
    ],
)
def test_an_object_that_is_not_as_the_settings_say_is_ambiguous(one_lake: Lake, body: bytes, reason: str) -> None:
    key = "data/public/users/2026_01_04_1767484800000_0.jsonl.gz"
    one_lake.server.client().put_object(Bucket=one_lake.settings.s3_bucket_name, Key=key, Body=body)
    found = one_lake.search()
    assert not found.recognised
    assert reason in found.ambiguous[0].reason


def test_an_object_of_another_format_is_ambiguous(one_lake: Lake) -> None:
    key = "data/public/users/2026_01_04_1767484800000_0.parquet"
    one_lake.server.client().put_object(Bucket=one_lake.settings.s3_bucket_name, Key=key, Body=b"PAR1")
    (left,) = one_lake.search().ambiguous
    assert "the settings say JSONL, and it has another format" in left.reason


def test_only_one_layout_is_adopted_if_the_request_says_so(one_lake: Lake) -> None:
    keys = one_lake.fill()
    found = one_lake.search(envelope="airbyte_1")
    assert [each.listed.key for each in found.recognised] == keys[1:]
    assert found.ambiguous[0].reason == "it has the columns of the other layout"


def test_objects_of_a_lost_manifest_are_ambiguous(one_lake: Lake) -> None:
    one_lake.land(SyncMode.APPEND, 1)
    bucket = one_lake.bucket
    bucket.delete([each.key for each in bucket.list_objects("data/_s3dest/")])
    (left,) = one_lake.search().ambiguous
    assert "a sync of s3dest wrote it" in left.reason


def test_a_damaged_object_is_found_by_reading_all_of_it(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "csv"), "csv")
    key = "data/public/users/2026_01_04_1767484800000_0.csv.gz"
    body = connector_file("csv", "0.6", list(map(user, range(5_000))))
    moto_s3.client().put_object(Bucket=lake.settings.s3_bucket_name, Key=key, Body=body[:-20])
    assert len(lake.search().recognised) == 1
    assert "it cannot be read" in lake.search(deep=True).ambiguous[0].reason


def test_partitions_are_refused(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "jsonl", s3_path_format="${STREAM_NAME}/${PARTITION}/"), "jsonl")
    with pytest.raises(SettingsError, match="the connector's objects have no partitions"):
        lake.search()


# ---------------------------------------------------------------------- columns


def test_columns_that_the_catalog_lacks_are_read_from_the_files(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "parquet"), "parquet")
    lake.fill()
    short = {"type": "object", "properties": {"id": {"type": "integer"}}}
    wanted = SearchRequest(declared={USERS: record_type(short, "users", "public")})
    (found,) = search(lake.bucket, lake.settings, wanted)
    lake.adopt(found=found)
    assert [row["price"] for row in lake.rows()] == [number + 0.5 for number in range(1, 6)]
    entry = check_entries(lake.bucket, lake.settings, [USERS])[0]
    assert {column.name for column in entry.columns_beside(None).current()} == {*SCHEMA["properties"]}


def test_names_of_adopted_columns_are_never_given_to_other_types(moto_s3: S3Server) -> None:
    lake = Lake(moto_s3, settings_of(moto_s3, "parquet"), "parquet")
    lake.fill()
    lake.adopt()
    changed = {"type": "object", "properties": {"id": {"type": "integer"}, "tags": {"type": "integer"}}}
    stream = Stream(name="users", namespace="public", json_schema=changed, sync_mode=SyncMode.APPEND)
    with target(moto_s3, lake.settings) as opened:
        land([batch_of([{"id": 6, "tags": 5}])], opened, stream, sync("typed"))
    rows = lake.rows()
    assert [row["tags"] for row in rows[:5]] == [["a", "b"]] * 5
    assert rows[5]["tags_integer"] == 5


def test_objects_of_own_syncs_and_adopted_ones_are_together(one_lake: Lake) -> None:
    one_lake.land(SyncMode.APPEND, 6)
    one_lake.fill()
    one_lake.adopt()
    one_lake.land(SyncMode.APPEND, 7)
    assert one_lake.ids() == [1, 2, 3, 4, 5, 6, 7]
    forget_adopted(one_lake.bucket, one_lake.settings, USERS)
    assert one_lake.ids() == [6, 7]


def test_part_numbers_go_on_after_adopted_objects(moto_s3: S3Server) -> None:
    settings = settings_of(moto_s3, "jsonl", s3_path_format="${NAMESPACE}/${STREAM_NAME}/")
    lake = Lake(moto_s3, settings, "jsonl")
    lake.put("data/public/users/7", "0.6", [user(1)])
    lake.adopt()
    receipt = lake.land(SyncMode.APPEND, 2)
    assert [each.key for each in receipt.objects] == ["data/public/users/8.jsonl.gz"]


# ---------------------------------------------------------------------- what is not counted


def test_rows_of_objects_that_nobody_read_are_not_counted(one_lake: Lake) -> None:
    one_lake.fill()
    one_lake.adopt()
    verified = verify(one_lake.bucket, one_lake.settings.template, SCOPE)
    assert (verified.problems, verified.objects, verified.rows, verified.uncounted) == ((), 3, 0, 3)
    assert one_lake.land(SyncMode.APPEND, 6).total_rows is None
    content = content_of(one_lake.bucket, one_lake.settings, SCOPE)
    assert (content.objects, content.rows, content.uncounted) == (4, 1, 3)


def test_near_misses_are_unrecognised_until_they_are_adopted(one_lake: Lake) -> None:
    keys = one_lake.fill()
    one_lake.land(SyncMode.APPEND, 6)
    stray = stray_keys(one_lake.bucket, one_lake.settings.template, USERS)
    assert (stray.foreign, stray.unrecognised) == (set(keys[:2]), {keys[2]})
    one_lake.adopt()
    stray = stray_keys(one_lake.bucket, one_lake.settings.template, USERS)
    assert not stray.foreign
    assert not stray.unrecognised


# ---------------------------------------------------------------------- crashes and other writers


def test_an_adoption_that_crashes_anywhere_is_whole_or_absent(one_lake: Lake) -> None:
    keys = one_lake.fill()
    before = one_lake.keys()
    found = one_lake.search()
    one_lake.adopt(found=found)
    forget_adopted(one_lake.bucket, one_lake.settings, USERS)
    counted = FailingClient(one_lake.server.client())
    one_lake.adopt(Bucket(counted, one_lake.settings.s3_bucket_name), found=found)
    forget_adopted(one_lake.bucket, one_lake.settings, USERS)
    for at, call in enumerate(counted.calls, 1):
        if call not in ("put_object", "head_object"):
            continue
        dying = FailingClient(one_lake.server.client(), at=at, after=True, dead=True)
        with pytest.raises(S3DestError):
            one_lake.adopt(Bucket(dying, one_lake.settings.s3_bucket_name), found=found)
        recover(one_lake.bucket, one_lake.settings.template, SCOPE)
        assert one_lake.ids() in ([], [1, 2, 3, 4, 5])
        assert one_lake.keys() == before
        forget_adopted(one_lake.bucket, one_lake.settings, USERS)
    assert [each.listed.key for each in one_lake.adopt().objects] == keys


def test_an_adoption_whose_object_vanishes_is_given_up_and_deletes_nothing(one_lake: Lake) -> None:
    keys = one_lake.fill()
    found = one_lake.search()
    one_lake.server.client().delete_object(Bucket=one_lake.settings.s3_bucket_name, Key=keys[1])
    with pytest.raises(CommitError, match=r"nothing was adopted: .* was changed or deleted meanwhile"):
        one_lake.adopt(found=found)
    assert one_lake.ids() == []
    assert {keys[0], keys[2]} < set(one_lake.keys())
    assert len(one_lake.adopt().objects) == 2


def test_a_sync_that_runs_meanwhile_and_the_adoption_do_not_overwrite_each_other(one_lake: Lake) -> None:
    one_lake.fill()
    stream = Stream(name="users", namespace="public", json_schema=SCHEMA, sync_mode=SyncMode.APPEND)

    def batches() -> Iterator[Any]:
        yield batch_of([user(6)])
        one_lake.adopt()
        yield batch_of([user(7)])

    with target(one_lake.server, one_lake.settings) as opened, pytest.raises(SupersededError):
        land(batches(), opened, stream, sync("overtaken"))
    assert one_lake.ids() == [1, 2, 3, 4, 5]
    one_lake.land(SyncMode.APPEND, 6, 7)
    assert one_lake.ids() == [1, 2, 3, 4, 5, 6, 7]


def test_an_adoption_that_a_sync_overtakes_goes_on_after_it(one_lake: Lake) -> None:
    one_lake.fill()
    overtaken = OvertakenClient(
        one_lake.server.client(), "put_object", lambda: one_lake.land(SyncMode.APPEND, 6), key="head.json"
    )
    one_lake.land(SyncMode.APPEND, 5)
    one_lake.adopt(Bucket(overtaken, one_lake.settings.s3_bucket_name))
    assert one_lake.ids() == [1, 2, 3, 4, 5, 5, 6]


def test_a_refresh_before_the_adoption_leaves_nothing_to_adopt_twice(one_lake: Lake) -> None:
    keys = one_lake.fill()
    found = one_lake.search()
    one_lake.land(SyncMode.FULL_REFRESH, 9)
    with pytest.raises(CommitError, match="nothing was adopted"):
        one_lake.adopt(found=found)
    assert one_lake.ids() == [9]
    assert [each.listed.key for each in one_lake.adopt().objects] == [keys[2]]


# ---------------------------------------------------------------------- generations


@pytest.mark.parametrize(("minimum", "ids"), [(0, [1, 2, 3, 4, 5, 9]), (7, [3, 4, 5, 9]), (8, [9])])
def test_adopted_generations_below_the_minimum_leave(one_lake: Lake, minimum: int, ids: list[int]) -> None:
    keys = one_lake.fill()
    one_lake.adopt()
    generation = Generation(id=8, minimum=minimum)
    stream = replace(STREAM, sync_mode=SyncMode.APPEND, generation=generation)
    with target(one_lake.server, one_lake.settings) as opened:
        land([batch_of([user(9)])], opened, stream, sync("truncate"))
    assert one_lake.ids() == ids
    assert len([key for key in keys if key in set(one_lake.keys())]) == {0: 3, 7: 2, 8: 0}[minimum]
    assert len(forget_adopted(one_lake.bucket, one_lake.settings, USERS)) == {0: 3, 7: 2, 8: 0}[minimum]
    assert one_lake.ids() == [9]


# ---------------------------------------------------------------------- owners


def test_adoption_gives_the_stream_its_owner(one_lake: Lake) -> None:
    one_lake.fill()
    one_lake.adopt(owner="shop/users")
    with pytest.raises(OwnershipError):
        one_lake.adopt(owner="crm/users")


def test_adopted_objects_are_retired_like_landed_ones(one_lake: Lake) -> None:
    keys = one_lake.fill()
    one_lake.adopt()
    settings = replace(one_lake.settings, retire_grace_s=0)
    retire(one_lake.bucket, settings, SCOPE, sync("retire"), attempt="00")
    assert not set(keys) & set(one_lake.keys())
    assert FOREIGN in set(one_lake.keys())


def test_a_retirement_of_adopted_objects_is_undone(one_lake: Lake) -> None:
    one_lake.land(SyncMode.APPEND, 6)
    one_lake.fill()
    one_lake.adopt()
    retire(one_lake.bucket, one_lake.settings, SCOPE, sync("retire"), attempt="00")
    assert one_lake.ids() == []
    restore(one_lake.bucket, one_lake.settings, SCOPE)
    assert one_lake.ids() == [1, 2, 3, 4, 5, 6]
    assert len(forget_adopted(one_lake.bucket, one_lake.settings, USERS)) == 3


def test_adopted_objects_go_to_a_new_name_and_are_replaced_there(one_lake: Lake) -> None:
    keys = one_lake.fill()
    one_lake.adopt()
    people = StreamId("public", "people")
    move_stream(one_lake.bucket, one_lake.settings, NewName(USERS, people), START, os.urandom)
    assert one_lake.ids() == []
    stream = Stream(name="people", namespace="public", json_schema=SCHEMA, sync_mode=SyncMode.FULL_REFRESH)
    with target(one_lake.server, one_lake.settings) as opened:
        receipt = land([batch_of([user(9)])], opened, stream, sync("people"))
    assert sorted(receipt.removed) == sorted(keys)


def test_the_plan_of_a_refresh_names_what_was_adopted(one_lake: Lake) -> None:
    keys = one_lake.fill()
    one_lake.adopt()
    stream = Stream(name="users", namespace="public", json_schema=SCHEMA, sync_mode=SyncMode.FULL_REFRESH)
    with target(one_lake.server, one_lake.settings) as opened:
        planned = plan(opened, [stream], sync("planned"))
    assert sorted(planned.streams[0].deletes) == sorted(keys)
    assert len(live_objects(one_lake.bucket, one_lake.settings.template, SCOPE)) == 3
