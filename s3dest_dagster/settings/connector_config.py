"""A connector's `config.json` as its users paste it, read into settings.

What the connector ignores is ignored and named; what is ours and unknown is an error. It must not know how settings
are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, caseless, exact_boolean, exact_integer, meant
from s3dest_dagster.settings.formats import (
    AvroCodecName,
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetCodec,
    ParquetFormat,
    TextCompression,
)


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """A connector's `config.json`, understood. `ignored` names the keys that mean nothing here."""

    destination: S3Destination
    connection: S3Connection
    ignored: tuple[str, ...]


_CONNECTION_KEYS = {known: each.name for each in fields(S3Connection) if (known := about(each).connector)}
_DESTINATION_KEYS = tuple(
    known for each in fields(S3Destination) if (known := about(each).connector) and known != "format"
)
_REQUIRED_KEYS = ("s3_bucket_name", "s3_bucket_path", "s3_bucket_region", "format")
OWN_SETTINGS_KEY = "s3dest"
_KNOWN_KEYS = frozenset({*_DESTINATION_KEYS, *_CONNECTION_KEYS, "format", OWN_SETTINGS_KEY})
_OPTIONS = {
    "compression": frozenset({"compression_type"}),
    "compression_codec": frozenset({"codec", "compression_level", "include_checksum"}),
}
"""The objects within the connector's `format`, and what can stand in them."""
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
    ignored = (*sorted(map(str, config.keys() - _KNOWN_KEYS)), *ignored_format)
    return ConnectorConfig(
        S3Destination(**destination, format=format_settings), S3Connection(**connection), tuple(ignored)
    )


def with_suggestion(key: str) -> str:
    """A key that means nothing, with the one that it may be a typing error of."""
    within, _, name = key.rpartition(".")
    likely = meant(name, _known_within(within))
    return f"{key} (is {likely} meant?)" if likely else key


def _known_within(path: str) -> Iterable[str]:
    """The names that an object of the configuration can have: "" is the whole, "format.compression" a part of it."""
    if path == "format":
        return {"format_type"}.union(*(_names(make) for make, _ in _FORMAT_PARSERS.values())) | {"compression_codec"}
    return _OPTIONS.get(path.removeprefix("format."), _KNOWN_KEYS)


def _own_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """What stands under "s3dest", with unknown names and repetitions of connector keys refused."""
    own = config.get(OWN_SETTINGS_KEY, {})
    if not isinstance(own, Mapping):
        raise SettingsError(f"{OWN_SETTINGS_KEY!r} is not an object of settings.", setting=OWN_SETTINGS_KEY)
    allowed = (_names(S3Destination) | _names(S3Connection)) - {*_DESTINATION_KEYS, *_CONNECTION_KEYS.values()}
    unknown = sorted(map(str, own.keys() - allowed))
    if unknown:
        likely = meant(unknown[0], allowed)
        raise SettingsError(
            f"Unknown setting {OWN_SETTINGS_KEY}.{unknown[0]}.{f' Is {likely} meant?' if likely else ''} Known are "
            f"{', '.join(sorted(allowed))}.",
            setting=f"{OWN_SETTINGS_KEY}.{unknown[0]}",
        )
    return dict(own)


def parse_format(config: Any, own: Mapping[str, Any] | None = None) -> tuple[FormatSettings, tuple[str, ...]]:
    """The connector's `format` object as settings, and the names in it that mean nothing (as "format.name"). A text is
    the name of a format with its defaults.

    Format types, codecs and flattening are matched without regard to case, as the connector does; `own` holds
    settings that the connector does not have.
    """
    if isinstance(config, str):
        config = {"format_type": config}
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
    if not isinstance(own, Mapping | None):
        where = f"{OWN_SETTINGS_KEY}.format"
        raise SettingsError(f"{where} is not an object of settings.", setting=where)
    extra = dict(own or {})
    unknown = sorted(map(str, extra.keys() - (_names(make) - given.keys() - {"flattening", "compression"})))
    if unknown:
        raise SettingsError(
            f"Unknown setting {OWN_SETTINGS_KEY}.format.{unknown[0]} for {kind}.",
            setting=f"{OWN_SETTINGS_KEY}.format.{unknown[0]}",
        )
    ignored = sorted({*map(str, config.keys() - used - {"format_type"}), *_unknown_options(config, used)})
    return make(**given, **extra), tuple(f"format.{name}" for name in ignored)


def _unknown_options(config: Mapping[str, Any], used: set[str]) -> Iterator[str]:
    """The names within the format's objects that mean nothing."""
    for name in _OPTIONS.keys() & used:
        if isinstance(options := config.get(name), Mapping):
            yield from (f"{name}.{option}" for option in options.keys() - _OPTIONS[name])


def _parse_text(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    given: dict[str, Any] = {}
    if config.get("flattening") is not None:
        given["flattening"] = caseless("format.flattening", config["flattening"], [mode.value for mode in Flattening])
    if config.get("compression") is not None:
        given["compression"] = _text_compression(config["compression"])
    return given, {"flattening", "compression"}


def _text_compression(options: Any) -> str:
    if not isinstance(options, Mapping) or options.get("compression_type") is None:
        what = "has no compression_type" if isinstance(options, Mapping) else "is not an object"
        raise SettingsError(
            f'format.compression {what}; write {{"compression_type": "GZIP"}} or {{"compression_type": '
            '"No Compression"}, or leave it out, which means GZIP.',
            setting="format.compression",
        )
    allowed = [each.value for each in TextCompression]
    return caseless("format.compression.compression_type", options["compression_type"], allowed)


def _parse_avro(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    options = {} if config.get("compression_codec") is None else config["compression_codec"]
    if not isinstance(options, Mapping):
        raise SettingsError(
            'format.compression_codec of Avro is an object; write it like {"codec": "Deflate", "compression_level": 6}',
            setting="format.compression_codec",
        )
    codec = "no compression" if options.get("codec") is None else options["codec"]
    given: dict[str, Any] = {"codec": caseless("format.compression_codec.codec", codec, get_args(AvroCodecName))}
    for name, exact in (("compression_level", exact_integer), ("include_checksum", exact_boolean)):
        if options.get(name) is not None:
            given[name] = exact(f"format.compression_codec.{name}", options[name])
    return given, {"compression_codec"}


def _parse_parquet(config: Mapping[str, Any]) -> tuple[dict[str, Any], set[str]]:
    names = _names(ParquetFormat) - {"union_layout"}
    given = {name: config[name] for name in names if config.get(name) is not None}
    for name, value in given.items():
        if name == "compression_codec":
            given[name] = caseless("format.compression_codec", value, get_args(ParquetCodec))
        else:
            exact = exact_boolean if name == "dictionary_encoding" else exact_integer
            given[name] = exact(f"format.{name}", value)
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
