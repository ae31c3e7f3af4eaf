"""The metadata of a stream in a materialization and in a definition."""

from __future__ import annotations

import json

import dagster as dg
import pytest

from s3dest_dagster import AvroFormat, CsvFormat, S3Connection, open_bucket, stream_asset
from s3dest_dagster.batch import Tally
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.segment import Counts
from s3dest_dagster.dagster.metadata import SHOWN_OBJECTS, receipt_metadata
from s3dest_dagster.dagster.preview import Preview
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
def values(metadata_of):
    """The plain values of the metadata for a receipt."""

    def of(made: Receipt, seconds: float = 2.0, endpoint: str = "http://127.0.0.1:9000", region: str = "") -> dict:
        stream = Stream(name="users")
        bucket = open_bucket(S3Connection(endpoint=endpoint, region=region or "us-east-1"), "lake")
        return metadata_of(receipt_metadata(made, stream, bucket=bucket, seconds=seconds, preview=Preview(stream, 0)))

    return of


def test_directories_of_fields_are_summed_up(values):
    objects = [
        SegmentObject(key=f"{n}", rows=n, bytes=10 * n, etag="", close_reason="end", partition_values={"dt": value})
        for n, value in ((1, None), (2, "a"), (3, "b"), (4, None))
    ]
    shown = values(receipt(objects=tuple(objects)))
    assert (shown["directories"], shown["smallest_object"], shown["median_object"]) == (3, 10, 20)
    assert shown["null_rows"] == {"dt": 5}
    assert "directories" not in values(receipt())


def test_counts_and_rates(values):
    shown = values(receipt())
    assert (shown["rows"], shown["bytes"], shown["object_count"], shown["removed_objects"]) == (5, 50, 2, 1)
    assert (shown["seconds"], shown["rows_per_second"]) == (2.0, 2)
    assert (shown["records_read"], shown["quarantined"]) == (6, 1)


def test_addresses_of_data_and_manifest(values):
    shown = values(receipt())
    assert shown["dagster/uri"] == "s3://lake/data/users/"
    assert shown["manifest"] == "s3://lake/_s3dest/users/~/segments/run-1.json"
    assert (shown["dagster/storage_kind"], shown["sync_id"], shown["schema_fingerprint"]) == ("s3", "run-1", "f00")


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
def test_the_location_is_a_console_page_if_the_server_has_a_console(values, endpoint, region, location):
    assert values(receipt(), endpoint=endpoint, region=region)["location"] == location


def test_an_object_at_the_top_of_the_bucket_has_an_address(values):
    item = SegmentObject(key="1.csv", rows=3, bytes=30, etag="", close_reason="end")
    assert values(receipt(objects=(item,)))["dagster/uri"] == "s3://lake/"


def test_a_sync_without_objects_has_no_address_and_one_without_duration_no_rate(values):
    shown = values(receipt(objects=()), seconds=0)
    assert "dagster/uri" not in shown
    assert shown["rows_per_second"] == 0


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {"dagster/row_count": 5}),
        ({"scope": Scope(StreamId(None, "users"), "eu")}, {"dagster/partition_row_count": 5}),
        ({"replaces": False, "total_rows": 12}, {"dagster/row_count": 12}),
        ({"replaces": False}, {}),
    ],
    ids=["unpartitioned", "a partition", "appended", "appended, and nothing recorded"],
)
def test_the_row_count_is_that_of_everything_that_the_scope_holds(values, changes, expected):
    assert {name: each for name, each in values(receipt(**changes)).items() if "row_count" in name} == expected


def test_each_append_reports_all_rows_of_the_stream_even_if_it_adds_none(lake, metadata_of):
    @stream_asset(sync_mode="append", json_schema=SCHEMA)
    def people(config: dict):
        return [{"id": n} for n in range(config["rows"])]

    shown = []
    for rows in (2, 3, 0, 1):
        result = lake.materialize(people, run_config={"ops": {"people": {"config": {"rows": rows}}}})
        values = metadata_of(result, "people")
        shown.append((values["rows"], values["dagster/row_count"]))
    assert shown == [(2, 2), (3, 5), (0, 5), (1, 6)]
    assert len(lake.rows()) == 6


