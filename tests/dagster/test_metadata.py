"""What a materialization and a definition say about a stream."""

from __future__ import annotations

import dagster as dg
import pytest

from s3dest_dagster import AvroFormat, CsvFormat, S3Connection, open_bucket, stream_asset
from s3dest_dagster.batch import Tally
from s3dest_dagster.commit.segment import Counts, SegmentObject
from s3dest_dagster.dagster.metadata import SHOWN_OBJECTS, Preview, receipt_metadata
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.stream import Scope, Stream, StreamId

SCHEMA = {
    "type": "object",
    "properties": {
        "id": {"type": "integer", "description": "Number of the person"},
        "born": {"type": "string", "format": "date"},
        "e-mail": {"type": "string", "description": "Address"},
    },
}


def receipt(**changes) -> Receipt:
    objects = (
        SegmentObject(key="data/users/a/1.csv", rows=3, bytes=30, etag="", close_reason="size"),
        SegmentObject(key="data/users/b/2.csv", rows=2, bytes=20, etag="", close_reason="end"),
    )
    given = {
        "scope": Scope(StreamId(None, "users")),
        "sync_id": "run-1",
        "objects": objects,
        "replaces": True,
        "removed": ("data/users/0.csv",),
        "counts": Counts(read=6, landed=5, quarantined=1),
        "schema": "{}",
        "fingerprint": "f00",
        "json_schema": None,
        "schema_changes": None,
        "state": None,
        "manifest": "s3://lake/_s3dest/users/~/segments/run-1.json",
        "format": {"format_type": "Csv"},
    }
    return Receipt(**given | changes)


@pytest.fixture
def values(told):
    """The plain values of a receipt's metadata."""

    def of(made: Receipt, seconds: float = 2.0, endpoint: str = "http://127.0.0.1:9000", region: str = "") -> dict:
        stream = Stream(name="users")
        bucket = open_bucket(S3Connection(endpoint=endpoint, region=region or "us-east-1"), "lake")
        return told(receipt_metadata(made, stream, bucket=bucket, seconds=seconds, preview=Preview(stream, 0)))

    return of


def test_counts_and_rates(values):
    told = values(receipt())
    assert (told["rows"], told["bytes"], told["object_count"], told["removed_objects"]) == (5, 50, 2, 1)
    assert (told["seconds"], told["rows_per_second"]) == (2.0, 2)
    assert (told["records_read"], told["quarantined"]) == (6, 1)


def test_addresses(values):
    told = values(receipt())
    assert told["dagster/uri"] == "s3://lake/data/users/"
    assert told["manifest"] == "s3://lake/_s3dest/users/~/segments/run-1.json"
    assert (told["dagster/storage_kind"], told["sync_id"], told["schema_fingerprint"]) == ("s3", "run-1", "f00")


@pytest.mark.parametrize(
    ("endpoint", "region", "location"),
    [
        ("http://127.0.0.1:9000", "", "s3://lake/data/users/"),
        (
            "https://s3.eu-west-1.amazonaws.com",
            "eu-west-1",
            "https://eu-west-1.console.aws.amazon.com/s3/buckets/lake?region=eu-west-1&prefix=data%2Fusers%2F",
        ),
        (
            "https://s3.cn-north-1.amazonaws.com.cn",
            "cn-north-1",
            "https://console.amazonaws.cn/s3/buckets/lake?region=cn-north-1&prefix=data%2Fusers%2F",
        ),
        (
            "https://s3.us-gov-west-1.amazonaws.com",
            "us-gov-west-1",
            "https://console.amazonaws-us-gov.com/s3/buckets/lake?region=us-gov-west-1&prefix=data%2Fusers%2F",
        ),
    ],
)
def test_the_location_is_a_page_of_the_console_where_there_is_one(values, endpoint, region, location):
    assert values(receipt(), endpoint=endpoint, region=region)["location"] == location


def test_an_object_at_the_top_of_the_bucket_has_an_address(values):
    item = SegmentObject(key="1.csv", rows=3, bytes=30, etag="", close_reason="end")
    assert values(receipt(objects=(item,)))["dagster/uri"] == "s3://lake/"


def test_no_objects_have_no_address_and_no_time_no_rate(values):
    told = values(receipt(objects=()), seconds=0)
    assert "dagster/uri" not in told
    assert told["rows_per_second"] == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"dagster/row_count": 5}),
        ({"scope": Scope(StreamId(None, "users"), "eu")}, {"dagster/partition_row_count": 5}),
        ({"replaces": False}, {}),
    ],
    ids=["unpartitioned", "a partition", "appended"],
)
def test_the_row_count_is_told_where_this_sync_made_all_of_it(values, changes, expected):
    assert {name: each for name, each in values(receipt(**changes)).items() if "row_count" in name} == expected


def test_misfits_are_told_with_their_fields_and_those_that_are_plotted_always(values):
    tally = Tally(coerced={"id": 2, "age": 1}, overflowed={"born": 4}, undeclared={"nick": 5})
    told = values(receipt(counts=Counts(read=5, landed=5, tally=tally)))
    assert (told["coerced"], told["overflowed"], told["undeclared"]) == (3, 4, 5)
    assert told["coerced_fields"] == {"id": 2, "age": 1}
    quiet = values(receipt(counts=Counts(read=5, landed=5)))
    assert not {"coerced", "undeclared", "overflowed_fields"} & quiet.keys()
    assert (quiet["quarantined"], quiet["overflowed"]) == (0, 0)


