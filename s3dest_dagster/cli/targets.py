"""What stands in the files and options of a call, as the library's values.

Errors name the file and the place in it. It must not know verbs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from s3dest_dagster.cli.output import Output
from s3dest_dagster.commit.scopes import FoundStream, found_streams, scopes
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import (
    JOB_ID_VARIABLE,
    OWN_SETTINGS_KEY,
    ConnectorConfig,
    from_connector_config,
    with_suggestion,
)
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.sources.airbyte.catalog import Catalog, read_catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile, CurrentConfig
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Scope, StreamId, Sync


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
        output.say(
            f"{path}: these keys mean nothing here and are ignored: {', '.join(map(with_suggestion, config.ignored))}."
        )
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


@dataclass(frozen=True, slots=True)
class Where:
    """What the caller said of where to look; None for what was not said."""

    config_path: str | None = None
    catalog_path: str | None = None
    module: str | None = None
    selection: str | None = None
    partition: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """A destination, its bucket, and the streams (under their names there) and partition to look at; None for all."""

    destination: S3Destination
    bucket: Bucket
    streams: frozenset[StreamId] | None
    partition: str | None

    def scopes(self) -> Iterator[Scope]:
        """The scopes that have landed here. Raises ManifestError for a head that cannot be read."""
        for scope in scopes(self.bucket, self.destination.template, self.streams):
            if self.partition is None or scope.partition == self.partition:
                yield scope

    def found(self) -> Iterator[FoundStream]:
        """The same, stream by stream, and the heads that cannot be read."""
        return found_streams(self.bucket, self.destination.template, self.streams, self.partition)


def places(output: Output, where: Where) -> list[Place]:
    """The places to look at. Raises SettingsError where the options contradict each other or lead nowhere."""
    if (where.config_path is None) == (where.module is None):
        raise SettingsError("Give --config, or --module for the assets of a Dagster module; one of the two.")
    if where.module is not None:
        return _of_assets(where, where.module)
    if where.selection is not None:
        raise SettingsError(
            "--select selects assets, and needs --module. Streams of a --config are named by --catalog."
        )
    assert where.config_path is not None
    config = read_config(where.config_path, output)
    return [Place(config.destination, bucket_of(config), asked_streams(config, where.catalog_path), where.partition)]


def _of_assets(where: Where, module: str) -> list[Place]:
    if where.catalog_path is not None:
        raise SettingsError("--catalog names streams of a --config. Assets of a --module are named by --select.")
    from s3dest_dagster.dagster.selection import landed_by

    found = landed_by(module, where.selection or "*")
    return [Place(each.destination, each.bucket, each.streams, where.partition) for each in found]


def asked_streams(config: ConnectorConfig, catalog_path: str | None) -> frozenset[StreamId] | None:
    """The catalog's streams under their names in the bucket; None without a catalog."""
    if catalog_path is None:
        return None
    prefix = config.destination.stream_prefix
    streams = read_catalog_file(catalog_path).streams
    return frozenset(each.id.prefixed(prefix) for each in streams)
