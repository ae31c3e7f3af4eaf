"""Which landed streams a verb works on: those of a configuration, or of the assets of Dagster definitions.

Must not know: the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from s3dest_dagster.cli.output import Output
from s3dest_dagster.cli.targets import bucket_of, read_catalog_file, read_config
from s3dest_dagster.commit.registry_updates import registry_of
from s3dest_dagster.commit.retention import with_retention
from s3dest_dagster.commit.retirement import content_of
from s3dest_dagster.commit.scopes import FoundStream, found_streams, scopes
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.settings.connector_config import ConnectorConfig
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.stream_settings import StreamSettings
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, streams_shown_as

if TYPE_CHECKING:
    from s3dest_dagster.dagster.selection import SelectedStreams


@dataclass(frozen=True, slots=True)
class SelectionOptions:
    """The options that select landed streams; None for an option that was not given."""

    config_path: str | None = None
    catalog_path: str | None = None
    module: str | None = None
    defs: str | None = None
    assets: str | None = None
    manager: str | None = None
    partition: str | None = None

    @property
    def names_definitions(self) -> bool:
        """Whether Dagster definitions are named, and no configuration.

        Raises:
            SettingsError: Both are named, or none.
        """
        if sum(each is not None for each in (self.config_path, self.module, self.defs)) != 1:
            raise SettingsError("Give either --config, or --module or --defs for the assets of Dagster definitions.")
        if self.config_path is None and self.catalog_path is not None:
            raise SettingsError("--catalog names streams and needs --config. Select assets by --select.")
        if self.config_path is not None and (self.assets is not None or self.manager is not None):
            raise SettingsError(
                "--select and --io-manager choose assets and need --module or --defs. With --config, name the streams "
                "by --catalog."
            )
        return self.config_path is None

    def landed_by_assets(self) -> list[SelectedStreams]:
        """The streams of the selected assets, one entry for each IO manager."""
        # Imported here: Dagster takes a second to import, and only definitions need it.
        from s3dest_dagster.dagster.code_location import CodeLocation
        from s3dest_dagster.dagster.selection import select_landed

        return select_landed(CodeLocation(self.module, self.defs), self.assets or "*", self.manager)


@dataclass(frozen=True, slots=True)
class Selection:
    """Landed streams of one destination."""

    destination: S3Destination
    bucket: Bucket
    streams: frozenset[StreamId] | None
    """The streams under their names in the bucket; None selects all."""
    partition: str | None
    """The only partition that is selected; None selects all."""
    defines: Callable[[Scope], bool] | None = None
    """Whether the definition of a scope's stream has the scope. None if there is no definition."""
    names_all: bool = False
    """Whether `streams` are all that a catalog or a module defines."""
    settings: Mapping[str, StreamSettings] = field(default_factory=dict)
    """The settings of single streams, by their names in the source, with or without the namespace."""

    def destination_of(self, stream: StreamId) -> S3Destination:
        """The settings with which a stream lands, whose name is that in the bucket."""
        source = StreamId(stream.namespace, stream.name.removeprefix(self.destination.stream_prefix))
        settings = self.settings.get(str(source)) or self.settings.get(source.name)
        return with_retention(self.destination, settings) if settings is not None else self.destination

    def left_from_before(self, holding: Sequence[Scope]) -> list[Scope]:
        """The scopes of a stream that hold objects although its definition no longer has them.

        Without a definition, what has no partition is named if there are partitions too.

        Args:
            holding: The scopes of the stream that hold objects.
        """
        if self.defines is not None:
            return [scope for scope in holding if not self.defines(scope)]
        whole = [scope for scope in holding if scope.partition is None]
        return whole if len(whole) < len(holding) else []

    def undefined_streams(self) -> Iterator[StreamId]:
        """The streams under the bucket path that hold something and that the catalog or the module does not define."""
        if self.streams is None or not self.names_all:
            return
        for found in replace(self, streams=None, partition=None).found_streams():
            contents = (content_of(self.bucket, self.destination, scope) for scope in found.scopes)
            if found.stream not in self.streams and any(not each.is_empty for each in contents):
                yield found.stream

    def scopes(self) -> Iterator[Scope]:
        """The selected scopes that have landed. Raises ManifestError for a head that cannot be read."""
        for scope in scopes(self.bucket, self.destination.template, self.streams):
            if self.partition is None or scope.partition == self.partition:
                yield scope

    def found_streams(self) -> Iterator[FoundStream]:
        """The selected streams that have landed, with their scopes and with the heads that cannot be read."""
        return found_streams(self.bucket, self.destination.template, self.streams, self.partition)


