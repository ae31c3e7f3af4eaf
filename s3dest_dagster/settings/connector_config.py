"""Reads a connector's `config.json`, as its users paste it, into settings.

Keys that the connector ignores are ignored and reported. An unknown name among our own settings is an error. Must not
know: how settings are used.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from s3dest_dagster.errors import SettingsError, closest_match
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, allowed_spelling, choices, exact_boolean, exact_integer, types_of
from s3dest_dagster.settings.formats import FORMATS, FormatSettings, format_class
from s3dest_dagster.settings.stream_settings import StreamSettings

Dedup = Literal["refuse", "append"]


@dataclass(frozen=True, slots=True)
class ConnectorConfig:
    """The settings in a connector's `config.json`."""

    destination: S3Destination
    connection: S3Connection
    ignored: tuple[str, ...]
    """The keys that have no meaning here."""
    streams: Mapping[str, StreamSettings] = field(default_factory=dict)
    """The settings of single streams, by the streams' names ("orders" or "shop.orders")."""
    dedup: Dedup = "refuse"
    """What is done with a stream of a configured catalog whose duplicates should be removed."""


CONNECTION_KEYS = {known: each.name for each in fields(S3Connection) if (known := about(each).connector)}
"""Our names of the connection settings that the connector has, by the connector's names."""
_DESTINATION_KEYS = tuple(
    known for each in fields(S3Destination) if (known := about(each).connector) and known != "format"
)
REQUIRED_KEYS = ("s3_bucket_name", "s3_bucket_path", "s3_bucket_region", "format")
OWN_SETTINGS_KEY = "s3dest"
STREAMS_KEY = "streams"
"""The key of the settings of single streams, under "s3dest"."""
DEDUP_KEY = "dedup"
"""The key under "s3dest" that says what is done with the sync modes `append_dedup` and `overwrite_dedup`."""
_KNOWN_KEYS = frozenset({*_DESTINATION_KEYS, *CONNECTION_KEYS, "format", OWN_SETTINGS_KEY})
_REQUIRED_OPTIONS = frozenset({"compression.compression_type"})
"""Options that their object must have. An Avro codec without a name means no codec, as in the connector."""
JOB_ID_VARIABLE = "WORKER_JOB_ID"
"""The environment variable for `{sync_id}` in the file name pattern. Without it, `{sync_id}` is the sync's own id."""


def read_json_object(path: str | os.PathLike[str], what: str, *, setting: str | None = None) -> dict[str, Any]:
    """Reads the JSON object in a file.

    Args:
        path: The path of the file.
        what: The word for the file in error messages, such as "catalog".
        setting: The setting that names the file, for the error.

    Raises:
        SettingsError: Names the file, and the line and column of what is wrong. It never quotes the file, which may
            hold secrets.
    """
    try:
        text = Path(path).read_text("utf-8")
        value = json.loads(text)
    except OSError as error:
        where = "" if os.path.isabs(path) else f" The current directory is {os.getcwd()}."
        problem = f"cannot be read: {error.strerror}.{where}"
    except UnicodeDecodeError as error:
        problem = f"is not UTF-8 text: byte {error.start} is wrong."
    except json.JSONDecodeError as error:
        problem = f"is not JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        if not error.doc.strip():
            problem = "is empty; it should hold a JSON object."
    except RecursionError:
        problem = "cannot be read: it nests too deeply."
    except ValueError:
        problem = "cannot be read: a number in it has too many digits."
    else:
        if isinstance(value, dict):
            return value
        problem = f"is JSON, but not an object: it begins with {text.lstrip()[0]!r}."
    raise SettingsError(f"The {what} {os.fspath(path)} {problem}", setting=setting)


