"""The format in Dagster's run config is equivalent to the frozen settings."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import pytest

from s3dest_dagster import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat
from s3dest_dagster.dagster.config import FORMAT_CONFIGS, FormatConfig, as_format_config, format_config, format_settings
from s3dest_dagster.errors import SettingsError

CONFIGS = get_args(get_args(FormatConfig)[0])
SETTINGS = {"Avro": AvroFormat, "CSV": CsvFormat, "JSONL": JsonlFormat, "Parquet": ParquetFormat}
OTHERS = [
    AvroFormat(codec="zstandard", compression_level=9, include_checksum=True),
    CsvFormat(
        flattening="Root level flattening",
        compression="No Compression",
        additional_properties_column=True,
        column_order="sorted",
        delimiter=";",
        quoting="all",
        null_text="NULL",
        header=False,
    ),
    JsonlFormat(flattening="Root level flattening", gzip_effort="small", emitted_at="number"),
    ParquetFormat(
        compression_codec="ZSTD",
        block_size_mb=64,
        max_padding_size_mb=4,
        page_size_kb=512,
        dictionary_page_size_kb=256,
        dictionary_encoding=False,
        union_layout="member",
        field_ids=False,
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda each: each.__name__)
def test_a_config_has_the_settings_and_their_defaults(config):
    made = SETTINGS[config().format_type]
    assert set(config.model_fields) - {"format_type"} == {each.name for each in fields(made)}
    assert format_settings(config()) == made()


@pytest.mark.parametrize("settings", [*OTHERS, *(made() for made in SETTINGS.values())], ids=str)
def test_a_round_trip_loses_no_setting(settings):
    assert format_settings(format_config(settings)) == settings


def test_the_others_differ_from_the_defaults_in_every_setting():
    """Makes sure that the test above covers every setting."""
    for settings in OTHERS:
        same = [each.name for each in fields(settings) if getattr(settings, each.name) == each.default]
        assert same in ([], ["gzip_effort"], ["compression"])


def test_every_config_describes_its_settings():
    silent = [f"{config.__name__}.{name}" for config in CONFIGS for name, field in config.model_fields.items()]
    described = [
        f"{config.__name__}.{name}"
        for config in CONFIGS
        for name, field in config.model_fields.items()
        if field.description or name == "format_type"
    ]
    assert described == silent


def test_the_connectors_format_object_is_accepted_unchanged():
    connectors = {"format_type": "Avro", "compression_codec": {"codec": "Deflate", "compression_level": 6}}
    assert format_settings(as_format_config(connectors)) == AvroFormat(codec="Deflate", compression_level=6)


def test_a_format_object_with_a_meaningless_member_is_refused():
    with pytest.raises(SettingsError, match=r"format\.colour"):
        as_format_config({"format_type": "CSV", "colour": "red"})


def test_dagster_handles_its_own_values():
    config = FORMAT_CONFIGS[ParquetFormat]()
    assert as_format_config(config) is config
    assert as_format_config({"Parquet": {}}) == {"Parquet": {}}


def test_impossible_combinations_are_refused():
    with pytest.raises(SettingsError, match="zstandard"):
        format_settings(format_config(AvroFormat()).model_copy(update={"include_checksum": True}))
