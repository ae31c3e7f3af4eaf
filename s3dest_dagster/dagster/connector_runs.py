"""How a step starts a connector: its config looked up and ready, its partition in words, its log in the run's log.

It knows Dagster's partitions and contexts; it must not know where records go.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import dagster as dg

from s3dest_dagster.commit.manifest import ReachedState
from s3dest_dagster.dagster.variables import looked_up
from s3dest_dagster.printable import printable_lines
from s3dest_dagster.sources.airbyte.connector import AirbyteSource
from s3dest_dagster.sources.airbyte.messages import LOG_LEVELS, Log
from s3dest_dagster.sources.templating import Window, partition_values
from s3dest_dagster.stream import Stream


def ready(source: AirbyteSource) -> AirbyteSource:
    """The source with what its config and environment have from the environment of this run; a config that is asked
    for is asked by each call of the connector, since the one before may have changed it."""
    given = source.config
    config = (lambda: looked_up(given())) if callable(given) else looked_up(given)
    env = {name: str(value) for name, value in (looked_up(source.env, "env") or {}).items()}
    return replace(source, config=config, env=env)


def reads_on(source: AirbyteSource, stream: Stream, state: ReachedState) -> bool:
    """Whether the source goes on from the state. One that reads the stream in full does so only where the last sync
    broke off: the state at the end of a full read says that nothing is left."""
    return not state.complete or (source.catalog is not None and source.catalog.is_incremental(stream))


def values_of(partitions: dg.PartitionsDefinition[Any], key: str) -> dict[str, str | int]:
    """What a connector's config can name of this partition: its key, its dimensions, its time window. With several
    dimensions of time the windows are named after them only, since none is the partition's."""
    if not isinstance(partitions, dg.MultiPartitionsDefinition):
        start, end = _window(partitions, key) or (None, None)
        return partition_values(str(key), start=start, end=end)
    parts = dict(partitions.get_partition_key_from_str(key).keys_by_dimension)
    windows = {
        each.name: window
        for each in partitions.partitions_defs
        if (window := _window(each.partitions_def, parts[each.name])) is not None
    }
    start, end = next(iter(windows.values())) if len(windows) == 1 else (None, None)
    return partition_values(str(key), dimensions=parts, start=start, end=end, windows=windows)


def _window(partitions: dg.PartitionsDefinition[Any], key: str) -> Window | None:
    if not isinstance(partitions, dg.TimeWindowPartitionsDefinition):
        return None
    window = partitions.time_window_for_partition_key(key)
    return window.start, window.end


def log_to(context: dg.AssetExecutionContext) -> Log:
    """Takes what the connector logs into the run's log, at its level."""
    return lambda level, message: context.log.log(LOG_LEVELS[level], "%s", printable_lines(message))
