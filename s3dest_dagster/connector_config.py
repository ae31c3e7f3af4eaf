"""A connector's `config.json` as its users paste it, read into settings.

What the connector ignores is ignored and named; what is ours and unknown is an error. It must not know how settings
are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from s3dest_dagster.connection import S3Connection
from s3dest_dagster.destination import (
    AVRO_LEVELS,
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetCodec,
    ParquetFormat,
    S3Destination,
    TextCompression,
)
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.setting_types import caseless, meant


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """A connector's `config.json`, understood. `ignored` names the keys that mean nothing here."""

    destination: S3Destination
    connection: S3Connection
    ignored: tuple[str, ...]


_CONNECTION_KEYS = {
    "access_key_id": "access_key_id",
    "secret_access_key": "secret_access_key",
    "role_arn": "role_arn",
    "s3_bucket_region": "region",
    "s3_endpoint": "endpoint",
}
_DESTINATION_KEYS = ("s3_bucket_name", "s3_bucket_path", "s3_path_format", "file_name_pattern")
_REQUIRED_KEYS = ("s3_bucket_name", "s3_bucket_path", "s3_bucket_region", "format")
OWN_SETTINGS_KEY = "s3dest"
_KNOWN_KEYS = frozenset({*_DESTINATION_KEYS, *_CONNECTION_KEYS, "format", OWN_SETTINGS_KEY})
JOB_ID_VARIABLE = "WORKER_JOB_ID"
"""Environment variable that fills the file name pattern's `{sync_id}`; without it the sync's own id does."""


def from_connector_config(config: Mapping[str, Any]) -> ConnectorConfig:
    """Reads a configuration of the connector as its users paste it.

    Keys that the connector does not know are ignored and named in the answer, as the connector does; our own settings
    stand under the key "s3dest" (names of `S3Destination`, `S3Connection` or the format), and an unknown one there is
    an error. Raises SettingsError, never with a secret in its message.
    """
    if not isinstance(config, Mapping):
        raise SettingsError("The configuration is not a JSON object.")
    missing = [key for key in _REQUIRED_KEYS if config.get(key) is None]
    if missing:
        raise SettingsError(
            f"The configuration lacks {', '.join(missing)}. It needs at least {', '.join(_REQUIRED_KEYS)}.",
            setting=missing[0],
        )
    own = _own_settings(config)
    destination: dict[str, Any] = {key: _text(config, key) for key in _DESTINATION_KEYS if config.get(key) is not None}
    connection: dict[str, Any] = {
        name: _text(config, key) for key, name in _CONNECTION_KEYS.items() if config.get(key) is not None
    }
    format_settings, ignored_format = parse_format(config["format"], own.pop("format", {}))
    for name in list(own):
        (destination if name in _names(S3Destination) else connection)[name] = own.pop(name)
    ignored = (*sorted(config.keys() - _KNOWN_KEYS), *ignored_format)
    return ConnectorConfig(
        S3Destination(**destination, format=format_settings), S3Connection(**connection), tuple(ignored)
    )


def doubted(key: str) -> str:
    """A key that means nothing, with the one that it may be a typing error of."""
    likely = meant(key, _KNOWN_KEYS)
    return f"{key} (is {likely} meant?)" if likely else key