def test_objects_are_a_table(values):
    records = values(receipt())["objects"]
    assert [(each["key"], each["rows"], each["bytes"]) for each in records] == [
        ("data/users/a/1.csv", 3, 30),
        ("data/users/b/2.csv", 2, 20),
    ]


def test_of_many_objects_the_first_are_shown_and_the_rest_counted(values):
    many = tuple(
        SegmentObject(key=f"data/{number}", rows=1, bytes=2, etag="", close_reason="size")
        for number in range(SHOWN_OBJECTS + 50)
    )
    records = values(receipt(objects=many))["objects"]
    assert len(records) == SHOWN_OBJECTS + 1
    assert records[-1] == {"key": "… and 50 more, see the manifest", "rows": 50, "bytes": 100, "closed_at": ""}


def test_a_repeated_sync_and_swept_uploads_are_told(values):
    told = values(receipt(repeated=True, swept=3))
    assert (told["repeated"], told["aborted_uploads"]) == (True, 3)
    assert not {"repeated", "aborted_uploads"} & values(receipt()).keys()


def test_what_ended_early_for_memory_is_told(values):
    objects = [
        SegmentObject(key="data/a", rows=1, bytes=2, etag="", close_reason="memory", short_row_groups=2),
        SegmentObject(key="data/b", rows=1, bytes=2, etag="", close_reason="end"),
    ]
    told = values(receipt(objects=tuple(objects)))
    assert told["ended_early"] == 3
    assert [each["closed_at"] for each in told["objects"]] == ["memory", "end"]
    assert "ended_early" not in values(receipt())


class TestColumns:
    def test_declared_ones_are_in_the_definition_only(self, lake, told):
        @stream_asset(json_schema=SCHEMA)
        def people():
            return [{"id": 1}]

        (spec,) = people.specs
        columns = {each.name: (each.type, each.description) for each in spec.metadata["dagster/column_schema"].columns}
        assert columns["id"][1] == "Number of the person"
        assert "date" in columns["born"][0]
        assert columns["e_mail"][1] == "Address ('e-mail' in the source)"
        assert "dagster/column_schema" not in told(lake.materialize(people), "people")

    def test_those_of_a_stream_without_a_schema_are_told_when_they_are_known(self, lake, told):
        @stream_asset
        def people():
            return [{"id": 1, "name": "one"}]

        (spec,) = people.specs
        assert "dagster/column_schema" not in spec.metadata
        schema = told(lake.materialize(people), "people")["dagster/column_schema"]
        assert {"id", "name"} <= {each.name for each in schema.columns}

    def test_those_that_are_others_than_before_are_told(self, lake, told):
        properties = [
            {"id": {"type": "integer"}, "nick": {"type": "string"}},
            {"id": {"type": "string"}, "name": {"type": "string"}},
        ]
        results = [
            told(
                lake.materialize(
                    stream_asset(name="people", json_schema={"type": "object", "properties": each})(lambda: [{}])
                ),
                "people",
            )
            for each in properties
        ]
        assert "schema_changes" not in results[0]
        assert results[1]["schema_changes"] == {
            "added": ["name"],
            "removed": ["nick"],
            "retyped": {"id": "integer → string"},
        }
        assert {"id", "name"} <= {each.name for each in results[1]["dagster/column_schema"].columns}


def test_misfits_of_a_real_landing_are_counted(lake, told):
    @stream_asset(json_schema=SCHEMA)
    def people():
        return [{"id": "12"}, {"id": "many", "nick": "x"}]

    values = told(lake.materialize(people, io=lake.io(format=AvroFormat())), "people")
    assert (values["coerced_fields"], values["overflowed_fields"]) == ({"id": 1}, {"id": 1})
    assert values["undeclared_fields"] == {"nick": 1}


def test_dropped_fields_of_flattened_csv_are_counted(lake, told):
    @stream_asset(json_schema=SCHEMA)
    def people():
        return [{"id": 1, "nick": "x"}]

    io = lake.io(format=CsvFormat(flattening="Root level flattening"))
    assert told(lake.materialize(people, io=io), "people")["undeclared_fields"] == {"nick": 1}


def test_what_is_told_is_what_lies_in_the_bucket(lake, told):
    @stream_asset(partitions_def=dg.StaticPartitionsDefinition(["eu"]), namespace="crm")
    def people():
        return [{"id": 1}, {"id": 2}]

    values = told(lake.materialize(people, partition_key="eu"), "crm__people")
    (key,) = lake.data_keys()
    assert [each["key"] for each in values["objects"]] == [key]
    assert values["bytes"] == len(lake.body(key))
    assert values["dagster/uri"] == f"s3://{lake.bucket}/{key.rpartition('/')[0]}/"
    assert values["manifest"].removeprefix(f"s3://{lake.bucket}/") in lake.all_keys()
    assert values["dagster/partition_row_count"] == 2


@pytest.mark.parametrize(("server", "warnings"), [("moto_s3", 0), ("rclone_s3", 1)])
def test_a_server_that_cannot_tell_writers_apart_is_named_once(request, lake_on, server, warnings):
    @stream_asset
    def people():
        return [{"id": 1}]

    lake = lake_on(request.getfixturevalue(server))
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [lake.materialize(people, instance=instance).run_id for _ in range(2)]
        lines = [each.user_message for run_id in runs for each in instance.all_logs(run_id)]
    assert len([line for line in lines if "ignores conditional puts" in line]) == warnings
