"""Several workers stage one sync, and one commit publishes it: the rules that hold whatever engine runs the workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from failing_clients import CountedClient
from land_and_read import (
    PLAIN_JSONL,
    SCHEMA,
    batch_of,
    data_keys,
    destination,
    ids_by_listing,
    open_uploads,
    stream,
    sync,
    target,
    users,
)
from secret_scan import found
from servers import S3Server

from s3dest_dagster.batch import BadRecord, State
from s3dest_dagster.commit.maintenance import sweep
from s3dest_dagster.errors import (
    CommitError,
    RecordError,
    SchemaContractError,
    SchemaError,
    SettingsError,
    SupersededError,
)
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, ParquetFormat, TextCompression
from s3dest_dagster.shards import Order, ShardReceipt, abandon, begin, commit, leftovers, stage
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Scope, Stream, Sync, SyncMode


class Lake:
    """A bucket of its own, with the driver and the workers of its orders."""

    def __init__(self, server: S3Server, settings: S3Destination) -> None:
        self.server = server
        self.settings = settings

    @property
    def bucket(self) -> Bucket:
        return self.server.open(self.settings)

    def begin(self, of: Stream | None = None, of_sync: Sync | None = None, **more: Any) -> Order:
        with target(self.server, self.settings) as opened:
            return begin(opened, of or stream(), of_sync or sync("first"), **more)

    def stage(self, order: Order, records: Any, shard: str | int, **more: Any) -> ShardReceipt:
        """As in another process, which knows the order only as JSON."""
        travelled = Order.from_json(order.to_json())
        return ShardReceipt.from_json(stage(travelled, records, shard=shard, s3=self.bucket, **more).to_json())

    def commit(self, order: Order, receipts: list[ShardReceipt], **more: Any) -> Any:
        return commit(Order.from_json(order.to_json()), receipts, s3=self.bucket, **more)

    def abandon(self, order: Order) -> int:
        return abandon(order, s3=self.bucket)

    def land(self, records: list[dict[str, Any]], of: Stream | None = None, scope: Scope | None = None) -> None:
        with target(self.server, self.settings) as opened:
            land([batch_of(records)], opened, of or stream(), sync(f"landed {records[0]['id']}"), scope=scope)

    @property
    def listed(self) -> list[int]:
        return ids_by_listing(self.server, self.settings.s3_bucket_name)

    @property
    def uploads(self) -> int:
        return open_uploads(self.server, self.settings.s3_bucket_name)

    def read(self, scope: Scope | None = None) -> list[dict[str, Any]]:
        return read_scope(self.bucket, self.settings.template, scope or Scope(stream().id)).to_pylist()

    def problems(self, scope: Scope | None = None) -> tuple[str, ...]:
        return verify(self.bucket, self.settings.template, scope or Scope(stream().id), deep=True).problems


@pytest.fixture
def lake(moto_s3: S3Server) -> Lake:
    return Lake(moto_s3, destination(moto_s3.new_bucket()))


def _lake(server: S3Server, **settings: Any) -> Lake:
    return Lake(server, destination(server.new_bucket(), **settings))


# ---------------------------------------------------------------------- what lands


def test_shards_are_visible_together_at_the_commit(lake):
    order = lake.begin()
    receipts = [lake.stage(order, users(10 * shard, 10 * shard + 4), shard) for shard in range(3)]
    assert lake.listed == []
    receipt = lake.commit(order, receipts, shards=range(3))
    assert lake.listed == [*range(5), *range(10, 15), *range(20, 25)]
    assert receipt.rows == receipt.counts.read == 15
    assert len(receipt.objects) == 3
    assert receipt.content is None
    assert lake.problems() == ()
    assert lake.uploads == 0


FORMATS = {
    "JSONL": PLAIN_JSONL,
    "CSV": CsvFormat(flattening="Root level flattening", compression=TextCompression.NONE),  # type: ignore[arg-type]
    "Avro": AvroFormat(),
    "Parquet": ParquetFormat(),
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_and_kind_of_record_lands(moto_s3, name):
    lake = _lake(moto_s3, format=FORMATS[name])
    order = lake.begin()
    table = pa.Table.from_pylist(users(3, 4))
    receipts = [
        lake.stage(order, users(1, 2), "dicts"),
        lake.stage(order, table, "table"),
        lake.stage(order, iter(table.to_batches()), "batches"),
        lake.stage(order, [batch_of(users(5, 6))], "json texts"),
        lake.stage(order, [], "nothing"),
    ]
    lake.commit(order, receipts, shards=5)
    names = sorted((row["id"], row["name"]) for row in lake.read()) if name != "JSONL" else None
    assert names is None or names == [(number, f"user {number}") for number in (1, 2, 3, 3, 4, 4, 5, 6)]
    assert name != "JSONL" or lake.listed == [1, 2, 3, 3, 4, 4, 5, 6]
    assert lake.problems() == ()


def test_an_arrow_schema_declares_the_columns(moto_s3):
    lake = _lake(moto_s3, format=ParquetFormat())
    schema = pa.schema([("id", pa.int64()), ("share", pa.float64())])
    order = lake.begin(Stream(name="users", namespace="public"), schema=schema)
    receipts = [
        lake.stage(order, pa.table({"id": [1], "share": [0.5]}), 0),
        # A frame without a value infers another type for the whole block.
        lake.stage(order, pa.table({"id": pa.array([2]), "share": pa.nulls(1)}), 1),
        lake.stage(order, pa.table({"id": pa.array([3.0]), "share": pa.array([2])}), 2),
    ]
    receipt = lake.commit(order, receipts)
    rows = sorted((row["id"], row["share"]) for row in lake.read())
    assert rows == [(1, 0.5), (2, None), (3, 2.0)]
    assert not receipt.counts.tally.overflowed


def test_workers_cannot_guess_a_schema(lake):
    with pytest.raises(SettingsError, match="declares no schema"):
        lake.begin(Stream(name="users"))


SCOPES = {
    "refresh": (SyncMode.FULL_REFRESH, None, {}, False),
    "append": (SyncMode.APPEND, None, {}, True),
    "partition": (SyncMode.APPEND, "2026-01-05", {}, False),
    "partition-added": (SyncMode.APPEND, "2026-01-05", {"on_rematerialize": "append"}, True),
}


@pytest.mark.parametrize("name", SCOPES)
def test_a_sync_replaces_or_adds_as_every_landing_does(moto_s3, name):
    mode, partition, settings, adds = SCOPES[name]
    lake, scope = _lake(moto_s3, **settings), Scope(stream().id, partition)
    lake.land(users(1, 3), stream(mode=mode), scope)
    order = lake.begin(stream(mode=mode), scope=scope)
    receipts = [lake.stage(order, users(10, 11), "a"), lake.stage(order, users(12, 13), "b")]
    receipt = lake.commit(order, receipts, shards=["a", "b"])
    assert lake.listed == ([1, 2, 3] if adds else []) + [10, 11, 12, 13]
    assert receipt.replaces is not adds
    assert lake.problems(scope) == ()


def test_private_fields_are_hashed_with_a_key_that_the_order_does_not_carry(moto_s3):
    key = "a long and random text"
    lake = _lake(moto_s3, hash_key=key)
    order = lake.begin(replace(stream(), settings={"fields": {"hash": ["name"]}}))
    assert key not in order.to_json()
    with pytest.raises(SettingsError, match="hash_key"):
        lake.stage(order, users(1, 2), 0)
    with pytest.raises(SettingsError, match="another hash_key"):
        lake.stage(order, users(1, 2), 0, hash_key="another long random text")
    receipt = lake.commit(order, [lake.stage(order, users(1, 2), 0, hash_key=key)])
    bodies = b"".join(lake.bucket.get(each.key)[0] for each in receipt.objects)
    assert b"user 1" not in bodies
    assert receipt.counts.tally.hashed == {"name": 2}


def test_bad_lines_of_all_shards_are_quarantined(moto_s3):
    lake = _lake(moto_s3, on_bad_record="quarantine")
    order = lake.begin(stream(mode=SyncMode.APPEND))
    bad = BadRecord(stream().id, b"{", "cut off")
    receipts = [lake.stage(order, [batch_of(users(shard, shard)), bad], shard) for shard in range(3)]
    receipts[1] = lake.stage(order, [batch_of(users(1, 1)), bad], 1)
    receipt = lake.commit(order, receipts, shards=3)
    assert receipt.counts.quarantined == len(receipt.quarantine) == 3
    assert [b"cut off" in lake.bucket.get(key)[0] for key in receipt.quarantine] == [True] * 3
    assert lake.uploads == 0
    assert lake.problems() == ()
    # A later sync absorbs the segment, and verifies what it lists.
    lake.land(users(7, 7), stream(mode=SyncMode.APPEND))
    assert lake.problems() == ()


def test_full_objects_are_closed_within_a_shard(moto_s3):
    lake = _lake(moto_s3, object_size_mb=0.0002)
    order = lake.begin()
    batches = [batch_of(users(first, first + 9)) for first in (0, 10, 20)]
    receipt = lake.stage(order, iter(batches), 0)
    assert [each.close_reason for each in receipt.objects] == ["size"] * 3
    lake.commit(order, [receipt])
    assert lake.listed == list(range(30))


def test_records_get_directories_by_their_fields_in_every_shard(moto_s3):
    lake = _lake(moto_s3, s3_path_format="${STREAM_NAME}/${FIELDS}/${EPOCH}_")
    order = lake.begin(replace(stream(), settings={"partition_by": ["name"]}))
    receipts = [lake.stage(order, users(1, 2), shard) for shard in range(2)]
    lake.stage(order, users(1, 2), 1)
    lake.commit(order, receipts, shards=2)
    folders = [key.split("/")[2] for key in data_keys(moto_s3, lake.settings.s3_bucket_name)]
    assert folders == ["name=user 1"] * 2 + ["name=user 2"] * 2
    assert lake.listed == [1, 1, 2, 2]
    assert lake.uploads == 0
    assert lake.problems() == ()


def test_the_values_of_all_shards_together_are_counted_before_the_decision(moto_s3):
    lake = _lake(moto_s3, s3_path_format="${STREAM_NAME}/${FIELDS}/${EPOCH}_", max_partition_values=3)
    of = replace(stream(), settings={"partition_by": ["name"]})
    order = lake.begin(of)
    receipts = [lake.stage(order, users(first, first + 1), first) for first in (1, 3)]
    with pytest.raises(RecordError, match="name of partition_by has 4 values so far, such as 'user 1'") as refused:
        lake.commit(order, receipts, shards=2)
    assert refused.value.setting == "max_partition_values"
    assert data_keys(moto_s3, lake.settings.s3_bucket_name) == []
    assert lake.uploads == 0
    order = lake.begin(of)
    lake.commit(order, [lake.stage(order, users(1, 2), 0), lake.stage(order, users(2, 3), 1)], shards=2)
    assert lake.listed == [1, 2, 2, 3]


def test_an_empty_refresh_empties_the_scope_or_keeps_it(moto_s3):
    for policy, left in (("publish", []), ("keep", [1, 2])):
        lake = _lake(moto_s3, on_empty_refresh=policy)
        lake.land(users(1, 2))
        order = lake.begin()
        assert lake.commit(order, [lake.stage(order, [], 0)], shards=1).rows == 0
        assert lake.listed == left


def test_big_integers_are_remembered_for_the_stream(moto_s3):
    lake = _lake(moto_s3, format=ParquetFormat())
    order = lake.begin()
    lake.commit(order, [lake.stage(order, [{"id": 2**60 + 1}], 0)])
    registry = json.loads(lake.bucket.get("data/_s3dest/public/users/~stream.json")[0])
    assert json.loads(registry["columns"])["big_integers"] == [1]


# ---------------------------------------------------------------------- the values


def test_orders_and_receipts_are_small(lake):
    order = lake.begin()
    assert len(order.to_json()) < 1000
    assert len(lake.stage(order, users(1, 3), 0).to_json()) < 1150


def test_an_order_carries_every_setting_but_no_secret(moto_s3):
    settings = {
        "format": ParquetFormat(compression_codec="ZSTD"),
        "hash_key": "a long and random text",
        "object_metadata": {"team": "data"},
        "schema_contract": {"new_type": "freeze"},
        "stream_prefix": "raw_",
        "name_style": "lower",
    }
    lake = _lake(moto_s3, **settings)
    of = Stream(
        name="users",
        json_schema=SCHEMA,
        settings={
            "rename": {"name": "full_name"},
            "fields": {"exclude": ["a.b", '["c.d"]']},
            "owner": "us",
            "expire_partitions_after": 0,
        },
        deselected=["id"],
    )
    order = Order.from_json(lake.begin(of).to_json())
    assert order.to_destination("a long and random text") == lake.settings
    assert order.to_stream().settings == of.settings
    assert order.to_stream().selection == of.selection
    assert order.landed_scope.stream.name == "raw_users"


def test_what_is_no_order_or_receipt_is_refused(lake):
    text = lake.begin().to_json()
    for wrong in ("", "{}", "no", text[:-1], "\ud800"):
        with pytest.raises(SettingsError):
            Order.from_json(wrong.encode("utf-8", "surrogatepass"))
        with pytest.raises(SettingsError):
            ShardReceipt.from_json(wrong.encode("utf-8", "surrogatepass"))
    with pytest.raises(SettingsError, match="version 2"):
        Order.from_json(text.replace('{"stream"', '{"version":2,"stream"'))


def test_a_worker_needs_the_bucket_of_the_order(lake):
    order = lake.begin()
    with pytest.raises(SettingsError, match="other"):
        stage(order, [], shard=0, s3=Bucket(lake.server.client(), "other"))


def test_a_worker_with_keys_alone_reaches_the_server_of_the_order(lake):
    order = lake.begin()
    keys = replace(lake.server.connection, endpoint="", region="")
    receipt = stage(order, users(1, 2), shard=0, s3=keys)
    assert commit(order, [receipt], shards=1, s3=keys).rows == 2


@pytest.mark.parametrize(
    ("endpoint", "region", "expected"),
    [
        ("http://minio:9000", "eu-west-1", ("http://minio:9000", "eu-west-1", True)),
        ("https://s3.eu-west-1.amazonaws.com", "eu-west-1", ("", "eu-west-1", False)),
        ("", "", ("", "", False)),
    ],
)
def test_a_connection_takes_the_place_that_another_process_reached(endpoint, region, expected):
    """The other process was allowed to use plain http. A place of the connection's own is kept."""
    taken = S3Connection().with_location(endpoint, region)
    assert (taken.endpoint, taken.region, taken.allow_plain_http) == expected
    own = S3Connection(endpoint="https://minio.example.com", region="us-east-1")
    assert own.with_location(endpoint, region) == own