def selections(output: Output, options: SelectionOptions) -> list[Selection]:
    """The streams that the options select, destination by destination.

    Raises:
        SettingsError: The options contradict each other, or select nothing that exists.
    """
    if options.names_definitions:
        named = options.assets is None and options.manager is None
        return [
            Selection(
                each.destination, each.bucket, each.streams, options.partition, each.defines, named, each.settings
            )
            for each in options.landed_by_assets()
        ]
    assert options.config_path is not None
    config = read_config(options.config_path, output)
    streams = catalog_streams(config, options.catalog_path)
    named = streams is not None
    bucket, settings = bucket_of(config), config.streams
    return [Selection(config.destination, bucket, streams, options.partition, names_all=named, settings=settings)]


def catalog_streams(config: ConnectorConfig, catalog_path: str | None) -> frozenset[StreamId] | None:
    """The catalog's streams under their names in the bucket; None without a catalog."""
    if catalog_path is None:
        return None
    prefix = config.destination.stream_prefix
    streams = read_catalog_file(catalog_path, config.dedup).streams
    return frozenset(stream.id.prefixed(prefix) for stream in streams)


def named_stream(selected: Sequence[Selection], name: str) -> tuple[Selection, StreamId]:
    """The landed stream that a name such as public.users means, under its name in the bucket.

    It need not be among the streams that are selected: what is renamed, or no longer defined, can be named, too.

    Raises:
        SettingsError: No stream of this name has a registry, or several have one.
    """
    found = [
        (selection, stream)
        for selection in selected
        for stream in (each.prefixed(selection.destination.stream_prefix) for each in streams_shown_as(name))
        if registry_of(selection.bucket, selection.destination, stream) is not None
    ]
    if len(found) == 1:
        return found[0]
    if found:
        paths = ", ".join(selection.bucket.uri(selection.destination.template.literal_root) for selection, _ in found)
        raise SettingsError(
            f"{len(found)} streams are called {name!r}, under {paths}. Select one destination: --config, or --select "
            "with an asset that lands there.",
            setting="stream",
        )
    known = sorted(
        {str(each.stream) for selection in selected for each in replace(selection, streams=None).found_streams()}
    )
    raise SettingsError(f"No stream {name!r} has landed here. {did_you_mean(name, known)}", setting="stream")


def stream_called(name: str, like: StreamId, prefix: str) -> StreamId:
    """The stream that does not exist yet and is shown under this name, under its name in the bucket.

    A dot ends the namespace: that of another stream if the name begins with it, otherwise the text before the first
    dot.

    Args:
        name: The name, such as public.users.
        like: The other stream.
        prefix: The destination's `stream_prefix`.

    Raises:
        SettingsError: It has no name.
    """
    if like.namespace and name.startswith(f"{like.namespace}."):
        stream = StreamId(like.namespace, name.removeprefix(f"{like.namespace}."))
    elif "." in name:
        namespace, _, rest = name.partition(".")
        stream = StreamId(namespace or None, rest)
    else:
        stream = StreamId(None, name)
    if not stream.name:
        raise SettingsError(f"{name!r} names no stream. Name it like public.users.", setting="stream")
    Scope(stream).check_unicode()
    return stream.prefixed(prefix)