def _own_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under "s3dest", with unknown names and repetitions of connector keys refused."""
    own = config.get(OWN_SETTINGS_KEY, {})
    if not isinstance(own, Mapping):
        raise SettingsError(f"{OWN_SETTINGS_KEY!r} is not an object of settings.", setting=OWN_SETTINGS_KEY)
    allowed = (_names(S3Destination) | _names(S3Connection)) - {*_DESTINATION_KEYS, *_CONNECTION_KEYS.values()}
    unknown = sorted(own.keys() - allowed)
    if unknown:
        likely = meant(unknown[0], allowed)
        raise SettingsError(
            f"Unknown setting {OWN_SETTINGS_KEY}.{unknown[0]}.{f' Is {likely} meant?' if likely else ''} Known are "
            f"{', '.join(sorted(allowed))}.",
            setting=f"{OWN_SETTINGS_KEY}.{unknown[0]}",
        )
    return dict(own)


def parse_format(config: Any, own: Mapping[str, Any] | None = None) -> tuple[FormatSettings, tuple[str, ...]]:
    """The connector's `format` object as settings, and the names in it that mean nothing (as "format.name").

    Format types, codecs and flattening are matched without regard to case, as the connector does; `own` holds
    settings that the connector does not have.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("format_type"), str):
        raise SettingsError("format needs a format_type: CSV, JSONL, Avro or Parquet.", setting="format.format_type")
    kind = config["format_type"].upper()
    if kind not in _FORMAT_PARSERS:
        raise SettingsError(
            f"Unknown format_type {config['format_type']!r}. Known are CSV, JSONL, Avro and Parquet.",
            setting="format.format_type",
        )
    make, parse = _FORMAT_PARSERS[kind]
    given, used = parse(config)
    extra = dict(own or {})
    unknown = sorted(extra.keys() - (_names(make) - given.keys() - {"flattening", "compression"}))
    if unknown:
        raise SettingsError(
            f"Unknown setting {OWN_SETTINGS_KEY}.format.{unknown[0]} for {kind}.",
            setting=f"{OWN_SETTINGS_KEY}.format.{unknown[0]}",
        )
    ignored = sorted(config.keys() - used - {"format_type"})
    return make(**given, **extra), tuple(f"format.{name}" for name in ignored)


def _parse_text(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    given: dict[str, Any] = {}
    if config.get("flattening") is not None:
        given["flattening"] = caseless("format.flattening", config["flattening"], [mode.value for mode in Flattening])
    compression = config.get("compression")
    if isinstance(compression, Mapping):
        gzip = str(compression.get("compression_type", "")).upper() == "GZIP"
        given["compression"] = TextCompression.GZIP if gzip else TextCompression.NONE
    elif compression is not None:
        raise SettingsError(
            'format.compression is not an object; write {"compression_type": "GZIP"} or {"compression_type": '
            '"No Compression"}.',
            setting="format.compression",
        )
    return given, {"flattening", "compression"}


def _parse_avro(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    options = config.get("compression_codec") or {}
    if not isinstance(options, Mapping):
        raise SettingsError(
            'format.compression_codec of Avro is an object; write it like {"codec": "Deflate", "compression_level": 6}',
            setting="format.compression_codec",
        )
    codec_name = options.get("codec") or "no compression"
    codec = caseless("format.compression_codec.codec", codec_name, get_args(AvroCodecName))
    given: dict[str, Any] = {"codec": codec}
    level = options.get("compression_level")
    if codec in AVRO_LEVELS and isinstance(level, int) and not isinstance(level, bool):
        given["compression_level"] = level
    if codec == "zstandard" and options.get("include_checksum") is True:
        given["include_checksum"] = True
    return given, {"compression_codec"}


def _parse_parquet(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    names = _names(ParquetFormat) - {"union_layout"}
    given = {name: config[name] for name in names if config.get(name) is not None}
    if "compression_codec" in given:
        given["compression_codec"] = caseless(
            "format.compression_codec", given["compression_codec"], get_args(ParquetCodec)
        )
    return given, names


_FORMAT_PARSERS: dict[str, tuple[Any, Any]] = {
    "CSV": (CsvFormat, _parse_text),
    "JSONL": (JsonlFormat, _parse_text),
    "AVRO": (AvroFormat, _parse_avro),
    "PARQUET": (ParquetFormat, _parse_parquet),
}


def _names(cls: Any) -> set[str]:
    return {each.name for each in fields(cls)}


def _text(config: Mapping[str, Any], key: str) -> str:
    """A text of the configuration; what else stands there is not repeated, since it may be a secret."""
    value = config[key]
    if not isinstance(value, str):
        raise SettingsError(f"{key} is not a text.", setting=key)
    return value