def test_orders_and_receipts_hold_no_secret(moto_s3):
    """Also not in the spellings of JSON, URLs and base64."""
    connection = moto_s3.connection
    canaries = {"hash key": "a long and random text", "secret key": connection.secret_access_key}
    settings = destination(moto_s3.new_bucket(), hash_key=canaries["hash key"], on_bad_record="quarantine")
    of = replace(stream(mode=SyncMode.APPEND), settings={"fields": {"hash": ["name"]}})
    with target(moto_s3, settings, open_bucket(connection, settings)) as opened:
        order = begin(opened, of, sync("first"))
    bad = BadRecord(of.id, b"{", "cut off")
    receipt = stage(order, [batch_of(users(1, 2)), bad], shard=0, s3=connection, hash_key=canaries["hash key"])
    texts = {"order": order.to_json(), "receipt": receipt.to_json(), "reprs": repr((order, receipt, connection))}
    assert found(canaries, ((name, text.encode()) for name, text in texts.items())) == set()
    assert found(canaries, [("what is looked for", repr(canaries).encode())]) != set()


# ---------------------------------------------------------------------- rule 1: one receipt for each shard


def test_one_receipt_counts_for_each_shard_and_the_other_attempts_are_aborted(lake):
    order = lake.begin()
    first, second = (lake.stage(order, users(1, 3), 0) for _ in range(2))
    other = lake.stage(order, users(4, 5), 1)
    lost = lake.stage(order, users(4, 5), 1)
    assert lake.uploads == 4
    lake.commit(order, [first, second, other, first], shards=range(2))
    assert lake.listed == [1, 2, 3, 4, 5]
    assert lake.uploads == 0
    assert lost.objects[0].key not in data_keys(lake.server, lake.settings.s3_bucket_name)