def from_connector_config(config: Mapping[str, Any]) -> ConnectorConfig:
    """Reads a configuration of the connector as its users paste it.

    Keys that the connector does not know are ignored, as in the connector, and listed in the result. Our own settings
    are under the key "s3dest", with their names in `S3Destination`, `S3Connection` or the format. Its key "streams" has
    the settings of single streams (`StreamSettings`), by the streams' names, and its key "dedup" says what is done with
    streams whose duplicates should be removed.

    Raises:
        SettingsError: A setting is wrong, missing or unknown. Its message never contains a secret.
    """
    if not isinstance(config, Mapping):
        raise SettingsError("The configuration is not a JSON object.")
    missing = [key for key in REQUIRED_KEYS if config.get(key) is None]
    if missing:
        raise SettingsError(
            f"The configuration lacks {', '.join(missing)}. It needs at least {', '.join(REQUIRED_KEYS)}.",
            setting=missing[0],
        )
    own = _own_settings(config)
    is_newer = own.get("parity") == "1"
    destination: dict[str, Any] = {} if is_newer else connector_defaults(S3Destination)
    destination |= {key: _text(config, key) for key in _DESTINATION_KEYS if config.get(key) is not None}
    connection: dict[str, Any] = {
        name: _text(config, key) for key, name in CONNECTION_KEYS.items() if config.get(key) is not None
    }
    format_settings, ignored_format = parse_format(config["format"], own.pop("format", {}), like_connector=not is_newer)
    streams = _stream_settings(own.pop(STREAMS_KEY, {}))
    dedup = own.pop(DEDUP_KEY, "refuse")
    if dedup not in get_args(Dedup):
        where = f"{OWN_SETTINGS_KEY}.{DEDUP_KEY}"
        raise SettingsError(f"{where} is {dedup!r}; use 'refuse' or 'append'.", setting=where)
    for name in list(own):
        (destination if name in _names(S3Destination) else connection)[name] = own.pop(name)
    ignored = (*sorted(map(str, config.keys() - _KNOWN_KEYS)), *ignored_format)
    return ConnectorConfig(
        S3Destination(**destination, format=format_settings), S3Connection(**connection), tuple(ignored), streams, dedup
    )


def _stream_settings(given: Any) -> dict[str, StreamSettings]:
    """The settings of single streams. An error names the setting by its whole path."""
    where = f"{OWN_SETTINGS_KEY}.{STREAMS_KEY}"
    if not isinstance(given, Mapping):
        raise SettingsError(f"{where} must map the names of streams to their settings.", setting=where)
    streams = {}
    for name, settings in given.items():
        try:
            streams[str(name)] = StreamSettings.of(settings, "A stream")
        except SettingsError as error:
            raise SettingsError(f"{where}: {name!r}: {error.message}", stream=str(name), setting=where) from None
    return streams


def with_suggestion(key: str) -> str:
    """An ignored key, with the known key that was probably meant."""
    within, _, name = key.rpartition(".")
    likely = closest_match(name, _known_within(within))
    return f"{key} (did you mean {likely!r}?)" if likely else key


def _known_within(path: str) -> Iterable[str]:
    """The keys that an object of the configuration can have: "" is the whole, and "format.compression" is a part."""
    options = [options_of_format(each) for each in FORMATS]
    if path == "format":
        return {"format_type"}.union(*options, *map(_names, FORMATS))
    name = path.removeprefix("format.")
    return {inner for each in options for inner in each.get(name, ())} or _KNOWN_KEYS


def _own_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under "s3dest". Unknown names and names of the connector's own settings are refused."""
    own = config.get(OWN_SETTINGS_KEY, {})
    if not isinstance(own, Mapping):
        raise SettingsError(f"{OWN_SETTINGS_KEY!r} is not an object of settings.", setting=OWN_SETTINGS_KEY)
    allowed = (_names(S3Destination) | _names(S3Connection)) - {*_DESTINATION_KEYS, *CONNECTION_KEYS.values()}
    allowed |= {STREAMS_KEY, DEDUP_KEY}
    unknown = sorted(map(str, own.keys() - allowed))
    if unknown:
        name = f"{OWN_SETTINGS_KEY}.{unknown[0]}"
        likely = closest_match(unknown[0], allowed)
        hint = f"Did you mean {likely!r}? " if likely else ""
        raise SettingsError(
            f"Unknown setting {name}. {hint}Known are {', '.join(sorted(allowed))}.",
            setting=name,
        )
    return dict(own)


def parse_format(
    config: Any, own: Mapping[str, Any] | None = None, *, like_connector: bool = False
) -> tuple[FormatSettings, tuple[str, ...]]:
    """The connector's `format` object as settings, and the names in it that have no meaning (as "format.name").

    The names of formats, codecs and flattening modes are case-insensitive, as in the connector.

    Args:
        config: The object, or the name of a format for its defaults.
        own: Settings of the format that the connector does not have.
        like_connector: Whether our own settings that are not given do what the connector does.

    Raises:
        SettingsError: A name or value is wrong. The error names its setting.
    """
    if isinstance(config, str):
        config = {"format_type": config}
    settings = _format_class(config.get("format_type") if isinstance(config, Mapping) else None)
    given = dict(_given_settings(settings, config))
    options = options_of_format(settings)
    ignored = {*map(str, config.keys() - options.keys() - {"format_type"}), *_unknown_options(config, options)}
    defaults = connector_defaults(settings) if like_connector else {}
    made = settings(**{**defaults, **given, **_own_format_settings(settings, given, own)})
    return made, tuple(f"format.{name}" for name in sorted(ignored))


