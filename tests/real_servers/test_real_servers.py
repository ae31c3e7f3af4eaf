"""The promises hold on servers that people use: each verb, each kind of sync, and nothing left behind."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
from airbyte_messages import record, state
from cli.conftest import Lake
from failing_clients import CountedClient, FailingClient
from land_and_read import batch_of, batches_of, destination, ids_by_listing, open_uploads, stream, sync, target, users
from real_servers.report import Results
from servers import S3Server

from s3dest_dagster.commit.maintenance import recover
from s3dest_dagster.errors import CommitError, SupersededError
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.keys import manifest_root
from s3dest_dagster.storage import Bucket, describe_abilities, open_bucket
from s3dest_dagster.stream import Scope, Stream, SyncMode

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]
LATER = "2100-01-01T00:00:00Z"
UNUSUAL_NAMES = ("a b+c&d=e", "50%25", "naïve 名前", "~tilde'(1)", "day=2026-01-05")


def messages(*ids: int) -> str:
    return "".join(record("users", id=each) for each in ids) + state("users", ids[-1])


def verified(lake: Lake, config: str) -> dict[str, Any]:
    """The result of a deep verification of the only stream, which must succeed."""
    answer = lake.run("verify", "--deep", "--config", config, "--json")
    assert answer.returncode == 0, answer.stderr + answer.stdout
    return json.loads(answer.stdout)[0]


def cursor(lake: Lake, config: str) -> int:
    """The cursor that `state show` prints."""
    shown = json.loads(lake.run("state", "show", "--config", config).stdout)
    return shown[0]["stream"]["stream_state"]["cursor"]


def assert_clean(server: S3Server, bucket: str) -> None:
    """No upload is unfinished, and no trial object is left."""
    pages = server.client().get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [each["Key"] for page in pages for each in page.get("Contents", ())]
    assert [key for key in keys if "probe" in key or "/check/" in key] == []
    assert open_uploads(server, bucket) == 0


def test_check_tries_everything_and_leaves_nothing_behind(lake: Lake) -> None:
    for _ in range(2):
        answer = lake.run("check", "--config", lake.config())
        assert answer.returncode == 0, answer.stdout + answer.stderr
        assert "✗" not in answer.stdout
    assert lake.data_keys() == []
    assert_clean(lake.server, lake.bucket)


def test_the_server_is_probed_once_and_the_result_is_kept(
    real_s3: S3Server, server_name: str, results: Results
) -> None:
    settings = destination(real_s3.new_bucket())
    bucket, place = real_s3.open(settings), manifest_root(settings.template.literal_root)
    results.abilities[server_name] = {
        each.name: (each.has, each.message) for each in describe_abilities(bucket.abilities)
    }
    assert [each.key for each in bucket.list_objects("")] == [f"{place}server.json"]
    counted = CountedClient(real_s3.client())
    assert Bucket(counted, settings.s3_bucket_name).with_root(place).abilities == bucket.abilities
    assert counted.calls == ["get_object"]
    assert_clean(real_s3, settings.s3_bucket_name)


def test_appends_add_up_with_their_states(lake: Lake) -> None:
    for ids in ([1, 2], [3]):
        answer = lake.write(messages(*ids), mode="append")
        assert answer.returncode == 0, answer.stderr
    config = lake.config()
    assert lake.ids() == [1, 2, 3]
    assert cursor(lake, config) == 3
    assert (verified(lake, config)["rows"], verified(lake, config)["objects"]) == (3, 2)
    listed = json.loads(lake.run("ls", "--config", config, "--json").stdout)
    assert sorted(each["key"] for each in listed) == lake.data_keys()
    assert "nothing to finish" in lake.run("recover", "--config", config).stdout
    assert_clean(lake.server, lake.bucket)


def test_a_state_can_be_set_and_reset(lake: Lake) -> None:
    assert lake.write(messages(1), mode="append").returncode == 0
    config = lake.config()
    path = lake.file("state.json", [json.loads(state("users", 70))["state"]])
    assert lake.run("state", "set", "--config", config, "--state", path).returncode == 0
    assert cursor(lake, config) == 70
    assert lake.run("state", "reset", "--config", config, "--all").returncode == 0
    assert json.loads(lake.run("state", "show", "--config", config).stdout) == []
    assert_clean(lake.server, lake.bucket)


@pytest.mark.parametrize("own", [{}, {"publish_order": "purge_first"}], ids=["add_first", "purge_first"])
def test_a_full_refresh_replaces_only_its_own_objects(lake: Lake, own: dict[str, Any]) -> None:
    config = lake.config(s3dest=own)
    foreign = "data_output_path/public/users/notes.txt"
    lake.server.client().put_object(Bucket=lake.bucket, Key=foreign, Body=b"mine")
    for ids in ([1, 2], [3, 4], [5]):
        answer = lake.write(messages(*ids), "--config", config)
        assert answer.returncode == 0, answer.stderr
    assert lake.read(foreign) == b"mine"
    lake.server.client().delete_object(Bucket=lake.bucket, Key=foreign)
    assert lake.ids() == [5]
    assert verified(lake, config)["rows"] == 1
    assert_clean(lake.server, lake.bucket)


def test_replaced_objects_stay_for_the_grace_period(lake: Lake) -> None:
    config = lake.config(s3dest={"delete_grace_s": 3600})
    for ids in ([1, 2], [3]):
        assert lake.write(messages(*ids), "--config", config).returncode == 0
    assert lake.ids() == [1, 2, 3]
    assert verified(lake, config)["rows"] == 1
    assert lake.run("sweep", "--config", config, "--now", LATER).returncode == 0
    assert lake.ids() == [3]
    assert verified(lake, config)["rows"] == 1
    assert_clean(lake.server, lake.bucket)


def test_a_recurring_key_holds_the_newest_sync(real_s3: S3Server) -> None:
    settings = destination(
        real_s3.new_bucket(), s3_path_format="${STREAM_NAME}/", file_name_pattern="latest{format_extension}"
    )
    with target(real_s3, settings) as opened:
        for number in range(1, 4):
            land(batches_of(users(number, number)), opened, stream(), sync(f"s{number}"))
            assert ids_by_listing(real_s3, settings.s3_bucket_name) == [number]
        assert verify(opened.bucket, settings.template, Scope(stream().id), deep=True).problems == ()
    assert_clean(real_s3, settings.s3_bucket_name)


def test_a_partition_that_lands_again_replaces_only_itself(real_s3: S3Server) -> None:
    settings = destination(real_s3.new_bucket(), s3_path_format="${STREAM_NAME}/${PARTITION}/")
    days = [Scope(stream().id, f"2026-01-0{day}") for day in (1, 2)]
    with target(real_s3, settings) as opened:
        for scope, first in ((days[0], 1), (days[1], 10), (days[0], 20)):
            land(batches_of(users(first, first + 1)), opened, stream(), sync(f"s{first}"), scope=scope)
        assert ids_by_listing(real_s3, settings.s3_bucket_name) == [10, 11, 20, 21]
        for scope in days:
            assert verify(opened.bucket, settings.template, scope, deep=True).problems == ()
    assert_clean(real_s3, settings.s3_bucket_name)


def test_unusual_names_make_keys_that_the_server_keeps(real_s3: S3Server) -> None:
    settings = destination(real_s3.new_bucket(), s3_path_format="${NAMESPACE}/${STREAM_NAME}/${PARTITION}/")
    with target(real_s3, settings) as opened:
        for number, name in enumerate(UNUSUAL_NAMES):
            for again in range(2):
                own = stream(name, namespace=name)
                scope = Scope(own.id, name)
                land(batches_of(users(number, number)), opened, own, sync(f"{number} {again}"), scope=scope)
                found = verify(opened.bucket, settings.template, scope, deep=True)
                assert (found.problems, found.rows) == ((), 1)
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == list(range(len(UNUSUAL_NAMES)))
    assert_clean(real_s3, settings.s3_bucket_name)


def test_objects_of_several_parts_are_complete(real_s3: S3Server) -> None:
    """Three parts, of at least 5 MiB except the last."""
    settings = destination(real_s3.new_bucket(), part_size_mb=6, object_size_mb=40)
    noise = random.Random(1)
    records = [{"id": number, "name": noise.randbytes(500).hex()} for number in range(13_000)]
    with target(real_s3, settings) as opened:
        for again in range(2):
            land(
                (batch_of(records[start : start + 1000]) for start in range(0, 13_000, 1000)),
                opened,
                stream(),
                sync(f"s{again}"),
            )
        found = verify(opened.bucket, settings.template, Scope(stream().id), deep=True)
    assert (found.problems, found.rows, found.objects) == ((), 13_000, 1)
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == list(range(13_000))
    assert_clean(real_s3, settings.s3_bucket_name)


def test_more_than_a_thousand_objects_are_listed_and_deleted(real_s3: S3Server) -> None:
    """A first full refresh replaces what the connector left: more than one page and more than one batch."""
    settings = destination(real_s3.new_bucket())
    keys = [f"data/public/users/2020_01_01_1577836800000_{number}.jsonl" for number in range(1100)]
    _put_all(real_s3, settings.s3_bucket_name, keys)
    with target(real_s3, settings) as opened:
        receipt = land(batches_of(users(1, 1)), opened, stream(), sync("first"))
        assert verify(opened.bucket, settings.template, Scope(stream().id), deep=True).problems == ()
    assert sorted(receipt.removed) == sorted(keys)
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == [1]
    assert_clean(real_s3, settings.s3_bucket_name)


def _put_all(server: S3Server, bucket: str, keys: Sequence[str]) -> None:
    client = server.client()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: client.put_object(Bucket=bucket, Key=key, Body=b""), keys))


def test_abandoned_uploads_are_swept(lake: Lake) -> None:
    config = lake.config(s3dest={"abandoned_upload_age_s": 0})
    assert lake.write(messages(1), "--config", config, mode="append").returncode == 0
    s3, key = lake.server.client(), "data_output_path/public/users/2020_01_01_1577836800000_0.jsonl"
    upload = s3.create_multipart_upload(Bucket=lake.bucket, Key=key)["UploadId"]
    s3.upload_part(Bucket=lake.bucket, Key=key, UploadId=upload, PartNumber=1, Body=b"x")
    assert lake.uploads() == 1
    answer = lake.run("sweep", "--config", config, "--now", LATER)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "1 abandoned upload aborted" in answer.stdout
    assert lake.ids() == [1]
    assert_clean(lake.server, lake.bucket)


@pytest.mark.parametrize("mode", [SyncMode.APPEND, SyncMode.FULL_REFRESH])
def test_recover_finishes_an_interrupted_publication(real_s3: S3Server, mode: SyncMode) -> None:
    settings = destination(real_s3.new_bucket())
    with target(real_s3, settings) as opened:
        land(batches_of(users(1, 2)), opened, stream(mode=mode), sync("first"))
    dying = FailingClient(real_s3.client(), at="complete_multipart_upload", dead=True)
    with (
        target(real_s3, settings, Bucket(dying, settings.s3_bucket_name)) as opened,
        pytest.raises(CommitError, match="finishes it"),
    ):
        land(batches_of(users(3, 4)), opened, stream(mode=mode), sync("second"))
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == [1, 2]
    recovered = recover(real_s3.open(settings), settings.template, Scope(stream().id))
    assert (recovered.ok, recovered.sync_id) == (True, "second")
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == ([1, 2, 3, 4] if mode is SyncMode.APPEND else [3, 4])
    assert_clean(real_s3, settings.s3_bucket_name)


def test_a_publication_whose_uploads_vanished_is_rolled_back(real_s3: S3Server) -> None:
    settings = destination(real_s3.new_bucket())
    with target(real_s3, settings) as opened:
        land(batches_of(users(1, 2)), opened, stream(), sync("first"))
    dying = FailingClient(real_s3.client(), at="complete_multipart_upload", dead=True)
    with target(real_s3, settings, Bucket(dying, settings.s3_bucket_name)) as opened, pytest.raises(CommitError):
        land(batches_of(users(3, 4)), opened, stream(), sync("second"))
    s3, bucket = real_s3.client(), settings.s3_bucket_name
    for each in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
        s3.abort_multipart_upload(Bucket=bucket, Key=each["Key"], UploadId=each["UploadId"])
    impatient = open_bucket(replace(real_s3.connection, max_attempts=2), settings)
    recovered = recover(impatient, settings.template, Scope(stream().id))
    assert not recovered.ok
    assert "vanished" in recovered.message
    with target(real_s3, settings) as opened:
        land(batches_of(users(5, 6)), opened, stream(), sync("third"))
    assert ids_by_listing(real_s3, bucket) == [5, 6]
    assert_clean(real_s3, bucket)


def test_a_second_writer_is_refused(real_s3: S3Server) -> None:
    """One after the other. This needs no conditional puts, since each reads the head before it decides."""
    settings = destination(real_s3.new_bucket())
    with target(real_s3, settings) as opened:
        land(batches_of(users(1, 1)), opened, stream(), sync("first"))
        with Landing(opened, stream(), sync("slow")) as slow:
            slow.append_batch(batch_of(users(2, 2)))
            land(batches_of(users(3, 3)), opened, stream(), sync("quick"))
            with pytest.raises(SupersededError, match="quick"):
                slow.commit()
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == [3]
    assert_clean(real_s3, settings.s3_bucket_name)


def test_each_of_several_concurrent_writers_is_published_or_refused(real_s3: S3Server) -> None:
    """Only if the server has conditional puts, on which this promise depends."""
    settings = destination(real_s3.new_bucket())
    append, published = stream(mode=SyncMode.APPEND), []
    with target(real_s3, settings) as opened:
        land(batches_of(users(0, 0)), opened, append, sync("first"))
        if not opened.bucket.abilities.detects_concurrent_writers:
            pytest.skip("this server ignores conditional puts; `s3dest check` says so")
        for round_ in range(5):
            published += _race(opened, append, round_)
    assert len(published) >= 5
    assert ids_by_listing(real_s3, settings.s3_bucket_name) == sorted([0, *published])
    assert_clean(real_s3, settings.s3_bucket_name)


def _race(opened: Target, append: Stream, round_: int) -> list[int]:
    """The ids of those of four writers that were published."""
    writers = 4
    ready = Barrier(writers)

    def write(number: int) -> int | None:
        own = 10 * (round_ + 1) + number
        with Landing(opened, append, sync(f"w{own}")) as landing:
            landing.append_batch(batch_of(users(own, own)))
            ready.wait()
            try:
                landing.commit()
            except SupersededError:
                return None
        return own

    with ThreadPoolExecutor(writers) as threads:
        return [each for each in threads.map(write, range(writers)) if each is not None]