@pytest.mark.parametrize("shards", [3, range(3), ["0", "1", "2"], range(1), 1])
def test_a_missing_or_unexpected_shard_fails_the_commit_before_the_decision(lake, shards):
    lake.land(users(1, 3))
    order = lake.begin()
    receipts = [lake.stage(order, users(10, 11), shard) for shard in range(2)]
    with pytest.raises(CommitError, match="shard"):
        lake.commit(order, receipts, shards=shards)
    assert lake.listed == [1, 2, 3]
    assert lake.uploads == 0


def test_receipts_of_another_order_or_of_two_names_are_refused(lake):
    other = lake.begin(of_sync=sync("other"))
    receipt = lake.stage(other, users(1, 2), 0)
    order = lake.begin()
    with pytest.raises(SettingsError, match="belongs to order other"):
        lake.commit(order, [receipt])
    assert lake.uploads == 1
    own = lake.stage(order, users(1, 2), 0)
    with pytest.raises(CommitError, match="the same object"):
        lake.commit(order, [own, ShardReceipt.from_json(own.to_json().replace('"shard":"0"', '"shard":"1"'))])
    assert lake.listed == []


def test_a_receipt_that_lists_a_foreign_object_is_refused(lake):
    lake.land(users(1, 1))
    (theirs,) = data_keys(lake.server, lake.settings.s3_bucket_name)
    order = lake.begin()
    receipt = lake.stage(order, users(2, 2), 0)
    changed = ShardReceipt.from_json(receipt.to_json().replace(receipt.objects[0].key, theirs))
    with pytest.raises(CommitError, match="no object of its order"):
        lake.commit(order, [changed])
    assert lake.listed == [1]
    assert lake.uploads == 0