def test_rows_of_an_older_version_are_counted_by_its_segments(lake, metadata_of):
    @stream_asset(sync_mode="append", json_schema=SCHEMA)
    def people():
        return [{"id": 1}, {"id": 2}]

    for _ in range(3):
        lake.materialize(people)
    client = lake.server.client()
    for key in (key for key in lake.all_keys() if "/segments/" in key):
        segment = json.loads(lake.body(key))
        assert segment.pop("total_rows")
        client.put_object(Bucket=lake.bucket, Key=key, Body=json.dumps(segment).encode())
    assert metadata_of(lake.materialize(people), "people")["dagster/row_count"] == 8


def test_misfits_are_reported_with_their_fields_and_plotted_counts_always(values):
    tally = Tally(coerced={"id": 2, "age": 1}, overflowed={"born": 4}, undeclared={"nick": 5})
    shown = values(receipt(counts=Counts(read=5, landed=5, tally=tally)))
    assert (shown["coerced"], shown["overflowed"], shown["undeclared"]) == (3, 4, 5)
    assert shown["coerced_fields"] == {"id": 2, "age": 1}
    quiet = values(receipt(counts=Counts(read=5, landed=5)))
    assert not {"coerced", "undeclared", "overflowed_fields"} & quiet.keys()
    assert (quiet["quarantined"], quiet["overflowed"]) == (0, 0)


def test_objects_are_a_table(values):
    records = values(receipt())["objects"]
    assert [(each["key"], each["rows"], each["bytes"]) for each in records] == [
        ("data/users/a/1.csv", 3, 30),
        ("data/users/b/2.csv", 2, 20),
    ]


def test_only_the_first_of_many_objects_are_shown_and_the_rest_is_counted(values):
    many = tuple(
        SegmentObject(key=f"data/{number}", rows=1, bytes=2, etag="", close_reason="size")
        for number in range(SHOWN_OBJECTS + 50)
    )
    records = values(receipt(objects=many))["objects"]
    assert len(records) == SHOWN_OBJECTS + 1
    assert records[-1] == {"key": "… and 50 more, see the manifest", "rows": 50, "bytes": 100, "close_reason": ""}


def test_a_repeated_sync_and_swept_uploads_are_reported(values):
    shown = values(receipt(repeated=True, swept=3))
    assert (shown["repeated"], shown["aborted_uploads"]) == (True, 3)
    assert not {"repeated", "aborted_uploads"} & values(receipt()).keys()


def test_objects_that_ended_early_for_lack_of_memory_are_counted(values):
    objects = [
        SegmentObject(key="data/a", rows=1, bytes=2, etag="", close_reason="memory", short_row_groups=2),
        SegmentObject(key="data/b", rows=1, bytes=2, etag="", close_reason="end"),
    ]
    shown = values(receipt(objects=tuple(objects)))
    assert shown["ended_early"] == 3
    assert [each["close_reason"] for each in shown["objects"]] == ["memory", "end"]
    assert "ended_early" not in values(receipt())


