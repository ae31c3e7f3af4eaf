"""The settings of the IO manager: the connector's names, the connector's file, run config, and access to the bucket."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import fields
from typing import Any

import boto3
import dagster as dg
import pytest
from aws_identities import new_role, new_user
from recording_proxy import recording_proxy

from s3dest_dagster import (
    AvroFormat,
    CsvFormat,
    JsonlFormat,
    ParquetFormat,
    S3Connection,
    S3Destination,
    S3DestinationIOManager,
    S3Resource,
    stream_asset,
)
from s3dest_dagster.dagster.config import FORMAT_CONFIGS
from s3dest_dagster.errors import SettingsError, TemplateError

CONFIG = {
    "s3_bucket_name": "lake",
    "s3_bucket_path": "data/raw",
    "s3_bucket_region": "eu-west-1",
    "s3_path_format": "${NAMESPACE}/${STREAM_NAME}/${YEAR}/${EPOCH}_",
    "file_name_pattern": "{date}_{part_number}",
    "access_key_id": "AKIA",
    "secret_access_key": "hush-secret",
    "format": {"format_type": "CSV", "flattening": "Root level flattening"},
}


@stream_asset(namespace="crm")
def people():
    return [{"id": 1}]


def test_the_io_manager_has_every_setting_of_a_destination_with_the_same_default():
    ours = S3DestinationIOManager(s3_bucket_name="lake").destination()
    assert ours == S3Destination(s3_bucket_name="lake")
    names = {each.name for each in fields(S3Destination)} | {"s3_bucket_region", "s3_endpoint", "s3", "preview_rows"}
    assert set(S3DestinationIOManager.model_fields) == names


def test_every_setting_has_a_description():
    silent = [name for name, field in S3DestinationIOManager.model_fields.items() if not field.description]
    assert silent == ["s3"]


def test_every_setting_reaches_the_destination():
    given: dict[str, Any] = {
        "s3_bucket_name": "lake",
        "s3_bucket_path": "data",
        "s3_path_format": "${STREAM_NAME}/${EPOCH}_",
        "file_name_pattern": "{part_number}",
        "stream_prefix": "raw_",
        "fields_style": "plain",
        "on_null": "fail",
        "max_partition_values": 10,
        "object_size_mb": 50.0,
        "part_size_mb": 16.0,
        "upload_threads": 2,
        "publish_threads": 3,
        "encode_workers": 1,
        "memory_mb": 300,
        "on_type_mismatch": "fail",
        "on_unknown_type": "text",
        "on_non_finite": "null",
        "open_objects": "map",
        "naive_moments": "keep",
        "decimals": "connector",
        "name_style": "snake",
        "schema_contract": {"new_column": "freeze"},
        "envelope": "none",
        "on_file": "fail",
        "hash_key": "a key of 16 bytes or more",
        "on_bad_record": "quarantine",
        "owner": "team",
        "retire_grace_s": 60.0,
        "segment_grace_s": 7200.0,
        "expire_partitions_after": 90,
        "on_rematerialize": "append",
        "on_empty_refresh": "keep",
        "on_template_change": "accept",
        "publish_order": "purge_first",
        "checkpoint_interval_s": 60.0,
        "checkpoint_mb": 0.0,
        "abandoned_upload_age_s": 60.0,
        "abort_grace_s": 5.0,
        "acl": "bucket-owner-read",
        "server_side_encryption": "aws:kms",
        "kms_key_id": "alias/lake",
        "storage_class": "STANDARD_IA",
        "object_metadata": {"team": "data"},
    }
    kept = {"publish_order": "add_first", "delete_grace_s": 60.0}
    newer = {"parity": "1", "open_objects": "text"}
    assert given.keys() == {each.name for each in fields(S3Destination)} - {"format", "delete_grace_s", "parity"}
    for settings in (given, given | kept, given | newer):
        assert S3DestinationIOManager(**settings).destination() == S3Destination(**settings)


@pytest.mark.parametrize(
    "format",
    [
        ParquetFormat(compression_codec="ZSTD"),
        FORMAT_CONFIGS[ParquetFormat](compression_codec="ZSTD"),
        {"format_type": "Parquet", "compression_codec": "ZSTD"},
        {"Parquet": {"compression_codec": "ZSTD"}},
    ],
    ids=["frozen settings", "config", "the connector's object", "run config"],
)
def test_the_format_is_accepted_in_every_form(format):
    destination = S3DestinationIOManager(s3_bucket_name="lake", format=format).destination()
    assert destination.format == ParquetFormat(compression_codec="ZSTD")


@pytest.mark.parametrize(
    ("name", "format"),
    [("parquet", ParquetFormat()), ("CSV", CsvFormat()), ("jsonl", JsonlFormat()), ("Avro", AvroFormat())],
)
def test_the_name_of_a_format_means_the_format_with_its_defaults(name, format):
    pasted = {"s3_bucket_name": "b", "s3_bucket_path": "", "s3_bucket_region": "", "format": name}
    assert S3DestinationIOManager(s3_bucket_name="b", format=name).destination().format == format
    assert S3Destination(s3_bucket_name="b", format=name).format == format
    as_connector = CsvFormat(column_order="sorted") if name == "CSV" else format
    assert S3DestinationIOManager.from_connector_config(pasted).destination().format == as_connector


def test_an_unknown_name_is_refused_with_the_known_ones():
    for make in (S3DestinationIOManager, S3Destination):
        with pytest.raises(SettingsError, match=r"(?i)orc.*known are.*csv"):
            make(s3_bucket_name="b", format="orc")


def test_run_config_can_set_the_format_and_other_settings(lake):
    """Run config replaces all settings in Dagster, so settings without a default must be repeated."""
    config = {
        "s3_bucket_name": lake.bucket,
        "format": {"CSV": {"compression": "No Compression"}},
        "s3_bucket_path": "elsewhere",
    }
    lake.materialize(people, run_config={"resources": {"io_manager": {"config": config}}})
    (key,) = lake.data_keys()
    assert key.startswith("elsewhere/crm/people/")
    assert key.endswith(".csv")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: S3DestinationIOManager(s3_bucket_name="lake", memory_bm=300),
            "'memory_bm'. Did you mean 'memory_mb'?",
        ),
        (lambda: S3DestinationIOManager(s3_bucket_name="lake", colour="red"), "has no setting 'colour'. It has: "),
        (lambda: S3DestinationIOManager(s3_bucket_path="raw"), "s3_bucket_name is missing"),
        (lambda: S3Resource(role_arm="arn:aws:iam::1:role/loader"), "'role_arm'. Did you mean 'role_arn'?"),
    ],
)
def test_an_unknown_setting_is_refused_and_a_missing_one_is_named(make, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        make()


def test_another_template_for_landed_data_is_refused_before_anything_is_written(lake):
    lake.materialize(people)
    before = lake.all_keys()
    other = {"s3_path_format": "${STREAM_NAME}/${EPOCH}_"}
    with pytest.raises(dg.Failure, match=r"crm\.people.*\$\{STREAM_NAME\}/\$\{EPOCH\}_.*on_template_change"):
        lake.materialize(people, io=lake.io(**other))
    assert (lake.all_keys(), lake.uploads()) == (before, 0)
    lake.materialize(people, io=lake.io(**other, on_template_change="accept"))
    (key,) = lake.data_keys()
    assert key.startswith("people/")


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"s3_bucket_name": ""}, SettingsError),
        ({"s3_path_format": "${STREAM}/"}, TemplateError),
        ({"part_size_mb": 1}, SettingsError),
        ({"format": {"format_type": "ORC"}}, SettingsError),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_when_they_are_made(settings, error):
    with pytest.raises(error):
        S3DestinationIOManager(**{"s3_bucket_name": "lake", **settings})


class TestConnectorConfig:
    def test_the_connectors_file_is_accepted_unchanged(self, tmp_path):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(CONFIG))
        io = S3DestinationIOManager.from_connector_config(path)
        assert io.destination() == S3Destination(
            s3_bucket_name="lake",
            s3_bucket_path="data/raw",
            s3_path_format="${NAMESPACE}/${STREAM_NAME}/${YEAR}/${EPOCH}_",
            file_name_pattern="{date}_{part_number}",
            format=CsvFormat(flattening="Root level flattening", column_order="sorted"),
            open_objects="map",
        )
        assert io.s3 == S3Connection(region="eu-west-1", access_key_id="AKIA", secret_access_key="hush-secret")

    @pytest.mark.parametrize(
        ("format", "expected"),
        [
            ({"format_type": "Avro", "compression_codec": {"codec": "no compression"}}, AvroFormat()),
            (
                {"format_type": "Avro", "compression_codec": {"codec": "Deflate", "compression_level": 5}},
                AvroFormat(codec="Deflate", compression_level=5),
            ),
            (
                {"format_type": "Avro", "compression_codec": {"codec": "zstandard", "include_checksum": True}},
                AvroFormat(codec="zstandard", include_checksum=True),
            ),
            (
                {"format_type": "CSV", "compression": {"compression_type": "No Compression"}},
                CsvFormat(compression="No Compression", column_order="sorted"),
            ),
            ({"format_type": "JSONL", "compression": {"compression_type": "GZIP"}}, JsonlFormat()),
            (
                {"format_type": "Parquet", "compression_codec": "GZIP", "block_size_mb": 16},
                ParquetFormat(compression_codec="GZIP", block_size_mb=16),
            ),
        ],
        ids=lambda each: str(each) if isinstance(each, dict) else "",
    )
    def test_every_format_of_the_connector_is_accepted(self, format, expected):
        io = S3DestinationIOManager.from_connector_config(CONFIG | {"format": format})
        assert io.destination().format == expected

    def test_an_io_manager_with_the_connectors_config_lands(self, lake):
        config = {
            "s3_bucket_name": lake.bucket,
            "s3_bucket_path": "data",
            "s3_bucket_region": "us-east-1",
            "s3_endpoint": lake.server.endpoint,
            "access_key_id": lake.server.access_key_id,
            "secret_access_key": lake.server.secret_access_key,
            "format": {"format_type": "JSONL", "compression": {"compression_type": "No Compression"}},
        }
        lake.materialize(people, io=S3DestinationIOManager.from_connector_config(config))
        assert lake.ids("data/crm/people/") == [1]

    def test_ignored_keys_are_named_once(self, caplog):
        with caplog.at_level(logging.WARNING):
            S3DestinationIOManager.from_connector_config(CONFIG | {"colour": "red"})
        assert [record.getMessage() for record in caplog.records] == [
            "These keys of the connector's configuration mean nothing here: colour"
        ]

    def test_own_settings_are_accepted_under_our_name_or_next_to_it(self):
        config = CONFIG | {"s3dest": {"object_size_mb": 10, "path_style": True}}
        io = S3DestinationIOManager.from_connector_config(config, on_empty_refresh="fail")
        assert (io.destination().object_size_mb, io.destination().on_empty_refresh) == (10, "fail")
        assert io.s3.path_style is True

    def test_a_mistake_in_the_config_is_reported_without_its_secret(self, tmp_path):
        path = tmp_path / "config.json"
        path.write_text('{"secret_access_key": "hush-secret", oops')
        with pytest.raises(SettingsError, match=r"config\.json is not JSON: .* in line 1") as caught:
            S3DestinationIOManager.from_connector_config(path)
        assert "hush" not in str(caught.value)

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(SettingsError, match=r"nowhere\.json"):
            S3DestinationIOManager.from_connector_config(tmp_path / "nowhere.json")

    def test_environment_variables_are_looked_up_when_a_run_starts(self, lake, monkeypatch):
        config = {
            "s3_bucket_name": dg.EnvVar("OUR_BUCKET"),
            "s3_bucket_path": "data",
            "s3_bucket_region": "us-east-1",
            "s3_endpoint": dg.EnvVar("OUR_ENDPOINT"),
            "access_key_id": dg.EnvVar("OUR_KEY"),
            "secret_access_key": dg.EnvVar("OUR_SECRET"),
            "format": {"format_type": "JSONL", "compression": {"compression_type": "No Compression"}},
        }
        io = S3DestinationIOManager.from_connector_config(config)
        monkeypatch.setenv("OUR_BUCKET", lake.bucket)
        monkeypatch.setenv("OUR_ENDPOINT", lake.server.endpoint)
        monkeypatch.setenv("OUR_KEY", lake.server.access_key_id)
        monkeypatch.setenv("OUR_SECRET", lake.server.secret_access_key)
        lake.materialize(people, io=io)
        assert lake.ids() == [1]


class TestAccess:
    def test_a_resource_given_to_both_signs_in_once(self, lake, monkeypatch):
        """Dagster makes a nested resource a second time. A landing retries requests with its own policy."""

        @dg.asset
        def people(s3: S3Resource):
            assert s3.get_client().list_objects_v2(Bucket=lake.bucket, Prefix="people")["KeyCount"] == 0
            return [{"id": 1}]

        _, keys = new_user(lake.server, ["sts:AssumeRole"], ["*"])
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys["access_key_id"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys["secret_access_key"])
        role = new_role(lake.server)
        with recording_proxy() as server:
            s3 = S3Resource(endpoint_url=server.endpoint, sts_endpoint=server.endpoint, role_arn=role)
            lake.materialize(people, io=lake.io(s3=s3), resources={"s3": s3})
            assert sum(each.method == "POST" and each.path == "/" for each in server.seen) == 1
        assert lake.ids() == [1]

    def test_any_resource_with_a_client_is_accepted(self, lake):
        class Plain:
            def get_client(self):
                return lake.server.client()

        lake.materialize(people, io=lake.io(s3=Plain()))
        assert lake.ids() == [1]

    def test_a_resource_that_makes_its_own_client_is_reached_by_it(self, lake):
        """What the class that it extends would do does not count."""

        class Ours(S3Resource):
            def get_client(self):
                return lake.server.client()

        io = lake.io(s3=Ours(endpoint_url="https://nowhere.example.com"))
        lake.materialize(people, io=io)
        assert lake.ids() == [1]
        assert io.connection() is None

    def test_workers_get_the_connection_that_a_resource_describes(self, lake):
        class Ours(S3Resource):
            def get_client(self):
                return lake.server.client()

            def connection(self):
                return S3Connection(region="eu-west-1")

        class Extended(Ours):
            team: str = ""

        class Plain:
            connection = "a text"

            def get_client(self):
                return lake.server.client()

        described = S3Connection(region="eu-west-1")
        assert lake.io(s3=Ours()).connection() == lake.io(s3=Extended()).connection() == described
        assert lake.io(s3=S3Resource(region_name="eu-west-1")).connection() == described
        assert lake.io(s3=None).connection() == S3Connection()
        assert lake.io(s3=Plain()).connection() is None

    def test_the_destination_can_have_region_and_endpoint(self, lake):
        keys = {"access_key_id": lake.server.access_key_id, "secret_access_key": lake.server.secret_access_key}
        place = {"s3_endpoint": lake.server.endpoint, "s3_bucket_region": "eu-west-1"}
        bucket = lake.io(s3=S3Connection(**keys), **place).bucket()
        assert bucket.client.meta.region_name == "eu-west-1"
        assert bucket.endpoint == lake.server.endpoint

    def test_two_different_regions_are_refused(self):
        io = S3DestinationIOManager(
            s3_bucket_name="lake", s3_bucket_region="eu-west-1", s3=S3Connection(region="us-east-1")
        )
        with pytest.raises(SettingsError, match=r"'eu-west-1'.*'us-east-1'"):
            io.bucket()

    def test_a_region_cannot_be_put_on_a_foreign_client(self):
        class Plain:
            def get_client(self):
                return boto3.client("s3", region_name="us-east-1")

        io = S3DestinationIOManager(s3_bucket_name="lake", s3_bucket_region="eu-west-1", s3=Plain())
        with pytest.raises(SettingsError, match="s3_bucket_region"):
            io.bucket()

    def test_a_resource_without_access_to_a_bucket_is_refused(self):
        with pytest.raises(SettingsError, match="s3 is a str"):
            S3DestinationIOManager(s3_bucket_name="lake", s3="keys").bucket()

    def test_without_a_resource_the_machines_own_identity_is_used(self, lake, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", lake.server.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", lake.server.secret_access_key)
        lake.materialize(people, io=lake.io(s3=None, s3_endpoint=lake.server.endpoint))
        assert lake.ids() == [1]


def test_the_io_manager_works_outside_of_a_step(lake):
    context = dg.build_output_context(asset_key=dg.AssetKey(["crm", "people"]), step_key="x", name="result")
    lake.io().handle_output(context, [{"id": 1}, {"id": 2}])
    assert lake.ids("crm/people/") == [1, 2]
    assert context.get_logged_metadata()["rows"].value == 2


def test_the_io_manager_lands_on_every_server(any_lake):
    for _ in range(2):
        any_lake.materialize(people)
    assert any_lake.ids() == [1]
