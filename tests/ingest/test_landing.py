"""The promises of a landing: everything together or nothing, and exactly the objects of its scope."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from land_and_read import (
    START,
    batch_of,
    batches_of,
    data_keys,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from servers import S3Server

from s3dest_dagster.batch import BadRecord, JsonBatch, State
from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.errors import CommitError, KeyCollisionError, RecordError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode

APPEND = SyncMode.APPEND


def test_a_landing_writes_the_documented_key_and_the_records(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened:
        receipt = land(batches_of(users(1, 3), users(4, 5)), opened, stream(), sync("s1", START))
    assert data_keys(any_s3, name) == ["data/public/users/2026_01_05_1767609000000_0.jsonl"]
    assert ids_by_listing(any_s3, name) == [1, 2, 3, 4, 5]
    assert (receipt.rows, receipt.counts.read, receipt.counts.landed) == (5, 5, 5)
    body = any_s3.client().get_object(Bucket=name, Key=receipt.objects[0].key)["Body"].read()
    assert receipt.bytes == len(body)


def test_nothing_is_visible_before_the_commit(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened, Landing(opened, stream(), sync("s1")) as landing:
        landing.append_batch(batch_of(users(1, 3)))
        assert data_keys(any_s3, name) == []
        landing.commit()
        assert len(data_keys(any_s3, name)) == 1


def test_a_full_refresh_replaces_the_old_records(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened:
        land(batches_of(users(1, 3)), opened, stream(), sync("s1"))
        receipt = land(batches_of(users(10, 11)), opened, stream(), sync("s2"))
    assert ids_by_listing(any_s3, name) == [10, 11]
    assert len(receipt.removed) == 1


def test_a_failing_source_leaves_the_old_data_and_no_upload(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()

    def failing() -> Iterator[JsonBatch]:
        yield batch_of(users(10, 11))
        raise RuntimeError("the source died")

    with target(any_s3, destination(name)) as opened:
        land(batches_of(users(1, 3)), opened, stream(), sync("s1"))
        with pytest.raises(RuntimeError, match="the source died"):
            land(failing(), opened, stream(), sync("s2"))
    assert ids_by_listing(any_s3, name) == [1, 2, 3]
    assert open_uploads(any_s3, name) == 0


def test_an_append_adds_records_and_leaves_the_existing_ones(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened:
        first = land(batches_of(users(1, 3)), opened, stream(mode=APPEND), sync("s1"))
        second = land(batches_of(users(4, 5)), opened, stream(mode=APPEND), sync("s2"))
    assert ids_by_listing(any_s3, name) == [1, 2, 3, 4, 5]
    assert second.removed == ()
    assert data_keys(any_s3, name) == sorted([first.objects[0].key, second.objects[0].key])


def test_an_empty_stream_creates_no_object(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name)) as opened:
        receipt = land([], opened, stream(), sync("s1"))
    assert data_keys(moto_s3, name) == []
    assert receipt.objects == ()


@pytest.mark.parametrize(("policy", "left"), [("publish", []), ("keep", [1, 2])])
def test_a_refresh_without_records_follows_the_settings(moto_s3: S3Server, policy: str, left: list[int]) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name, on_empty_refresh=policy)) as opened:
        land(batches_of(users(1, 2)), opened, stream(), sync("s1"))
        land([], opened, stream(), sync("s2"))
    assert ids_by_listing(moto_s3, name) == left


def test_a_refresh_without_records_can_fail(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name, on_empty_refresh="fail")) as opened:
        land(batches_of(users(1, 2)), opened, stream(), sync("s1"))
        with pytest.raises(CommitError, match="on_empty_refresh"):
            land([], opened, stream(), sync("s2"))
    assert ids_by_listing(moto_s3, name) == [1, 2]


def test_landing_a_partition_again_replaces_only_that_partition(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    monday, tuesday = (Scope(StreamId("public", "users"), day) for day in ("2026-01-05", "2026-01-06"))
    with target(any_s3, destination(name)) as opened:
        for mode in (APPEND, SyncMode.FULL_REFRESH):
            land(batches_of(users(1, 3)), opened, stream(mode=mode), sync(f"mon {mode}"), scope=monday)
            land(batches_of(users(4, 5)), opened, stream(mode=mode), sync(f"tue {mode}"), scope=tuesday)
            land(batches_of(users(20, 21)), opened, stream(mode=mode), sync(f"mon2 {mode}"), scope=monday)
            assert ids_by_listing(any_s3, name) == [4, 5, 20, 21]


def test_an_append_to_a_partition_can_add_records(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    monday = Scope(StreamId("public", "users"), "2026-01-05")
    with target(moto_s3, destination(name, on_rematerialize="append")) as opened:
        land(batches_of(users(1, 2)), opened, stream(mode=APPEND), sync("s1"), scope=monday)
        land(batches_of(users(3, 4)), opened, stream(mode=APPEND), sync("s2"), scope=monday)
    assert ids_by_listing(moto_s3, name) == [1, 2, 3, 4]


def test_partitions_that_begin_in_the_same_millisecond_have_their_own_objects(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name)) as opened:
        landings = [
            Landing(opened, stream(mode=APPEND), sync("run", START), scope=Scope(StreamId("public", "users"), day))
            for day in ("2026-01-05", "2026-01-06")
        ]
        for number, landing in enumerate(landings):
            landing.append_batch(batch_of(users(number, number)))
        for landing in landings:
            landing.commit()
    assert ids_by_listing(moto_s3, name) == [0, 1]


def test_a_completed_sync_id_is_not_landed_again(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()

    def untouched() -> Iterator[JsonBatch]:
        raise AssertionError("the source was read again")
        yield

    with target(any_s3, destination(name)) as opened:
        first = land(batches_of(users(1, 3)), opened, stream(mode=APPEND), sync("s1"))
        again = land(untouched(), opened, stream(mode=APPEND), sync("s1"))
        nothing = land([], opened, stream(mode=APPEND), sync("s2"))
        nothing_again = land(untouched(), opened, stream(mode=APPEND), sync("s2"))
    assert again.repeated
    assert again.objects == first.objects
    assert not nothing.repeated
    assert nothing_again.repeated
    assert ids_by_listing(any_s3, name) == [1, 2, 3]


def test_objects_end_at_the_configured_size(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name, object_size_mb=0.0025)) as opened:
        receipt = land((batch_of(users(n, n + 9)) for n in range(0, 110, 10)), opened, stream(), sync("s1", START))
    assert len(receipt.objects) > 2
    assert [each.close_reason for each in receipt.objects] == ["size"] * (len(receipt.objects) - 1) + ["end"]
    assert sorted(data_keys(moto_s3, name)) == sorted(
        f"data/public/users/2026_01_05_1767609000000_{number}.jsonl" for number in range(len(receipt.objects))
    )
    assert ids_by_listing(moto_s3, name) == list(range(110))


def test_part_numbers_continue_if_the_path_does_not_change(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    settings = destination(name, s3_path_format="${NAMESPACE}/${STREAM_NAME}/part_")
    with target(moto_s3, settings) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
        land(batches_of(users(2, 2)), opened, stream(), sync("s2"))
        assert data_keys(moto_s3, name) == ["data/public/users/part_1.jsonl"]
        land([], opened, stream(), sync("s3"))
        land(batches_of(users(3, 3)), opened, stream(), sync("s4"))
    assert data_keys(moto_s3, name) == ["data/public/users/part_2.jsonl"]


def test_a_crowded_prefix_gets_uuids_for_part_ids(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    moto_s3.fill(name, (f"data/public/users/part_x{number}" for number in range(1001)))
    settings = destination(name, s3_path_format="${NAMESPACE}/${STREAM_NAME}/part_")
    with target(moto_s3, settings) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(mode=APPEND), sync("s1"))
    assert len(receipt.objects[0].key) == len("data/public/users/part_.jsonl") + 36


def test_a_template_without_part_numbers_allows_only_one_object(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    settings = destination(
        name,
        s3_path_format="${NAMESPACE}/${STREAM_NAME}/",
        file_name_pattern="all{format_extension}",
        object_size_mb=0.0005,
    )
    with target(moto_s3, settings) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
        land(batches_of(users(2, 2)), opened, stream(), sync("s2"))
        assert data_keys(moto_s3, name) == ["data/public/users/all.jsonl"]
        assert ids_by_listing(moto_s3, name) == [2]
        with pytest.raises(KeyCollisionError, match="part_number"):
            land(batches_of(users(3, 20), users(21, 40)), opened, stream(), sync("s3"))
        with pytest.raises(KeyCollisionError, match="append must not overwrite"):
            land(batches_of(users(3, 3)), opened, stream(mode=APPEND), sync("s4"))
    assert ids_by_listing(moto_s3, name) == [2]


def test_a_refresh_replaces_the_connectors_files_and_spares_foreign_ones(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    connector = ["data/public/users/2022_04_04_123456789_0.csv.gz", "data/public/users/2022_04_04_123456789_1.avro"]
    foreign = [
        "data/public/users/2022_04_04_123456789_0.doc",
        "data/public/users/some_random_file_0.csv",
        "data/public/users2/2022_04_04_123456789_0.csv.gz",
        "data/other.txt",
    ]
    for key in connector + foreign:
        any_s3.client().put_object(Bucket=name, Key=key, Body=b"{}")
    with target(any_s3, destination(name)) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
    assert sorted(receipt.removed) == connector
    assert data_keys(any_s3, name) == sorted([*foreign, receipt.objects[0].key])


def test_a_refresh_replaces_no_connector_files_if_the_path_does_not_contain_the_stream_name(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    moto_s3.client().put_object(Bucket=name, Key="data/2025_1700000000000_0.jsonl", Body=b"{}")
    with target(moto_s3, destination(name, s3_path_format="${YEAR}_${EPOCH}_")) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("s1"))
    assert receipt.removed == ()
    assert "data/2025_1700000000000_0.jsonl" in data_keys(moto_s3, name)


def test_a_refresh_never_replaces_the_objects_of_a_partition(moto_s3: S3Server) -> None:
    """One asset partitions the stream, and another does not. Both use one path."""
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name)) as opened:
        part = Scope(StreamId("public", "users"), "2026-01-05")
        land(batches_of(users(1, 2)), opened, stream(mode=APPEND), sync("s1"), scope=part)
        land(batches_of(users(5, 6)), opened, stream(), sync("s2"))
        land(batches_of(users(7, 8)), opened, stream(), sync("s3"))
    assert ids_by_listing(moto_s3, name) == [1, 2, 7, 8]


def test_streams_with_equal_sanitised_names_do_not_replace_each_others_objects(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name)) as opened:
        land(batches_of(users(1, 2)), opened, stream("用户表"), sync("s1"))
        land(batches_of(users(3, 4)), opened, stream("支付表"), sync("s2"))
    assert ids_by_listing(moto_s3, name) == [1, 2, 3, 4]


@pytest.mark.parametrize(("path", "one", "other"), [("${YEAR}_", "users", "orders"), ("${STREAM_NAME}/", "a b", "a_b")])
@pytest.mark.parametrize("pattern", ["", "all{format_extension}"])
def test_streams_that_share_a_path_never_share_a_key(
    moto_s3: S3Server, path: str, one: str, other: str, pattern: str
) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name, s3_path_format=path, file_name_pattern=pattern)) as opened:
        landings = [Landing(opened, stream(each), sync("run", START)) for each in (one, other)]
        for number, landing in enumerate(landings):
            landing.append_batch(batch_of(users(number, number)))
        for landing in landings:
            landing.commit()
    assert ids_by_listing(moto_s3, name) == [0, 1]


def test_a_refresh_without_a_state_clears_the_state_of_the_replaced_records(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name)) as opened:
        reached = State(StreamId("public", "users"), b'{"cursor":5}', b"{}")
        land([batch_of(users(1, 5)), reached], opened, stream(mode=APPEND), sync("s1"))
        land([], opened, stream(), sync("s2"))
        assert Landing(opened, stream(mode=APPEND), sync("s3")).last_state is None


def test_the_key_contains_the_stream_name_prefix(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name, stream_prefix="crm_")) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("s1", START))
    assert data_keys(moto_s3, name) == ["data/public/crm_users/2026_01_05_1767609000000_0.jsonl"]


def test_an_invalid_record_fails_the_sync_or_is_quarantined(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    bad = BadRecord(StreamId("public", "users"), b'{"id": NaN}', "NaN is not JSON", 3)
    with target(moto_s3, destination(name)) as opened, pytest.raises(RecordError) as failed:
        land([batch_of(users(1, 2)), bad], opened, stream(), sync("s1"))
    assert "public.users: line 3 of the source is no record: NaN is not JSON" in str(failed.value)
    assert "on_bad_record" in str(failed.value)
    assert data_keys(moto_s3, name) == []
    with target(moto_s3, destination(name, on_bad_record="quarantine")) as opened:
        receipt = land([batch_of(users(1, 2)), bad], opened, stream(), sync("s2"))
    assert (receipt.counts.read, receipt.counts.landed, receipt.counts.quarantined) == (3, 2, 1)
    (key,) = [
        each["Key"]
        for each in moto_s3.client().list_objects_v2(Bucket=name, Prefix="data/_s3dest/public/users/~/quarantine/s2.")[
            "Contents"
        ]
    ]
    kept = json.loads(moto_s3.client().get_object(Bucket=name, Key=key)["Body"].read())
    assert kept == {"reason": "NaN is not JSON", "line_number": 3, "line": '{"id": NaN}'}


def test_the_newest_state_is_committed_with_the_records(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    states = [State(StreamId("public", "users"), b'{"cursor":%d}' % number, b"{}") for number in (3, 5)]
    with target(moto_s3, destination(name)) as opened:
        items = [batch_of(users(1, 3)), states[0], batch_of(users(4, 5)), states[1]]
        land(items, opened, stream(mode=APPEND), sync("s1"))
        with pytest.raises(ZeroDivisionError):
            land((1 // 0 for _ in (1,)), opened, stream(mode=APPEND), sync("s2"))
        land([batch_of(users(6, 6))], opened, stream(mode=APPEND), sync("s3"))
        assert Landing(opened, stream(mode=APPEND), sync("s4")).last_state.text == '{"cursor":5}'


def test_a_second_writer_of_a_scope_fails_with_the_name_of_the_first(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened:
        slow = Landing(opened, stream(), sync("slow"))
        slow.append_batch(batch_of(users(1, 1)))
        land(batches_of(users(2, 2)), opened, stream(), sync("quick"))
        with slow, pytest.raises(SupersededError, match="Sync quick"):
            slow.commit()
    assert ids_by_listing(any_s3, name) == [2]
    assert open_uploads(any_s3, name) == 0


def test_only_one_of_two_attempts_at_a_sync_is_published(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened:
        given_up = Landing(opened, stream(mode=APPEND), sync("run"))
        given_up.append_batch(batch_of(users(1, 2)))
        given_up.stage()
        land(batches_of(users(1, 2)), opened, stream(mode=APPEND), sync("run"))
        with given_up, pytest.raises(SupersededError, match="Sync run"):
            given_up.commit()
        assert read_scope(opened.bucket, opened.destination.template, Scope(stream().id)).num_rows == 2
    assert ids_by_listing(any_s3, name) == [1, 2]
    assert open_uploads(any_s3, name) == 0


def test_a_refresh_replaces_the_objects_of_many_appends(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name)) as opened:
        for number in range(20):
            land(batches_of(users(number, number)), opened, stream(mode=APPEND), sync(f"sync-{number:04}"))
        table = read_scope(opened.bucket, opened.destination.template, Scope(stream().id))
        assert table["id"].to_pylist() == list(range(20))
        assert len(land(batches_of(users(100, 100)), opened, stream(), sync("refresh")).removed) == 20
    assert ids_by_listing(moto_s3, name) == [100]


def test_a_scope_is_read_back_through_its_manifest(any_s3: S3Server) -> None:
    name = any_s3.new_bucket()
    with target(any_s3, destination(name)) as opened:
        land(batches_of(users(1, 2)), opened, stream(mode=APPEND), sync("s1"))
        land(batches_of(users(3, 4)), opened, stream(mode=APPEND), sync("s2"))
        table = read_scope(opened.bucket, opened.destination.template, Scope(stream().id))
        assert table["id"].to_pylist() == [1, 2, 3, 4]
        assert [str(each) for each in scopes(opened.bucket, opened.destination.template)] == ["public.users"]
        assert verify(opened.bucket, opened.destination.template, Scope(stream().id)).problems == ()
        any_s3.client().delete_object(Bucket=name, Key=data_keys(any_s3, name)[0])
        assert len(verify(opened.bucket, opened.destination.template, Scope(stream().id)).problems) == 1


def test_a_stream_without_a_schema_takes_it_from_its_first_batch(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    bare = Stream(name="bare", sync_mode=SyncMode.FULL_REFRESH)
    with target(moto_s3, destination(name)) as opened:
        receipt = land(batches_of(users(1, 2)), opened, bare, sync("s1"))
    assert json.loads(receipt.json_schema)["properties"].keys() == {"id", "name"}


def test_the_order_of_the_records_does_not_depend_on_the_workers(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    with target(moto_s3, destination(name, encode_workers=3)) as opened:
        land((batch_of(users(n, n + 9)) for n in range(0, 200, 10)), opened, stream(), sync("s1"))
    (key,) = data_keys(moto_s3, name)
    lines = moto_s3.client().get_object(Bucket=name, Key=key)["Body"].read().splitlines()
    assert [json.loads(line)["_airbyte_data"]["id"] for line in lines] == list(range(200))