class TestColumns:
    def test_declared_columns_are_only_in_the_definition(self, lake, metadata_of):
        @stream_asset(json_schema=SCHEMA)
        def people():
            return [{"id": 1}]

        (spec,) = people.specs
        columns = {each.name: (each.type, each.description) for each in spec.metadata["dagster/column_schema"].columns}
        assert columns["id"][1] == "Number of the person"
        assert "date" in columns["born"][0]
        assert columns["e_mail"][1] == "Address ('e-mail' in the source)"
        assert "dagster/column_schema" not in metadata_of(lake.materialize(people), "people")

    def test_inferred_columns_are_reported_once_they_are_known(self, lake, metadata_of):
        @stream_asset
        def people():
            return [{"id": 1, "name": "one"}]

        (spec,) = people.specs
        assert "dagster/column_schema" not in spec.metadata
        schema = metadata_of(lake.materialize(people), "people")["dagster/column_schema"]
        assert {"id", "name"} <= {each.name for each in schema.columns}

    def test_changed_columns_are_reported(self, lake, metadata_of):
        properties = [
            {"id": {"type": "integer"}, "nick": {"type": "string"}},
            {"id": {"type": "string"}, "name": {"type": "string"}},
        ]
        results = [
            metadata_of(
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


def test_misfits_of_a_real_landing_are_counted(lake, metadata_of):
    @stream_asset(json_schema=SCHEMA)
    def people():
        return [{"id": "12"}, {"id": "many", "nick": "x"}]

    values = metadata_of(lake.materialize(people, io=lake.io(format=AvroFormat())), "people")
    assert (values["coerced_fields"], values["overflowed_fields"]) == ({"id": 1}, {"id": 1})
    assert values["undeclared_fields"] == {"nick": 1}


def test_dropped_fields_of_flattened_csv_are_counted(lake, metadata_of):
    @stream_asset(json_schema=SCHEMA)
    def people():
        return [{"id": 1, "nick": "x"}]

    io = lake.io(format=CsvFormat(flattening="Root level flattening"))
    assert metadata_of(lake.materialize(people, io=io), "people")["undeclared_fields"] == {"nick": 1}


def test_the_metadata_matches_the_contents_of_the_bucket(lake, metadata_of):
    @stream_asset(partitions_def=dg.StaticPartitionsDefinition(["eu"]), namespace="crm")
    def people():
        return [{"id": 1}, {"id": 2}]

    values = metadata_of(lake.materialize(people, partition_key="eu"), "crm__people")
    (key,) = lake.data_keys()
    assert [each["key"] for each in values["objects"]] == [key]
    assert values["bytes"] == len(lake.body(key))
    assert values["dagster/uri"] == f"s3://{lake.bucket}/{key.rpartition('/')[0]}/"
    assert values["manifest"].removeprefix(f"s3://{lake.bucket}/") in lake.all_keys()
    assert values["dagster/partition_row_count"] == 2


@pytest.mark.parametrize(("server", "warnings"), [("moto_s3", 0), ("rclone_s3", 1)])
def test_a_server_that_cannot_detect_concurrent_writers_is_named_once(request, lake_on, server, warnings):
    @stream_asset
    def people():
        return [{"id": 1}]

    lake = lake_on(request.getfixturevalue(server))
    with dg.DagsterInstance.ephemeral() as instance:
        runs = [lake.materialize(people, instance=instance).run_id for _ in range(2)]
        lines = [each.user_message for run_id in runs for each in instance.all_logs(run_id)]
    assert len([line for line in lines if "ignores conditional puts" in line]) == warnings


def test_a_run_shows_the_columns_that_its_objects_have(lake):
    """The names of columns depend on the settings and on what the stream had before, the asset's on neither."""
    schema = {"type": "object", "properties": {"userId": {"type": "integer", "description": "Who"}}}
    io = lake.io(format="parquet", name_style="snake")
    shown = []
    for type_ in ("integer", "string"):
        schema["properties"]["userId"]["type"] = type_

        @stream_asset(json_schema=schema, sync_mode="append")
        def orders():
            yield {"userId": 1}

        result = lake.materialize(orders, io=io)
        (event,) = result.get_asset_materialization_events()
        columns = event.materialization.metadata["dagster/column_schema"].schema.columns
        shown.append([(column.name, column.type, column.description) for column in columns])
    assert shown == [
        [("user_id", "integer", "Who ('userId' in the source)")],
        [("user_id_string", "string", "Who ('userId' in the source)")],
    ]
