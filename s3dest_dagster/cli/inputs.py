"""What stands in the files and options of a call, as the library's values.

Errors name the file and the place in it. It must not know verbs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from s3dest_dagster.cli.output import Output
from s3dest_dagster.connection import S3Connection
from s3dest_dagster.connector_config import (
    JOB_ID_VARIABLE,
    OWN_SETTINGS_KEY,
    ConnectorConfig,
    doubted,
    from_connector_config,
)
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.landing import Sync, Target, open_target
from s3dest_dagster.sources.catalog import Catalog, read_catalog
from s3dest_dagster.sources.config_file import ConfigFile
from s3dest_dagster.sources.current_config import CurrentConfig
from s3dest_dagster.storage import Bucket, open_bucket


def read_config(path: str, output: Output) -> ConnectorConfig:
    """The destination's configuration; its secrets are kept from the output, ignored keys are named once."""
    raw = read_json_object(path, "configuration")
    output.keep_secret(_secrets(raw))
    try:
        config = from_connector_config(raw)
    except SettingsError as error:
        error.add_note(f"(In {path}.)")
        raise
    if config.ignored:
        output.say(f"{path}: these keys mean nothing here and are ignored: {', '.join(map(doubted, config.ignored))}.")
    return config


def read_json_object(path: str, what: str) -> Mapping[str, Any]:
    """The JSON object of a file. Raises SettingsError that names the file, and line and column of what is wrong."""
    try:
        text = _read_text(path, what)
        if not text.strip():
            raise SettingsError(f"The {what} {path} is empty; a JSON object is expected in it.")
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SettingsError(
            f"The {what} {path} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}."
        ) from None
    except SettingsError:
        raise
    except (ValueError, RecursionError) as error:
        reason = "it nests too deeply" if isinstance(error, RecursionError) else "a number in it has too many digits"
        raise SettingsError(f"The {what} {path} cannot be read: {reason}.") from None
    if not isinstance(value, Mapping):
        raise SettingsError(f"The {what} {path} is JSON, but no object: it begins {json.dumps(value)[:20]!r}.")
    return value


def read_catalog_file(path: str) -> Catalog:
    """The catalog of a file: JSON, or what a connector's `discover` printed, log lines included."""
    try:
        raw = read_json_object(path, "catalog")
    except SettingsError as error:
        try:
            return read_catalog(path)
        except SettingsError:
            raise error from None
    try:
        catalog = read_catalog(raw)
        if not catalog.streams:
            raise SettingsError("The catalog has no streams.")
    except SettingsError as error:
        error.add_note(f"(In {path}.)")
        raise
    return catalog


def source_config(path: str | None) -> CurrentConfig:
    """The configuration of the source that writes the messages, in a file that keeps what it changes; None for none."""
    if path is None:
        return CurrentConfig({}, cure="Name its configuration file by --source-config, so that changes are kept there.")
    read_json_object(path, "configuration")
    file = ConfigFile(path)
    return CurrentConfig(file(), keep=file.keep)


@contextmanager
def opened_target(config: ConnectorConfig, now: datetime | None) -> Iterator[Target]:
    """The destination, ready for landings, with the clock fixed at `now` or running."""
    with open_target(
        config.destination,
        bucket_of(config),
        clock=lambda: now or datetime.now(UTC),
        entropy=os.urandom,
        server_clock=(lambda: now) if now is not None else None,
    ) as target:
        yield target


def bucket_of(config: ConnectorConfig) -> Bucket:
    """The destination's bucket. Nothing is asked of the server yet."""
    return open_bucket(config.connection, config.destination)


def new_sync(sync_id: str | None, now: datetime | None) -> Sync:
    """A sync of this call: its id given or drawn."""
    label = os.environ.get(JOB_ID_VARIABLE, "")
    return Sync(sync_id or uuid4().hex, now or datetime.now(UTC), str(uuid4()), label)


def _read_text(path: str, what: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        where = "" if os.path.isabs(path) else f" It was looked for in {os.getcwd()}."
        raise SettingsError(f"The {what} {path} cannot be read: {error.strerror}.{where}") from None
    except UnicodeDecodeError as error:
        raise SettingsError(f"The {what} {path} is no text in UTF-8: byte {error.start} is wrong.") from None


def _secrets(raw: Mapping[str, Any]) -> Iterator[str]:
    """Texts under the names of secret settings: those that their class keeps out of its repr."""
    names = [each.name for each in fields(S3Connection) if not each.repr]
    own = raw.get(OWN_SETTINGS_KEY)
    for place in (raw, own if isinstance(own, Mapping) else {}):
        yield from (place[name] for name in names if isinstance(place.get(name), str))
