"""A connector's `config.json` as its users paste it: every key reaches its setting, or is named as ignored."""

from __future__ import annotations

import dataclasses

import pytest

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.keys import DEFAULT_PATH_FORMAT
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import from_connector_config, parse_format, with_suggestion
from s3dest_dagster.settings.connector_spec import connector_spec
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat

SECRETS = {"access_key_id": "AKIAEXAMPLE", "secret_access_key": "hunter2/hunter2"}
LEAST = {"s3_bucket_name": "lake", "s3_bucket_path": "", "s3_bucket_region": "", "format": {"format_type": "JSONL"}}


OWN_NAMES = {*connector_spec()["connectionSpecification"]["properties"]["s3dest"]["properties"]}


def config(**keys):
    return {**LEAST, **keys}


def test_every_key_of_the_connector_reaches_its_setting():
    read = from_connector_config(
        config(
            **SECRETS,
            role_arn="arn:aws:iam::123456789012:role/lake",
            s3_bucket_path="data/in",
            s3_bucket_region="eu-west-1",
            s3_endpoint="http://localhost:9000",
            s3_path_format="${NAMESPACE}/${STREAM_NAME}/${EPOCH}_",
            file_name_pattern="{date}_{part_number}",
            format={"format_type": "CSV", "flattening": "Root level flattening"},
        )
    )
    assert read.destination == S3Destination(
        s3_bucket_name="lake",
        s3_bucket_path="data/in",
        s3_path_format="${NAMESPACE}/${STREAM_NAME}/${EPOCH}_",
        file_name_pattern="{date}_{part_number}",
        format=CsvFormat(flattening="Root level flattening", column_order="sorted"),
        open_objects="map",
    )
    assert read.connection == S3Connection(
        **SECRETS,
        role_arn="arn:aws:iam::123456789012:role/lake",
        region="eu-west-1",
        endpoint="http://localhost:9000",
    )
    assert read.ignored == ()


def test_the_minimal_configuration_has_the_connectors_defaults():
    read = from_connector_config(LEAST)
    assert read.destination == S3Destination(s3_bucket_name="lake", format=JsonlFormat(), open_objects="map")
    assert read.destination.s3_path_format == DEFAULT_PATH_FORMAT
    assert read.connection == S3Connection()


@pytest.mark.parametrize("key", ["access_key_id", "role_arn", "s3_endpoint", "s3_path_format", "file_name_pattern"])
def test_a_null_counts_as_not_set(key):
    assert from_connector_config(config(**{key: None})) == from_connector_config(LEAST)


@pytest.mark.parametrize("key", LEAST)
def test_a_required_key_that_is_missing_or_null_is_named(key):
    lacking = {name: value for name, value in LEAST.items() if name != key}
    for given in (lacking, {**lacking, key: None}):
        with pytest.raises(SettingsError, match=f"lacks {key}. It needs at least s3_bucket_name, ") as refused:
            from_connector_config(given)
        assert refused.value.setting == key


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"format_type": "CSV"}, CsvFormat()),
        ({"format_type": "csv", "flattening": "NO FLATTENING"}, CsvFormat()),
        (
            {"format_type": "Jsonl", "flattening": "root level FLATTENING"},
            JsonlFormat(flattening="Root level flattening"),
        ),
        ({"format_type": "JSONL", "compression": None}, JsonlFormat(compression="GZIP")),
        ({"format_type": "JSONL", "compression": {"compression_type": "gzip"}}, JsonlFormat(compression="GZIP")),
        (
            {"format_type": "CSV", "compression": {"compression_type": "No Compression"}},
            CsvFormat(compression="No Compression"),
        ),
        ({"format_type": "avro"}, AvroFormat()),
        ({"format_type": "AVRO", "compression_codec": None}, AvroFormat()),
        ({"format_type": "Avro", "compression_codec": {"codec": None}}, AvroFormat()),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "DEFLATE"}},
            AvroFormat(codec="Deflate", compression_level=0),
        ),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "deflate", "compression_level": "9"}},
            AvroFormat(codec="Deflate", compression_level=9),
        ),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "xz", "compression_level": 9.0}},
            AvroFormat(codec="xz", compression_level=9),
        ),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "xz", "compression_level": 9}},
            AvroFormat(codec="xz", compression_level=9),
        ),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "Zstandard", "include_checksum": True}},
            AvroFormat(codec="zstandard", compression_level=3, include_checksum=True),
        ),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "bzip2", "include_checksum": False}},
            AvroFormat(codec="bzip2"),
        ),
        ({"format_type": "Parquet", "block_size_mb": "16"}, ParquetFormat(block_size_mb=16)),
        ({"format_type": "parquet"}, ParquetFormat()),
        ({"format_type": "PARQUET", "compression_codec": "lz4"}, ParquetFormat(compression_codec="LZ4")),
        ({"format_type": "Parquet", "block_size_mb": None, "page_size_kb": 64}, ParquetFormat(page_size_kb=64)),
        (
            {
                "format_type": "Parquet",
                "block_size_mb": 16,
                "max_padding_size_mb": 0,
                "page_size_kb": 8,
                "dictionary_page_size_kb": 4,
                "dictionary_encoding": False,
            },
            ParquetFormat(
                block_size_mb=16,
                max_padding_size_mb=0,
                page_size_kb=8,
                dictionary_page_size_kb=4,
                dictionary_encoding=False,
            ),
        ),
    ],
    ids=str,
)
def test_a_format_is_read_as_the_connector_reads_it(given, expected):
    assert parse_format(given) == (expected, ())