def connector_defaults(settings: type) -> dict[str, Any]:
    """The defaults that our own settings have in a `config.json` because version 0 of the connector does the same."""
    known = {each.name: about(each).connector_default for each in fields(settings)}
    return {name: default for name, default in known.items() if default is not None}


def options_of_format(settings: type[FormatSettings]) -> dict[str, list[str]]:
    """The names that the connector's `format` object can have for a format.

    If the value of a name is an object, the names in that object follow; for a plain value, the list is empty.
    """
    options: dict[str, list[str]] = {}
    for each in fields(settings):
        name, _, inner = about(each).connector.partition(".")
        if name:
            options.setdefault(name, []).extend([inner] if inner else [])
    return options


def _format_class(name: Any) -> type[FormatSettings]:
    known = [each.format_type for each in FORMATS]
    setting = "format.format_type"
    if not isinstance(name, str):
        raise SettingsError(f"format needs a format_type: {', '.join(known[:-1])} or {known[-1]}.", setting=setting)
    if name.upper() not in map(str.upper, known):
        raise SettingsError(
            f"Unknown format_type {name!r}. Known are {', '.join(known[:-1])} and {known[-1]}.", setting=setting
        )
    return format_class(name)


def _given_settings(settings: type[FormatSettings], config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the settings in a connector's `format` object, under our names."""
    types = types_of(settings)
    for each in fields(settings):
        name, _, inner = about(each).connector.partition(".")
        value = config.get(name) if name else None
        if inner and value is not None:
            value = _option(settings, name, inner, value)
        if value is not None:
            yield each.name, _exact(f"format.{about(each).connector}", value, types[each.name][0])


def _option(settings: type[FormatSettings], name: str, inner: str, options: Any) -> Any:
    """The value of an option in an object of the connector's `format`."""
    is_object = isinstance(options, Mapping)
    if is_object and (options.get(inner) is not None or f"{name}.{inner}" not in _REQUIRED_OPTIONS):
        return options.get(inner)
    lead = next(each for each in fields(settings) if about(each).connector.startswith(f"{name}."))
    key = about(lead).connector.partition(".")[2]
    written = (f'{{"{key}": "{choice}"}}' for choice in choices(types_of(settings)[lead.name][0]))
    raise SettingsError(
        f"format.{name} {f'has no {inner}' if is_object else 'is not an object'}; write {' or '.join(written)}, "
        f"or leave it out, which means {lead.default}.",
        setting=f"format.{name}",
    )


def _exact(setting: str, value: Any, hint: Any) -> Any:
    """A value of the connector's configuration as a setting of this type. Raises SettingsError if it does not fit."""
    if options := choices(hint):
        return allowed_spelling(setting, value, options)
    return exact_boolean(setting, value) if hint is bool else exact_integer(setting, value)


def _own_format_settings(
    settings: type[FormatSettings], given: Mapping[str, Any], own: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The settings under "s3dest.format". Unknown names and repetitions are refused."""
    where = f"{OWN_SETTINGS_KEY}.format"
    if not isinstance(own, Mapping | None):
        raise SettingsError(f"{where} is not an object of settings.", setting=where)
    unknown = sorted(map(str, (own or {}).keys() - (_names(settings) - given.keys() - {"flattening", "compression"})))
    if unknown:
        name = f"{where}.{unknown[0]}"
        raise SettingsError(f"Unknown setting {name} for {settings.format_type.upper()}.", setting=name)
    return dict(own or {})


def _unknown_options(config: Mapping[str, Any], options: Mapping[str, Collection[str]]) -> Iterator[str]:
    """Yields the names in the objects of the connector's `format` that have no meaning."""
    for name, known in options.items():
        if known and isinstance(inner := config.get(name), Mapping):
            yield from (f"{name}.{option}" for option in inner.keys() - known)


def _names(cls: Any) -> set[str]:
    return {each.name for each in fields(cls)}


def _text(config: Mapping[str, Any], key: str) -> str:
    """A text of the configuration. Raises SettingsError for another value, without showing it: it may be a secret."""
    value = config[key]
    if not isinstance(value, str):
        raise SettingsError(f"{key} is not a text.", setting=key)
    return value
