"""Reads from the metadata of an input which stream an asset loads, and which of its records.

Must not know: how records are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from s3dest_dagster.commit.registry import streams_of_owner
from s3dest_dagster.dagster.asset_metadata import NAME_KEY, NAMESPACE_KEY, STREAM_KEY, stream_id_of
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.inspection.partition_filter import PartitionFilter
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, join_names

COLUMNS_KEY = "columns"
FILTER_KEY = "filter"
WHERE_KEY = "where"
PARTITIONS_KEY = "partitions"
AS_OF_KEY = "as_of"
ALLOW_MISSING_KEY = "allow_missing_partitions"
_NAME_KEYS = (NAME_KEY, NAMESPACE_KEY)


@dataclass(frozen=True, slots=True)
class InputSelection:
    """Which records of a stream an input loads. By default all of the partitions that Dagster maps to the step."""

    columns: Sequence[str] | None = None
    """The columns to load. None: all columns."""
    filter: Any = None
    """Conditions on the columns of a record (see `RowFilter`). None: no condition."""
    where: PartitionFilter = field(default_factory=PartitionFilter)
    """The values of the directories of the objects to load."""
    partitions: Sequence[str] | None = None
    """Keys of partitions. None: all that Dagster maps to the step."""
    as_of: datetime | None = None
    """Only syncs that began by this time are loaded. None: all of them."""
    allow_missing: bool = False
    """Whether to leave out partitions that never landed. Otherwise they are an error."""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> InputSelection:
        """The selection that the metadata of an input describes. Raises SettingsError for a wrong value."""
        metadata = {name: _plain(value) for name, value in metadata.items()}
        return cls(
            columns=metadata.get(COLUMNS_KEY),
            filter=metadata.get(FILTER_KEY),
            where=PartitionFilter.of(metadata.get(WHERE_KEY)),
            partitions=_partitions(metadata.get(PARTITIONS_KEY)),
            as_of=_time(metadata.get(AS_OF_KEY)),
            allow_missing=bool(metadata.get(ALLOW_MISSING_KEY, False)),
        )

    def partitions_of(self, scopes: Mapping[str | None, Scope]) -> Mapping[str | None, Scope]:
        """The selected scopes of those that Dagster maps to the step. Raises SettingsError for an unknown partition."""
        if self.partitions is None:
            return scopes
        for key in self.partitions:
            if key not in scopes:
                raise SettingsError(
                    f"{PARTITIONS_KEY} names {key!r}, which is none of the {len(scopes)} partitions that Dagster maps "
                    "to this step. Correct it, or give the input a partition_mapping that includes it.",
                    setting=PARTITIONS_KEY,
                )
        return {key: scope for key, scope in scopes.items() if key in self.partitions}


def upstream_stream(context: dg.InputContext, destination: S3Destination, bucket: Bucket) -> tuple[StreamId, str]:
    """The stream of an input's asset, and advice for the case that it never landed.

    The stream is the one that the asset's metadata or the input's `s3dest/name` and `s3dest/namespace` name. If they
    name none, as for an asset of another code location, it is the one that belongs to the asset's key according to the
    registries of the bucket path; else the one with the name of the key.

    Raises:
        SettingsError: Several streams belong to the asset.
    """
    upstream, key = context.upstream_output, context.asset_key
    definition = dict(upstream.definition_metadata) if upstream is not None else {}
    names = {name: value for name, value in context.definition_metadata.items() if name in _NAME_KEYS}
    if names:
        definition.pop(STREAM_KEY, None)
    definition |= names
    named = stream_id_of(key, definition)
    if {STREAM_KEY, *_NAME_KEYS} & definition.keys():
        return named, ""
    owned = streams_of_owner(
        bucket, destination.template, key.to_user_string(), named.prefixed(destination.stream_prefix)
    )
    own = [StreamId(each.namespace, each.name.removeprefix(destination.stream_prefix)) for each in owned]
    if len(own) > 1:
        raise SettingsError(
            f"Several streams belong to the asset {key.to_user_string()}: {join_names(own)}. {_naming(key)}",
            setting=NAME_KEY,
        )
    return (own[0], "") if own else (named, _hint(key))


def _hint(key: dg.AssetKey) -> str:
    """Advice for an asset whose stream is known only by the asset's key, such as an asset of another code location."""
    return (
        f"No stream under this bucket path belongs to the asset {key.to_user_string()}, so its key was taken for the "
        f"stream's name. If another code location lands it with a name or owner of its own, name it. {_naming(key)}"
    )


def _naming(key: dg.AssetKey) -> str:
    return (
        f'Write dg.AssetIn(metadata={{"{NAME_KEY}": "{key.path[-1]}", "{NAMESPACE_KEY}": "…"}}), or give the same '
        "metadata to the dg.AssetSpec of the asset."
    )


def _plain(value: Any) -> Any:
    """A value without Dagster's wrapping."""
    if isinstance(value, dg.TimestampMetadataValue):
        return datetime.fromtimestamp(value.value, UTC)
    return value.value if isinstance(value, dg.MetadataValue) else value


def _partitions(given: Any) -> Sequence[str] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in given):
        raise SettingsError(
            f"{PARTITIONS_KEY} is {given!r}. Give the keys of partitions, as ['2026-01-05'].", setting=PARTITIONS_KEY
        )
    return tuple(given)


def _time(given: Any) -> datetime | None:
    """A time with a time zone. A text is in ISO 8601; without a zone it is in UTC."""
    if given is None:
        return None
    try:
        time = given if isinstance(given, datetime) else datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise SettingsError(
            f"{AS_OF_KEY} is {given!r}. Give a time, as '2026-01-31T12:00:00Z'.", setting=AS_OF_KEY
        ) from None
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)