@pytest.mark.parametrize(
    ("given", "setting", "message"),
    [
        (5, "format.format_type", "needs a format_type"),
        ("ORC", "format.format_type", "Known are CSV, JSONL, Avro and Parquet"),
        ({}, "format.format_type", "needs a format_type"),
        ({"format_type": "ORC"}, "format.format_type", "Known are CSV, JSONL, Avro and Parquet"),
        ({"format_type": "CSV", "flattening": "deep"}, "format.flattening", "'Root level flattening'"),
        ({"format_type": "CSV", "compression": "GZIP"}, "format.compression", "is not an object"),
        ({"format_type": "Avro", "compression_codec": "Deflate"}, "format.compression_codec", "is not an object"),
        ({"format_type": "Avro", "compression_codec": {"codec": "lz4"}}, "format.compression_codec.codec", "'snappy'"),
        (
            {"format_type": "Avro", "compression_codec": {"codec": "xz", "compression_level": 10}},
            "compression_level",
            "Invalid compression level: 10, expected an integer in range [0, 9]",
        ),
        ({"format_type": "Parquet", "compression_codec": "zip"}, "format.compression_codec", "'ZSTD'"),
    ],
)
def test_a_format_that_cannot_be_read_is_refused_by_its_setting(given, setting, message):
    with pytest.raises(SettingsError) as refused:
        parse_format(given)
    assert refused.value.setting == setting
    assert message in str(refused.value)


NAN, INFINITY = float("nan"), float("inf")
_WRONG = {
    "integer": [
        True,
        False,
        5.5,
        "",
        "9x",
        "５",
        " 9",
        "1e1",
        [],
        {},
        ["9"],
        10**400,
        float("nan"),
        float("inf"),
        "9" * 400,
    ],
    "boolean": [0, 1, 1.0, "true", "false", "", [], {}, 10**400],
    "choice": [True, 0, 1, 5.5, "", "GZ", "gzip ", [], {}, ["GZIP"], 10**400],
    "object": [True, 0, 5, "", "GZ", [], ["GZIP"], 10**400],
}
_FORMAT_SETTINGS = [
    ("CSV", "format_type", "choice"),
    ("CSV", "flattening", "choice"),
    ("CSV", "compression", "object"),
    ("JSONL", "compression", "object"),
    ("JSONL", "compression.compression_type", "choice"),
    ("Avro", "compression_codec", "object"),
    ("Avro", "compression_codec.codec", "choice"),
    ("Avro", "compression_codec.compression_level", "integer"),
    ("Avro", "compression_codec.include_checksum", "boolean"),
    ("Parquet", "compression_codec", "choice"),
    ("Parquet", "block_size_mb", "integer"),
    ("Parquet", "max_padding_size_mb", "integer"),
    ("Parquet", "page_size_kb", "integer"),
    ("Parquet", "dictionary_page_size_kb", "integer"),
    ("Parquet", "dictionary_encoding", "boolean"),
]
"""Every setting of the connector's formats."""


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [(kind, path, value) for kind, path, type_ in _FORMAT_SETTINGS for value in _WRONG[type_]],
    ids=lambda each: str(each)[:20],
)
def test_a_wrong_format_value_is_refused_by_its_setting(kind, path, value):
    outer, _, inner = path.partition(".")
    beside = {"codec": "zstandard"} if outer == "compression_codec" else {}
    given = {"format_type": kind, outer: {**beside, inner: value} if inner else value}
    with pytest.raises(SettingsError) as refused:
        from_connector_config(config(format=given))
    assert path.rpartition(".")[2] in str(refused.value)


