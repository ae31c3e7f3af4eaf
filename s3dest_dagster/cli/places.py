"""Where the verbs for what has landed look: by a configuration and a catalog, or by assets of a Dagster module.

It must not know what is done there. Dagster is imported only when assets are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from s3dest_dagster import landing
from s3dest_dagster.cli.inputs import bucket_of, read_catalog_file, read_config
from s3dest_dagster.cli.output import Output
from s3dest_dagster.connector_config import ConnectorConfig
from s3dest_dagster.destination import S3Destination
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.landing import FoundStream
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId


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
        for scope in landing.scopes(self.bucket, self.destination.template, self.streams):
            if self.partition is None or scope.partition == self.partition:
                yield scope

    def found(self) -> Iterator[FoundStream]:
        """The same, stream by stream, and the heads that cannot be read."""
        return landing.found_streams(self.bucket, self.destination.template, self.streams, self.partition)


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
    from s3dest_dagster.orchestration.selection import landed_by

    found = landed_by(module, where.selection or "*")
    return [Place(each.destination, each.bucket, each.streams, where.partition) for each in found]


def asked_streams(config: ConnectorConfig, catalog_path: str | None) -> frozenset[StreamId] | None:
    """The catalog's streams under their names in the bucket; None without a catalog."""
    if catalog_path is None:
        return None
    prefix = config.destination.stream_prefix
    streams = read_catalog_file(catalog_path).streams
    return frozenset(landing.landed_scope(prefix, Scope(each.id)).stream for each in streams)
