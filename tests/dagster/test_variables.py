"""Variables are looked up when a run starts, wherever a setting can be one. Elsewhere they are refused immediately."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import dagster as dg
import pytest
from dagster_version import since_1_13

from s3dest_dagster import (
    AirbyteSource,
    AvroFormat,
    ConfigFile,
    CsvFormat,
    FileSource,
    JsonlFormat,
    ParquetFormat,
    S3Connection,
    S3Destination,
    S3DestinationIOManager,
    S3Resource,
    Stream,
    build_file_sensor,
    build_landing_checks,
    build_stream_assets,
    stream_asset,
)
from s3dest_dagster.dagster.config import FORMAT_CONFIGS, look_up
from s3dest_dagster.errors import SettingsError

TEXT, NUMBER, FEW = dg.EnvVar("A_TEXT"), dg.EnvVar.int("A_NUMBER"), dg.EnvVar.int("A_FEW")
CONFIG = {
    "s3_bucket_name": "b",
    "s3_bucket_path": "p",
    "s3_bucket_region": "eu-west-1",
    "format": {"format_type": "CSV"},
}
ROLE = "arn:aws:iam::123456789012:role/loader"
KEYS = {"access_key_id": "AKIA", "secret_access_key": "hush"}


@pytest.fixture(autouse=True)
def _variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TEXT", "from-outside")
    monkeypatch.setenv("A_NUMBER", "300")
    monkeypatch.setenv("A_FEW", "7")
    monkeypatch.setenv("A_ROLE", ROLE)


def manager(**settings: Any) -> S3DestinationIOManager:
    return S3DestinationIOManager(**{"s3_bucket_name": "b", **settings})


def pasted(**config: Any) -> S3DestinationIOManager:
    return S3DestinationIOManager.from_connector_config({**CONFIG, **config})


def landing(name: str) -> Callable[[Any], Any]:
    """A function that returns this setting of the destination."""
    return lambda io: getattr(io.destination(), name)


def page_size(io: S3DestinationIOManager) -> Any:
    return io.destination().format.page_size_kb


def reaching(name: str) -> Callable[[Any], Any]:
    """A function that returns this setting of the connection."""
    return lambda io: getattr(io.s3.connection(), name)


BOTH_ROLE = "arn:aws:iam::123456789012:role/loader"
KEYS = {"access_key_id": TEXT, "secret_access_key": TEXT}
BOTH_KEYS = {"access_key_id": TEXT, "secret_access_key": TEXT}
OUTSIDE = "from-outside"
LOOKED_UP: list[tuple[Callable[[], Any], Callable[[Any], Any], Any]] = [
    (lambda: manager(s3_bucket_name=TEXT), landing("s3_bucket_name"), OUTSIDE),
    (lambda: manager(memory_mb=NUMBER), landing("memory_mb"), 300),
    (lambda: manager(preview_rows=FEW), lambda io: io.preview_rows, 7),
    (lambda: manager(object_metadata={"a": TEXT}), landing("object_metadata"), {"a": OUTSIDE}),
    (lambda: manager(format=FORMAT_CONFIGS[ParquetFormat](page_size_kb=NUMBER)), page_size, 300),
    (lambda: manager(format={"Parquet": {"page_size_kb": NUMBER}}), page_size, 300),
    (lambda: manager(s3=S3Resource(region_name=TEXT)), reaching("region"), OUTSIDE),
    (lambda: manager(s3=S3Resource(max_attempts=NUMBER)), reaching("max_attempts"), 300),
    (lambda: pasted(s3_bucket_name=TEXT), landing("s3_bucket_name"), OUTSIDE),
    (lambda: pasted(s3_bucket_path=TEXT), landing("s3_bucket_path"), OUTSIDE),
    (lambda: pasted(s3_bucket_region=TEXT), reaching("region"), OUTSIDE),
    (lambda: pasted(file_name_pattern=TEXT), landing("file_name_pattern"), OUTSIDE),
    (lambda: pasted(**BOTH_KEYS), reaching("secret_access_key"), OUTSIDE),
    (lambda: pasted(**KEYS | {"secret_access_key": TEXT}), reaching("secret_access_key"), OUTSIDE),
    (lambda: pasted(**KEYS | {"access_key_id": TEXT}), reaching("access_key_id"), OUTSIDE),
    (lambda: pasted(role_arn=dg.EnvVar("A_ROLE")), reaching("role_arn"), ROLE),
    (lambda: pasted(s3dest={"memory_mb": NUMBER}), landing("memory_mb"), 300),
    (lambda: pasted(s3dest={"stream_prefix": TEXT}), landing("stream_prefix"), OUTSIDE),
    (lambda: pasted(s3dest={"profile_name": TEXT}), reaching("profile_name"), OUTSIDE),
    (lambda: pasted(s3dest={"object_metadata": {"a": TEXT}}), landing("object_metadata"), {"a": OUTSIDE}),
]


@pytest.mark.parametrize(("make", "get", "expected"), LOOKED_UP, ids=range(len(LOOKED_UP)))
def test_a_variable_of_an_io_manager_or_resource_is_looked_up_when_a_run_starts(make, get, expected):
    with dg.build_resources({"io": make()}) as resources:
        assert get(resources.io) == expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"a": TEXT}, {"a": "from-outside"}),
        ({"a": NUMBER}, {"a": 300}),
        ({"a": {"b": [{"c": NUMBER}, [TEXT]]}}, {"a": {"b": [{"c": 300}, ["from-outside"]]}}),
        ({"a": (TEXT, NUMBER)}, {"a": ["from-outside", 300]}),
        (lambda: {"a": {"b": NUMBER}}, {"a": {"b": 300}}),
        ({"a": {TEXT: {TEXT: 1}}}, {"a": {"from-outside": {"from-outside": 1}}}),
    ],
    ids=range(6),
)
def test_a_variable_of_a_connectors_config_is_looked_up_at_any_depth(config, expected):
    found = AirbyteSource("source-shop", config).with_variables(look_up).config
    assert (found() if callable(found) else found) == expected


def test_a_variable_of_a_connectors_environment_is_a_text():
    source = AirbyteSource("source-shop", env={"A": TEXT, "B": NUMBER})
    assert source.with_variables(look_up).env == {"A": "from-outside", "B": "300"}


@pytest.mark.parametrize(
    ("variable", "reason"),
    [
        (dg.EnvVar("NOT_SET"), "NOT_SET is not set"),
        (dg.EnvVar.int("NOT_SET"), "NOT_SET is not set"),
        (dg.EnvVar.int("A_TEXT"), "A_TEXT is no whole number"),
    ],
    ids=range(3),
)
def test_a_variable_without_a_value_is_named_with_its_location(variable, reason):
    with pytest.raises(SettingsError, match=reason + r".*config\.a\[0\]") as caught:
        AirbyteSource("source-shop", {"a": [variable]}).with_variables(look_up)
    assert "from-outside" not in str(caught.value)


def read(source: AirbyteSource) -> None:
    with source.read([Stream(name="users")]):
        pass


@stream_asset
def users():
    return []


REFUSED: list[Callable[[], Any]] = [
    lambda: S3Destination(s3_bucket_name=TEXT),
    lambda: S3Destination(s3_bucket_name="b", memory_mb=NUMBER),
    lambda: S3Destination(s3_bucket_name="b", object_metadata={"a": TEXT}),
    lambda: S3Connection(region=TEXT),
    lambda: S3Connection(max_attempts=NUMBER),
    lambda: ParquetFormat(page_size_kb=NUMBER),
    lambda: ParquetFormat(compression_codec=TEXT),
    lambda: AvroFormat(compression_level=NUMBER),
    lambda: JsonlFormat(compression=TEXT),
    lambda: CsvFormat(gzip_effort=TEXT),
    lambda: manager(object_size_mb=NUMBER),
    lambda: manager(object_size_mb=TEXT),
    lambda: manager(on_bad_record=TEXT),
    lambda: manager(memory_mb=TEXT),
    lambda: manager(s3_bucket_name=NUMBER),
    lambda: manager(format={"format_type": "Parquet", "page_size_kb": NUMBER}),
    lambda: manager(format={"format_type": TEXT}),
    lambda: manager(format=TEXT),
    lambda: S3Resource(read_timeout_s=NUMBER),
    lambda: S3Resource(path_style=TEXT),
    lambda: pasted(format={"format_type": "Parquet", "page_size_kb": NUMBER}),
    lambda: pasted(format={"format_type": "CSV", "compression": {"compression_type": TEXT}}),
    lambda: pasted(s3dest={"format": {"gzip_effort": TEXT}}),
    lambda: pasted(s3dest={"object_size_mb": NUMBER}),
    lambda: pasted(s3_bucket_name=NUMBER),
    lambda: Stream(name=TEXT),
    lambda: stream_asset(namespace=TEXT)(list),
    lambda: stream_asset(json_schema={"properties": {"a": {"type": TEXT}}})(list),
    lambda: FileSource(TEXT),
    lambda: FileSource("*.csv", delimiter=TEXT),
    lambda: ConfigFile(TEXT),
    lambda: AirbyteSource(TEXT),
    lambda: AirbyteSource(["source-shop", TEXT]),
    lambda: AirbyteSource("source-shop", max_line_mb=NUMBER),
    lambda: AirbyteSource("source-shop", temporary_directory=TEXT),
    lambda: read(AirbyteSource("source-shop", {"a": [TEXT]})),
    lambda: read(AirbyteSource("source-shop", {"a": {"b": NUMBER}})),
    lambda: read(AirbyteSource("source-shop", {"a": {TEXT: 1}})),
    lambda: Stream(name="users", json_schema={"properties": {TEXT: {}}}),
    lambda: AirbyteSource("source-shop", env={"A": NUMBER}).spec(),
    lambda: build_stream_assets(AirbyteSource("source-shop"), start_date=TEXT),
    lambda: build_landing_checks([users], max_quarantine_ratio=NUMBER),
    lambda: build_landing_checks([users], fresh_within=timedelta(1), max_quarantine_ratio=TEXT),
    lambda: build_file_sensor(FileSource("*.csv"), users, settle_s=NUMBER),
    lambda: build_file_sensor(FileSource("*.csv"), users, most_runs=NUMBER),
    lambda: build_file_sensor(FileSource("*.csv"), users, name=TEXT),
]


@pytest.mark.parametrize("make", REFUSED, ids=range(len(REFUSED)))
def test_a_variable_is_refused_immediately_if_it_cannot_be_looked_up(make):
    with pytest.raises(SettingsError, match=r"EnvVar"):
        make()


@since_1_13("it cannot store a variable of a number in metadata")
def test_the_rows_of_a_preview_cannot_be_a_variable(lake):
    asset = stream_asset(metadata={"s3dest/preview_rows": NUMBER})(lambda: [{"id": 1}])
    with pytest.raises(dg.Failure, match=r"s3dest/preview_rows is the variable"):
        lake.materialize(asset)