@pytest.mark.parametrize("key", sorted(connector_spec()["connectionSpecification"]["properties"]))
@pytest.mark.parametrize("value", [True, 0, 5.5, [], {}, ["x"], 10**400, float("nan")], ids=lambda each: str(each)[:20])
def test_a_key_of_another_type_is_refused(key, value):
    if (key, value) == ("s3dest", {}):
        return
    with pytest.raises(SettingsError):
        from_connector_config(config(**{key: value}))


@pytest.mark.parametrize("settings", [S3Destination, S3Connection])
@pytest.mark.parametrize("value", [[], {}, ["x"], {"x": 1}, 10**400, float("nan"), float("inf"), {"x": ["y"]}], ids=str)
def test_an_own_setting_of_another_type_is_refused(settings, value):
    for each in dataclasses.fields(settings):
        if each.name in OWN_NAMES - {"object_metadata", "schema_contract", "format"}:
            with pytest.raises(SettingsError):
                from_connector_config(config(s3dest={each.name: value}))


@pytest.mark.parametrize(
    ("codec", "more"),
    [
        ("bzip2", {"compression_level": 9}),
        ("snappy", {"compression_level": 1}),
        (None, {"compression_level": 1}),
        ("xz", {"include_checksum": True}),
        ("Deflate", {"compression_level": 10}),
    ],
)
def test_an_option_that_a_codec_does_not_have_is_refused(codec, more):
    with pytest.raises(SettingsError) as refused:
        parse_format({"format_type": "Avro", "compression_codec": {"codec": codec, **more}})
    assert refused.value.setting in more


