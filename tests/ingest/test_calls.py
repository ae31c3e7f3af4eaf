"""How many requests a landing makes: few for a small sync, and no more for the last of many partitions."""

from __future__ import annotations

import pytest
from failing_clients import FailingClient
from land_and_read import batch_of, batches_of, destination, stream, sync, target, users
from servers import S3Server

from s3dest_dagster.batch import State
from s3dest_dagster.commit.head import REMEMBERED_SYNCS
from s3dest_dagster.ingest.landing import Landing, land
from s3dest_dagster.settings.formats import ParquetFormat
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, SyncMode

USERS = StreamId("public", "users")
APPEND, REFRESH = SyncMode.APPEND, SyncMode.FULL_REFRESH


def counted(server: S3Server, name: str) -> tuple[Bucket, FailingClient]:
    """The bucket behind a client that counts its calls, after the abilities of the server are known."""
    client = FailingClient(server.client())
    bucket = Bucket(client, name)
    assert bucket.with_root("data/_s3dest/").abilities
    client.calls.clear()
    return bucket, client


def test_the_first_use_of_a_bucket_costs_some_requests_and_each_later_process_one(moto_s3: S3Server) -> None:
    name = moto_s3.new_bucket()
    for most in (30, 1):
        client = FailingClient(moto_s3.client())
        bucket = Bucket(client, name).with_root("data/_s3dest/")
        assert len({bucket.abilities for _ in range(3)}) == 1
        assert len(client.calls) <= most, client.calls


@pytest.mark.parametrize(("mode", "most"), [(APPEND, 10), (REFRESH, 13)])
def test_one_record_costs_few_requests(moto_s3: S3Server, mode: SyncMode, most: int) -> None:
    name = moto_s3.new_bucket()
    bucket, client = counted(moto_s3, name)
    with target(moto_s3, destination(name), bucket) as opened:
        for number in range(4):
            client.calls.clear()
            land([batch_of(users(number, number))], opened, stream(mode=mode), sync(f"s{number}"))
            # The first sync finds no registry entry, checks whether the stream has landed without one, and reserves
            # its columns.
            assert len(client.calls) <= most + 2 * (number == 0), client.calls


@pytest.mark.parametrize(("mode", "most"), [(APPEND, 12), (REFRESH, 15)])
def test_a_sync_after_many_others_only_reads_its_mark_and_writes_another(
    moto_s3: S3Server, mode: SyncMode, most: int
) -> None:
    name = moto_s3.new_bucket()
    bucket, client = counted(moto_s3, name)
    with target(moto_s3, destination(name), bucket) as opened:
        for number in range(REMEMBERED_SYNCS + 3):
            client.calls.clear()
            land([batch_of(users(number, number))], opened, stream(mode=mode), sync(f"s{number}"))
        assert len(client.calls) <= most, client.calls


@pytest.mark.parametrize(("mode", "most"), [(APPEND, 12), (REFRESH, 15)])
def test_a_sync_that_continues_from_a_state_reads_its_segment_once(
    moto_s3: S3Server, mode: SyncMode, most: int
) -> None:
    name = moto_s3.new_bucket()
    bucket, client = counted(moto_s3, name)
    states = []
    with target(moto_s3, destination(name), bucket) as opened:
        for number in range(REMEMBERED_SYNCS + 3):
            client.calls.clear()
            with Landing(opened, stream(mode=mode), sync(f"s{number}")) as landing:
                states.append(landing.last_state.text if landing.last_state else None)
                landing.append(batch_of(users(number, number)))
                landing.append(State(USERS, b'{"at":%d}' % number, b""))
                landing.commit()
            assert len(client.calls) <= most, client.calls
    assert states == [None, *(f'{{"at":{number}}}' for number in range(REMEMBERED_SYNCS + 2))]


@pytest.mark.parametrize(("rematerialized", "most"), [("append", 12), ("replace", 15)])
def test_a_typed_partition_costs_few_requests(moto_s3: S3Server, rematerialized: str, most: int) -> None:
    name = moto_s3.new_bucket()
    bucket, client = counted(moto_s3, name)
    settings = destination(name, format=ParquetFormat(), on_rematerialize=rematerialized)
    with target(moto_s3, settings, bucket) as opened:
        for number in range(4):
            for partition in ("one", "two"):
                client.calls.clear()
                scope = Scope(USERS, partition)
                land([batch_of(users(1, 1))], opened, stream(mode=APPEND), sync(f"{number} {partition}"), scope=scope)
                assert len(client.calls) <= (most if number else 13), client.calls


@pytest.mark.parametrize("mode", [APPEND, REFRESH])
def test_the_last_of_many_partitions_costs_as_much_as_the_second(moto_s3: S3Server, mode: SyncMode) -> None:
    name = moto_s3.new_bucket()
    bucket, client = counted(moto_s3, name)
    costs = []
    with target(moto_s3, destination(name), bucket) as opened:
        for again in range(2):
            for number in range(15):
                client.calls.clear()
                scope = Scope(StreamId("public", "users"), f"part-{number}")
                land(batches_of(users(1, 100)), opened, stream(mode=mode), sync(f"{again} {number}"), scope=scope)
                costs.append(len(client.calls))
    first, landed_again = costs[1:15], costs[16:]
    assert max(first) == min(first)
    assert max(landed_again) == min(landed_again)
