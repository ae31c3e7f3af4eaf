"""What a verb works on: the configuration, catalog and state files of a call, and the streams that its options select.

Errors name the file, and the line and column in it. Must not know: verbs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from s3dest_dagster.cli.output import Output
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import (
    DEDUP_KEY,
    JOB_ID_VARIABLE,
    OWN_SETTINGS_KEY,
    STREAMS_KEY,
    ConnectorConfig,
    Dedup,
    from_connector_config,
    read_json_object,
    with_suggestion,
)
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about
from s3dest_dagster.sources.airbyte.catalog import Catalog, read_catalog
from s3dest_dagster.sources.airbyte.config import ConfigFile, CurrentConfig
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Stream, Sync

_MOST_NAMES = 5


def read_config(path: str, output: Output) -> ConnectorConfig:
    """Reads the destination's configuration, hides its secrets from the output, and names the keys that are ignored.

    Raises:
        SettingsError: The file cannot be read, or a setting is wrong.
    """
    raw = read_json_object(path, "configuration")
    output.keep_secret(_secrets(raw))
    try:
        config = from_connector_config(raw)
    except SettingsError as error:
        error.add_note(f"(In {path}.)")
        raise
    if config.ignored:
        output.say(
            f"{path}: these keys are unknown and are ignored: {', '.join(map(with_suggestion, config.ignored))}."
        )
    return config


def read_catalog_file(path: str, dedup: Dedup = "refuse") -> Catalog:
    """Reads a catalog: a JSON object, or the output of a connector's `discover`, log lines included.

    Args:
        path: The file.
        dedup: See `Catalog`.

    Raises:
        SettingsError: The file cannot be read, holds no catalog, or its catalog has no streams.
    """
    try:
        raw = read_json_object(path, "catalog")
    except SettingsError as error:
        try:
            return read_catalog(path, dedup=dedup)
        except SettingsError:
            raise error from None
    try:
        catalog = read_catalog(raw, dedup=dedup)
        if not catalog.streams:
            raise SettingsError("The catalog has no streams.")
    except SettingsError as error:
        error.add_note(f"(In {path}.)")
        raise
    return catalog


@dataclass(frozen=True, slots=True)
class CatalogStreams:
    """The streams of a catalog, with the settings that the configuration has for them."""

    streams: tuple[Stream, ...] = ()
    unknown: tuple[str, ...] = ()
    """A sentence for each stream of the configuration that the catalog lacks."""
    warnings: tuple[str, ...] = ()
    """What the catalog asks for and does not get, as sentences."""

    def of_owner(self, owner: str | None) -> CatalogStreams:
        """The streams, which land on behalf of this owner; None changes nothing."""
        if owner is None:
            return self
        settings = (replace(stream.settings, owner=owner) for stream in self.streams)
        owned = (replace(stream, settings=each) for stream, each in zip(self.streams, settings, strict=True))
        return replace(self, streams=tuple(owned))


def read_streams(config: ConnectorConfig, catalog_path: str, discovered_path: str | None) -> CatalogStreams:
    """Reads the streams of a catalog file (see `read_catalog_file`).

    Args:
        config: The configuration, which may have settings of the streams.
        catalog_path: The catalog.
        discovered_path: The discovered catalog from which it was made; None if that is not known.

    Raises:
        SettingsError: Also if the configuration's settings of a stream are wrong for the catalog.
    """
    catalog = read_catalog_file(catalog_path, config.dedup)
    if discovered_path is not None:
        catalog = replace(catalog, discovered=read_catalog_file(discovered_path).raw)
    where = f"{OWN_SETTINGS_KEY}.{STREAMS_KEY} has no effect here."
    unknown = (f"{where} {sentence}" for sentence in catalog.unknown_names(config.streams).values())
    return CatalogStreams(catalog.streams_with(config.streams), tuple(unknown), tuple(_duplicates(catalog)))


def _duplicates(catalog: Catalog) -> Iterator[str]:
    """A sentence about the streams that keep their duplicates, if there are any."""
    if names := catalog.keeps_duplicates_of:
        more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
        yield (
            f"{OWN_SETTINGS_KEY}.{DEDUP_KEY} is 'append', so duplicates are not removed from "
            f"{', '.join(names[:_MOST_NAMES])}{more}."
        )


def source_config(path: str | None) -> CurrentConfig:
    """The configuration of the source that writes the messages. What the source changes is kept in the file.

    Args:
        path: The file; None if the source's configuration is not known, so that changes cannot be kept.
    """
    if path is None:
        return CurrentConfig(
            {}, advice="Name its configuration file by --source-config, so that changes are kept there."
        )
    file = ConfigFile(path)
    return CurrentConfig(file(), keep=file.keep)


@contextmanager
def opened_target(config: ConnectorConfig, now: datetime | None) -> Iterator[Target]:
    """The destination, ready for landings. If `now` is given, the clock does not move there."""
    with open_target(
        config.destination,
        bucket_of(config),
        clock=lambda: now or datetime.now(UTC),
        entropy=os.urandom,
        server_clock=(lambda: now) if now is not None else None,
    ) as target:
        yield target


def bucket_of(config: ConnectorConfig) -> Bucket:
    """The destination's bucket. Sends no request yet."""
    return open_bucket(config.connection, config.destination)


def new_sync(sync_id: str | None, now: datetime | None) -> Sync:
    """A sync that begins now, under the given id or a random one."""
    label = os.environ.get(JOB_ID_VARIABLE, "")
    return Sync(sync_id or uuid4().hex, now or datetime.now(UTC), str(uuid4()), label)


def _secrets(raw: Mapping[str, Any]) -> Iterator[str]:
    """The values of secret settings."""
    names = [each.name for owner in (S3Connection, S3Destination) for each in fields(owner) if about(each).secret]
    own = raw.get(OWN_SETTINGS_KEY)
    for settings in (raw, own if isinstance(own, Mapping) else {}):
        yield from (settings[name] for name in names if isinstance(settings.get(name), str))