@pytest.mark.parametrize(
    ("format_", "named", "shown"),
    [
        ({"format_type": "CSV", "compression": {"compression_type": "GZIP", "compresion_type": 1}},
         "format.compression.compresion_type", "(did you mean 'compression_type'?)"),
        ({"format_type": "Avro", "compression_codec": {"codec": "xz", "compresion_level": 5}},
         "format.compression_codec.compresion_level", "(did you mean 'compression_level'?)"),
        ({"format_type": "Avro", "compression_codec": {"Codec": "xz"}},
         "format.compression_codec.Codec", "(did you mean 'codec'?)"),
        ({"format_type": "Parquet", "block_size": 5}, "format.block_size", "(did you mean 'block_size_mb'?)"),
        ({"format_type": "Parquet", 5: 5}, "format.5", ""),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_at_every_depth(format_, named, shown):
    read = from_connector_config(config(format=format_))
    assert read.ignored == (named,)
    assert shown in with_suggestion(named)


def test_keys_that_the_connector_ignores_are_ignored_and_named():
    format_ = {"format_type": "CSV", "part_size_mb": 5, "compression_codec": "GZIP"}
    read = from_connector_config(config(colour="red", part_size_mb=5, format=format_))
    assert read.ignored == ("colour", "part_size_mb", "format.compression_codec", "format.part_size_mb")
    assert read.destination.format == CsvFormat(column_order="sorted")


OWN = {
    S3Destination: {"object_size_mb": 100, "on_bad_record": "quarantine", "stream_prefix": "x_"},
    S3Connection: {"role_session_name": "e1", "profile_name": "lake", "path_style": True, "max_attempts": 3},
}


def test_our_own_settings_are_under_s3dest():
    read = from_connector_config(config(s3dest={**OWN[S3Destination], **OWN[S3Connection]}))
    given = {"open_objects": "map", **OWN[S3Destination]}
    assert read.destination == S3Destination(s3_bucket_name="lake", **given)
    assert read.connection == S3Connection(**OWN[S3Connection])


@pytest.mark.parametrize(
    ("kind", "own", "expected"),
    [
        ("CSV", {"gzip_effort": "small"}, CsvFormat(gzip_effort="small", column_order="sorted")),
        ("JSONL", {"emitted_at": "number"}, JsonlFormat(emitted_at="number")),
        ("Parquet", {"union_layout": "member"}, ParquetFormat(union_layout="member")),
    ],
)
def test_our_own_settings_of_a_format_are_under_s3dest_format(kind, own, expected):
    read = from_connector_config(config(format={"format_type": kind}, s3dest={"format": own}))
    assert read.destination.format == expected


def test_every_own_setting_is_known_under_s3dest_by_its_name():
    connectors = {"s3_bucket_name", "s3_bucket_path", "s3_path_format", "file_name_pattern", "region", "endpoint"}
    connectors |= {"access_key_id", "secret_access_key", "role_arn"}
    names = {each.name for settings in (S3Destination, S3Connection) for each in dataclasses.fields(settings)}
    with pytest.raises(SettingsError) as refused:
        from_connector_config(config(s3dest={"colour": "red"}))
    known = str(refused.value).partition("Known are ")[2].rstrip(".").split(", ")
    assert known == sorted({"streams", "dedup"} | names - connectors)
    assert refused.value.setting == "s3dest.colour"


@pytest.mark.parametrize("name", ["s3_bucket_name", "region", "access_key_id", "secret_access_key", "endpoint"])
def test_a_setting_of_the_connector_has_only_one_location(name):
    with pytest.raises(SettingsError, match=rf"Unknown setting s3dest\.{name}"):
        from_connector_config(config(s3dest={name: "x"}))


@pytest.mark.parametrize(
    ("own", "setting"),
    [
        ({"format": {"colour": 1}}, "s3dest.format.colour"),
        ({"format": {"union_layout": "member"}}, "s3dest.format.union_layout"),
        ({"format": {"compression": "GZIP"}}, "s3dest.format.compression"),
        ("fast", "s3dest"),
        ({"object_size_mb": "many"}, "object_size_mb"),
    ],
)
def test_an_own_setting_that_is_unknown_or_wrong_is_refused(own, setting):
    with pytest.raises(SettingsError) as refused:
        from_connector_config(config(s3dest=own))
    assert refused.value.setting == setting


@pytest.mark.parametrize("given", [None, [], "{}", 5])
def test_a_configuration_must_be_an_object(given):
    with pytest.raises(SettingsError, match="not a JSON object"):
        from_connector_config(given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"access_key_id": 5},
        {"access_key_id": None},
        {"secret_access_key": ["hunter2/hunter2"]},
        {"secret_access_key": {"value": "hunter2/hunter2"}},
        {"s3_bucket_name": ["hunter2/hunter2"]},
        {"s3_endpoint": "ftp://somewhere"},
        {"s3_bucket_name": None},
        {"format": {"format_type": "ORC"}},
        {"s3dest": {"colour": "hunter2/hunter2"}},
        {"s3dest": {"external_id": ["hunter2/hunter2"]}},
        {"s3dest": {"session_token": {"hunter2/hunter2": 1}}},
        {"s3dest": {"secret_access_key": "hunter2/hunter2"}},
    ],
    ids=lambda wrong: ".".join(wrong),
)
def test_no_message_contains_a_secret(wrong):
    with pytest.raises(SettingsError) as refused:
        from_connector_config(config(**{**SECRETS, **wrong}))
    assert "hunter2" not in str(refused.value) + repr(refused.value)


def test_the_configuration_that_was_read_shows_no_secret():
    with_keys = from_connector_config(config(**SECRETS, s3dest={"session_token": "hunter2"}))
    with_role = from_connector_config(config(role_arn="arn:aws:iam::1:role/lake", s3dest={"external_id": "hunter2"}))
    assert "hunter2" not in repr(with_keys) + repr(with_role)
