"""Data versions and code versions as Dagster records them: equal if, and only if, nothing has changed."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest

from s3dest_dagster import AvroFormat, JsonlFormat, ParquetFormat, S3DestinationTranslator, Stream, stream_asset

RECORDS = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def version(lake, instance):
    """Lands records, and returns the data version that Dagster has recorded."""

    def of(records, *, io=None, tags=None, **asset) -> str:
        made = stream_asset(name="people", **asset)(lambda: records)
        lake.materialize(made, io=io, instance=instance, tags=tags)
        record = instance.fetch_materializations(made.key, limit=1).records[0]
        return record.asset_materialization.tags["dagster/data_version"]

    return of


def test_the_same_records_landed_again_have_the_same_version(version):
    assert version(RECORDS) == version([dict(each) for each in RECORDS])


def test_the_version_does_not_depend_on_the_form_of_the_records(version):
    """The records come in pages or individually. The batches differ, and the records are the same."""
    many = [{"id": number, "text": "x" * 1000} for number in range(3000)]
    assert version(many) == version(iter([many[:7], *many[7:100], many[100:]]))


def test_different_records_have_a_different_version(version):
    others = {
        "the same": RECORDS,
        "fewer": RECORDS[:1],
        "more": [*RECORDS, {"id": 3}],
        "another order": RECORDS[::-1],
        "another letter": [RECORDS[0], {"id": 2, "name": "twO"}],
    }
    assert len({version(records) for records in others.values()}) == len(others)


def test_another_format_or_other_columns_have_a_different_version(lake, version):
    found = [
        version(RECORDS, io=lake.io(format=JsonlFormat())),
        version(RECORDS, io=lake.io(format=ParquetFormat())),
        version(RECORDS, io=lake.io(format=ParquetFormat(compression_codec="ZSTD"))),
        version(RECORDS, io=lake.io(format=ParquetFormat()), json_schema={"properties": {"id": {"type": "string"}}}),
    ]
    assert len(set(found)) == len(found)


def test_an_append_changes_the_version_and_an_empty_append_does_not(version):
    first = version(RECORDS, sync_mode="append")
    second = version(RECORDS, sync_mode="append")
    assert first != second
    assert version([], sync_mode="append") == second


def test_a_body_that_returns_none_keeps_the_version(version):
    before = version(RECORDS)
    assert version(None) == before


def test_a_full_refresh_without_records_that_keeps_the_old_data_keeps_the_version(lake, version):
    before = version(RECORDS)
    assert version([], io=lake.io(on_empty_refresh="keep")) == before
    assert version([], io=lake.io(on_empty_refresh="publish")) != before


def test_a_range_landed_again_in_one_run_has_the_same_version(version):
    options = {
        "partitions_def": dg.StaticPartitionsDefinition(["eu", "us"]),
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "tags": {"dagster/asset_partition_range_start": "eu", "dagster/asset_partition_range_end": "us"},
    }
    first = version({"eu": [{"id": 1}], "us": [{"id": 2}]}, **options)
    assert version({"eu": [{"id": 1}], "us": [{"id": 2}]}, **options) == first
    assert version({"eu": [{"id": 1}], "us": [{"id": 3}]}, **options) != first


def test_a_retry_of_a_sync_that_was_published_has_the_version_of_that_sync(lake, instance):
    lost = []

    @stream_asset(retry_policy=dg.RetryPolicy(max_retries=1))
    def people():
        return RECORDS

    class Losing(type(lake.io())):
        """Fails once after everything was published, like a process that ends before Dagster records the event."""

        def handle_output(self, context, obj):
            super().handle_output(context, obj)
            if not lost:
                lost.append(True)
                raise OSError("gone")

    settings = {"s3_bucket_name": lake.bucket, "s3": lake.server.connection, "format": lake.io().format}
    again = lake.materialize(people, io=Losing(**settings), instance=instance)
    lake.materialize(people, instance=instance)
    tags = [each.asset_materialization.tags for each in instance.fetch_materializations(people.key, limit=2).records]
    assert again.success
    assert lost
    assert len({each["dagster/data_version"] for each in tags}) == 1


@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_a_version_from_the_body_is_kept(version):
    assert version(dg.Output(RECORDS, data_version=dg.DataVersion("mine"))) == "mine"


def test_a_downstream_asset_is_not_stale_after_the_same_records_landed_again(lake, instance):
    @stream_asset
    def people():
        return RECORDS

    @dg.asset(deps=[people], io_manager_key="memory")
    def report():
        return 1

    resources = {"memory": dg.mem_io_manager}
    lake.materialize(people, report, resources=resources, instance=instance)
    lake.materialize(people, report, resources=resources, instance=instance, selection=[people])
    tags = [
        instance.fetch_materializations(key, limit=1).records[0].asset_materialization.tags
        for key in (people.key, report.key)
    ]
    assert tags[1]["dagster/input_data_version/people"] == tags[0]["dagster/data_version"]


class TestCodeVersion:
    def version(self, format=None, **changes) -> str:
        given = {"name": "people", "namespace": "crm", "json_schema": SCHEMA, **changes}
        return S3DestinationTranslator(format).get_asset_spec(Stream(**given)).code_version

    def test_the_code_version_stays_if_the_landed_bytes_do_not_change(self):
        described = {"type": "object", "properties": {**SCHEMA["properties"], "id": {"type": "integer", "title": "Id"}}}
        assert self.version() == self.version() == self.version(json_schema=described, description="People")
        assert self.version(ParquetFormat()) == self.version(ParquetFormat(compression_codec="UNCOMPRESSED"))

    @pytest.mark.parametrize(
        "changes",
        [
            {"json_schema": {"type": "object", "properties": {"id": {"type": "string"}}}},
            {"json_schema": None},
            {"sync_mode": "append"},
            {"namespace": None},
            {"format": AvroFormat()},
            {"format": ParquetFormat(compression_codec="ZSTD")},
        ],
        ids=str,
    )
    def test_the_code_version_changes_if_the_landed_bytes_change(self, changes):
        assert self.version(**{"format": ParquetFormat(), **changes}) != self.version(format=ParquetFormat())

    def test_the_code_version_of_the_user_takes_precedence(self, lake, instance):
        made = stream_asset(name="people", code_version="7")(lambda: RECORDS)
        lake.materialize(made, instance=instance)
        record = instance.fetch_materializations(made.key, limit=1).records[0]
        assert record.asset_materialization.tags["dagster/code_version"] == "7"