# ---------------------------------------------------------------------- rules 2 and 3: keys and metadata


def test_keys_carry_the_mark_of_the_order_and_metadata_its_id(lake):
    order = lake.begin()
    receipt = lake.stage(order, users(1, 2), 0)
    twin = lake.stage(order, users(1, 2), 0)
    key = receipt.objects[0].key
    part = key.rpartition("_")[2].removesuffix(".jsonl")
    assert len(order.mark) * 4 == 60
    assert part.replace("-", "")[:16] == f"{order.mark[:12]}8{order.mark[12:]}"
    assert key != twin.objects[0].key
    published = lake.commit(order, [receipt])
    metadata = lake.server.client().head_object(Bucket=lake.settings.s3_bucket_name, Key=key)["Metadata"]
    assert metadata["s3dest-sync"] == order.id
    assert order.id not in published.manifest


def test_leftovers_are_found_by_key_with_two_listings_however_many_shards_there_are(lake):
    order = lake.begin()
    receipts = [lake.stage(order, users(shard, shard), shard) for shard in range(9)]
    client = CountedClient(lake.server.client())
    commit(order, [*receipts[:-1], lake.stage(order, users(8, 8), 8)], s3=Bucket(client, lake.settings.s3_bucket_name))
    assert client.calls.count("list_multipart_uploads") == 2
    assert lake.uploads == 0


