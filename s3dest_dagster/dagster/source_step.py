"""What a step that reads a source for several streams consists of: its source, its streams, and their assets.

A plain value, made with the definitions. Must not know: how the streams are read and landed.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import (
    partition_scopes,
    partition_values_of,
    partitions_of_run,
    preview_rows_of,
    stream_id_of,
)
from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.sources import MultiStreamSource
from s3dest_dagster.stream import Scope, Stream, StreamId


@dataclass(frozen=True)
class SourceStep:
    """A step that runs one source for the streams of several assets.

    Args:
        name: The step's name.
        source: The source that the step runs.
        streams: All streams of the step, as they are declared.
        keys: The asset of each stream.
        partitions: The partitions of all assets. None if they have none.
    """

    name: str
    source: MultiStreamSource
    streams: Sequence[Stream]
    keys: Mapping[StreamId, dg.AssetKey]
    partitions: dg.PartitionsDefinition[Any] | None

    def selected(
        self, context: dg.AssetExecutionContext, only: Collection[str] | None = None
    ) -> dict[dg.AssetKey, Stream]:
        """The streams that the run selects, of those that `only` names; None means all of them.

        Raises:
            SettingsError: `only` has an unknown name.
        """
        keys = context.selected_asset_keys
        return {self.keys[stream.id]: stream for stream in self._named(only) if self.keys[stream.id] in keys}

    def _named(self, only: Collection[str] | None) -> list[Stream]:
        for name in only or ():
            if not any(name in (stream.name, str(stream.id)) for stream in self.streams):
                raise SettingsError(
                    f"run was asked for the stream {name!r}. {did_you_mean(name, map(str, self.keys))}",
                    setting="streams",
                )
        return [each for each in self.streams if only is None or {each.name, str(each.id)} & set(only)]

    def landed(self, context: dg.AssetExecutionContext, stream: Stream) -> StreamId:
        """The stream under the namespace in which it lands."""
        key = self.keys[stream.id]
        return stream_id_of(key, context.assets_def.metadata_by_key[key])

    def scope(self, context: dg.AssetExecutionContext, stream: Stream, partition: str | None) -> Scope:
        """What the stream lands in the partition, under its namespace in the bucket."""
        landed = self.landed(context, stream)
        if self.partitions is None or partition is None:
            return Scope(landed)
        return partition_scopes(landed, self.partitions, [partition])[partition]

    def partitions_of(self, context: dg.AssetExecutionContext, stream: Stream) -> Sequence[str | None]:
        """The partitions that the run reads, one after another. Only None without partitions."""
        return [None] if self.partitions is None else partitions_of_run(context, stream.id)

    def values(self, partition: str | None) -> dict[str, str | int] | None:
        """The values that the source's placeholders can use. None without partitions."""
        if self.partitions is None or partition is None:
            return None
        return partition_values_of(self.partitions, partition)

    def preview_rows(self, context: dg.AssetExecutionContext, stream: Stream, default: int) -> int:
        """How many records of the stream its materialization shows."""
        return preview_rows_of(context.assets_def.metadata_by_key[self.keys[stream.id]], default)

    def title(self, partition: str | None) -> str:
        """The source and the partition, for the run's log."""
        return self.source.name if partition is None else f"{self.source.name} [{partition}]"
