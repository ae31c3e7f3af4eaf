"""Reads from the metadata of an input which stream an asset loads, and which of its records.

Must not know: how records are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from s3dest_dagster.commit.registry import streams_of_owner
from s3dest_dagster.dagster.asset_metadata import NAME_KEY, NAMESPACE_KEY, STREAM_KEY, stream_id_of
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.inspection.record_selection import (
    AS_OF_KEY,
    COLUMNS_KEY,
    FILTER_KEY,
    PARTITIONS_KEY,
    WHERE_KEY,
    RecordSelection,
)
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, StreamId, join_names

ALLOW_MISSING_KEY = "allow_missing_partitions"
_SELECTION_KEYS = (COLUMNS_KEY, FILTER_KEY, WHERE_KEY, PARTITIONS_KEY, AS_OF_KEY)
_NAME_KEYS = (NAME_KEY, NAMESPACE_KEY)


def input_selection(metadata: Mapping[str, Any]) -> RecordSelection:
    """The selection that the metadata of an input describes, by default all of the partitions that Dagster maps to the
    step. Raises SettingsError for a wrong value.
    """
    values = {name: _plain(value) for name, value in metadata.items()}
    return RecordSelection.of(
        **{name: values.get(name) for name in _SELECTION_KEYS}, allow_missing=values.get(ALLOW_MISSING_KEY, False)
    )


def select_partitions(selection: RecordSelection, scopes: Mapping[str | None, Scope]) -> Mapping[str | None, Scope]:
    """The selected scopes of those that Dagster maps to the step. Raises SettingsError for an unknown partition."""
    if selection.partitions is None:
        return scopes
    for key in selection.partitions:
        if key not in scopes:
            raise SettingsError(
                f"{PARTITIONS_KEY} names {key!r}, which is none of the {len(scopes)} partitions that Dagster maps "
                "to this step. Correct it, or give the input a partition_mapping that includes it.",
                setting=PARTITIONS_KEY,
            )
    return {key: scope for key, scope in scopes.items() if key in selection.partitions}


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