def test_a_template_without_part_numbers_is_refused(moto_s3):
    with pytest.raises(SettingsError, match="part_number"):
        _lake(moto_s3, file_name_pattern="{timestamp}{format_extension}").begin()
    with pytest.raises(SettingsError, match="add_first"):
        _lake(moto_s3, publish_order="purge_first").begin()


# ---------------------------------------------------------------------- rule 4: when uploads are aborted


def test_an_abandoned_order_leaves_nothing_and_a_published_one_is_not_harmed(lake):
    order = lake.begin()
    lake.stage(order, users(1, 2), 0)
    assert lake.abandon(order) == 1
    assert lake.abandon(order) == 0
    receipt = lake.stage(order, users(1, 2), 0)
    lake.commit(order, [receipt])
    assert lake.abandon(order) == 0
    assert lake.listed == [1, 2]


def test_a_failed_shard_aborts_its_uploads(moto_s3):
    lake = _lake(moto_s3, object_size_mb=0.0002)
    order = lake.begin()

    def records() -> Iterator[Any]:
        yield batch_of(users(1, 10))
        yield batch_of(users(11, 20))
        raise RuntimeError("lost its database")

    with pytest.raises(RuntimeError):
        lake.stage(order, records(), 0)
    with pytest.raises(RecordError):
        lake.stage(order, [BadRecord(None, b"{", "cut off")], 1)
    assert lake.uploads == 0


