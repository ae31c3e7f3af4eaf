"""What would land, and where: the streams of a catalog, or those of the assets of Dagster definitions.

Must not know: the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.selections import SelectionOptions
from s3dest_dagster.cli.targets import CatalogStreams, bucket_of, read_config, read_streams
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.target import Target, open_target
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.connector_config import ConnectorConfig
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, open_bucket
from s3dest_dagster.stream import Scope, Stream

_FEW_ATTEMPTS = 2
_MOST_NAMES = 5


@dataclass(frozen=True, slots=True)
class StreamsToLand:
    """The streams that would land in one destination."""

    destination: S3Destination
    bucket: Bucket
    connection: S3Connection | None
    """How the bucket is reached. None if only a client is known."""
    streams: tuple[Stream, ...]
    scope_of: Callable[[Stream, str | None, datetime], Scope | None]
    """What a sync at this time would land of a stream, for this partition or none. None if it has no such partition."""
    unknown: tuple[str, ...] = ()
    """A sentence for each stream that has settings and is not among the streams."""
    warnings: tuple[str, ...] = ()
    """What is asked for and not done, as sentences."""
    named: Collection[str] = ()
    """The names of all streams that have settings."""

    @classmethod
    def of_config(cls, config: ConnectorConfig, selected: CatalogStreams) -> StreamsToLand:
        """The streams of a catalog, in the destination of a configuration."""
        return cls(
            config.destination,
            bucket_of(config),
            config.connection,
            selected.streams,
            lambda stream, partition, now: Scope(stream.id, partition),
            selected.unknown,
            selected.warnings,
            config.streams,
        )

    @contextmanager
    def opened_target(self, now: datetime | None) -> Iterator[Target]:
        """The destination, ready for landings. If `now` is given, the clock does not move there."""
        with open_target(
            self.destination,
            self.bucket,
            clock=lambda: now or datetime.now(UTC),
            entropy=os.urandom,
            server_clock=(lambda: now) if now is not None else None,
        ) as target:
            yield target

    def with_few_attempts(self) -> StreamsToLand:
        """The same with few attempts at a request, since a person waits for the answer; a sync retries for a minute."""
        if self.connection is None:
            return self
        connection = replace(self.connection, max_attempts=min(self.connection.max_attempts, _FEW_ATTEMPTS))
        return replace(self, connection=connection, bucket=open_bucket(connection, self.destination))


def streams_to_land(
    output: Output, options: SelectionOptions, discovered_path: str | None, owner: str | None
) -> StreamsToLand:
    """The streams that the options name.

    Args:
        output: Where messages go.
        options: A configuration with a catalog, or definitions.
        discovered_path: The discovered catalog from which the other one was made, if it is given.
        owner: On whose behalf the streams would land. None: as the settings or the definitions say.

    Raises:
        SettingsError: The options contradict each other, or the assets land by several IO managers.
    """
    if options.names_definitions:
        if discovered_path is not None or owner is not None:
            raise SettingsError("--discovered and --owner belong to a catalog and need --config.")
        return _of_assets(options)
    assert options.config_path is not None
    config, selected = read_config(options.config_path, output), CatalogStreams()
    if options.catalog_path is not None:
        selected = read_streams(config, options.catalog_path, discovered_path).of_owner(owner)
    return StreamsToLand.of_config(config, selected)


def _of_assets(options: SelectionOptions) -> StreamsToLand:
    landed = options.landed_by_assets()
    if len(landed) > 1:
        managers = ", ".join(
            f"{each.manager} ({each.bucket.uri(each.destination.template.literal_root)})"
            for each in landed[:_MOST_NAMES]
        )
        raise SettingsError(
            f"The selected assets are landed by {len(landed)} IO managers: {managers}. Choose one by --io-manager, as "
            f"--io-manager {landed[0].manager}.",
            setting="io_manager",
        )
    (own,) = landed
    return StreamsToLand(own.destination, own.bucket, own.connection, own.defined, own.scope_to_land)