# ---------------------------------------------------------------------- rule 5: workers that come too late


def test_a_worker_that_ends_after_the_commit_keeps_nothing(moto_s3):
    lake = _lake(moto_s3, object_size_mb=0.0002)
    order = lake.begin()

    def records(commit_after: int) -> Iterator[Any]:
        for number in range(3):
            yield batch_of(users(10 * number, 10 * number + 9))
            if number == commit_after:
                lake.commit(order, [lake.stage(order, users(1, 3), 0)], shards=1)

    for commit_after in (0, 2):
        late = lake.stage(order, records(commit_after), 0)
        assert late.complete
        assert late.objects == ()
        assert lake.uploads == 0
        order = lake.begin(of_sync=sync("second"))
    assert lake.listed == [1, 2, 3]


def test_a_sweep_aborts_at_once_what_a_complete_sync_left(moto_s3):
    """A worker that was killed after it had closed an object, later than the commit."""
    # The server says that every upload is from 2010.
    lake = _lake(moto_s3, on_bad_record="quarantine", abandoned_upload_age_s=10**9)
    order = lake.begin()
    stray = lake.stage(order, [batch_of(users(1, 1)), BadRecord(None, b"{", "cut off")], 0)
    running = lake.begin(stream(mode=SyncMode.APPEND), sync("running"), scope=Scope(stream().id, "a"))
    lake.stage(running, users(1, 1), 0)
    keep = [each.key for each in stray.objects] + [stray.quarantine.key]
    with pytest.MonkeyPatch.context() as patch:
        # Stands for uploads that began after the commit had looked for them.
        patch.setattr(leftovers, "_abort", lambda *_: 0)
        lake.commit(order, [lake.stage(order, users(5, 5), 0)])
    assert lake.uploads == 3
    swept = sweep(lake.bucket, lake.settings, stream().id)
    assert (swept.aborted, swept.kept) == (2, 1)
    uploads = lake.server.client().list_multipart_uploads(Bucket=lake.settings.s3_bucket_name)["Uploads"]
    assert not {each["Key"] for each in uploads} & set(keep)


# ---------------------------------------------------------------------- rule 6: overtaken


def test_a_commit_that_another_sync_has_overtaken_is_refused_and_leaves_nothing(lake):
    order = lake.begin()
    receipt = lake.stage(order, users(1, 3), 0)
    lake.land(users(7, 8))
    with pytest.raises(SupersededError):
        lake.commit(order, [receipt])
    assert lake.listed == [7, 8]
    assert lake.uploads == 0


def test_the_second_driver_of_one_order_returns_the_receipt_of_the_first(lake):
    order = lake.begin()
    one, two = lake.stage(order, users(1, 3), 0), lake.stage(order, users(1, 3), 0)
    first = lake.commit(order, [one])
    second = lake.commit(order, [two], shards=5)
    assert second.repeated
    assert second.objects == first.objects
    assert lake.listed == [1, 2, 3]
    assert lake.uploads == 0


def test_a_complete_sync_is_not_staged_again(lake):
    order = lake.begin()
    first = lake.commit(order, [lake.stage(order, users(1, 3), 0)])
    again = lake.begin(of_sync=order.sync)
    assert again.complete
    receipt = lake.stage(again, iter(lambda: pytest.fail("was read"), None), 0)
    assert lake.commit(again, [receipt]).manifest == first.manifest


# ---------------------------------------------------------------------- rule 7: no states


def test_records_with_states_and_scopes_with_states_are_refused(lake):
    of = stream(mode=SyncMode.APPEND)
    order = lake.begin(of)
    with pytest.raises(SettingsError, match="have a state"):
        lake.stage(order, [State(of.id, b'{"cursor":1}', b"{}")], 0)
    with target(lake.server, lake.settings) as opened:
        land([batch_of(users(1, 1)), State(of.id, b'{"cursor":1}', b"{}")], opened, of, sync("with state"))
    with pytest.raises(SettingsError, match="has a state"):
        lake.begin(of, sync("another"))
    lake.begin(stream(), sync("a refresh"))


# ---------------------------------------------------------------------- rule 8: columns


def test_a_shard_with_other_columns_fails_the_commit(lake):
    lake.land(users(1, 1))
    order = lake.begin()
    receipt = lake.stage(order, users(2, 3), 0)
    wrong = ShardReceipt.from_json(receipt.to_json().replace(order.fingerprint, "0" * 64))
    with pytest.raises(SchemaError, match="other columns"):
        lake.commit(order, [wrong])
    assert lake.listed == [1]
    assert lake.uploads == 0


def test_workers_write_the_columns_that_the_driver_reserved_whatever_they_see_first(moto_s3):
    lake = _lake(moto_s3, format=ParquetFormat())
    order = lake.begin()
    receipts = [lake.stage(order, [{"id": "seven", "more": 1}], 0), lake.stage(order, [{"name": "x", "id": 1}], 1)]
    receipt = lake.commit(order, receipts)
    assert receipt.counts.tally.overflowed == {"id": 1}
    assert receipt.counts.tally.undeclared == {"more": 1}
    assert sorted(row["id"] or 0 for row in lake.read()) == [0, 1]


def test_a_contract_holds_on_the_driver_and_on_the_workers(moto_s3):
    lake = _lake(moto_s3, format=ParquetFormat())
    frozen = replace(stream(), settings={"schema_contract": {"undeclared_field": "freeze", "new_column": "freeze"}})
    lake.land(users(1, 1))
    order = lake.begin(frozen)
    with pytest.raises(SchemaContractError):
        lake.stage(order, [{"id": 1, "more": 2}], 0)
    wider = {"type": "object", "properties": {**SCHEMA["properties"], "more": {"type": "string"}}}
    with pytest.raises(SchemaContractError):
        lake.begin(replace(frozen, json_schema=wider), sync("wider"))


def test_undeclared_fields_are_dropped_at_every_level_as_in_a_landing(moto_s3):
    lake = _lake(moto_s3, format=ParquetFormat(), schema_contract={"undeclared_field": "discard"})
    nested = {"type": "object", "properties": {"a": {"type": "integer"}}}
    of = Stream(name="users", namespace="public", json_schema={"type": "object", "properties": {"inner": nested}})
    order = lake.begin(of)
    receipt = lake.commit(order, [lake.stage(order, [{"inner": {"a": 1, "b": 2}, "c": 3}], 0)])
    assert receipt.counts.tally.undeclared == {"inner.b": 1, "c": 1}
    body = lake.bucket.get(receipt.objects[0].key)[0]
    assert lake.read()[0]["inner"]["a"] == 1
    assert b'"b"' not in body
