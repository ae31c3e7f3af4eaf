"""How a step starts a connector: its config looked up and ready, its partition in words, its log in the run's log.

It knows Dagster's partitions and contexts; it must not know where records go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.landing import ReachedState
from s3dest_dagster.printable import printable_lines
from s3dest_dagster.sources.airbyte import AirbyteSource
from s3dest_dagster.sources.templating import partition_values
from s3dest_dagster.sources.transcript import LOG_LEVELS, Log
from s3dest_dagster.stream import Stream


def ready(source: AirbyteSource) -> AirbyteSource:
    """The source with what its config and environment have from the environment of this run; a config that is asked
    for is asked by each call of the connector, since the one before may have changed it."""
    given = source.config
    config = (lambda: looked_up(given())) if callable(given) else looked_up(given)
    return replace(source, config=config, env=looked_up(source.env))


def reads_on(source: AirbyteSource, stream: Stream, state: ReachedState) -> bool:
    """Whether the source goes on from the state. One that reads the stream in full does so only where the last sync
    broke off: the state at the end of a full read says that nothing is left."""
    return not state.complete or (source.catalog is not None and source.catalog.is_incremental(stream))


def values_of(partitions: dg.PartitionsDefinition[Any], key: str) -> dict[str, str | int]:
    """What a connector's config can name of this partition: its key, its dimensions, its time window."""
    if isinstance(partitions, dg.MultiPartitionsDefinition):
        many = partitions.get_partition_key_from_str(key)
        window = partitions.time_window_for_partition_key(many) if partitions.has_time_window_dimension else None
        dimensions = dict(many.keys_by_dimension)
    else:
        window = _window(partitions, key)
        dimensions = {}
    if window is None:
        return partition_values(str(key), dimensions=dimensions)
    return partition_values(str(key), dimensions=dimensions, start=window.start, end=window.end)


def _window(partitions: dg.PartitionsDefinition[Any], key: str) -> dg.TimeWindow | None:
    return (
        partitions.time_window_for_partition_key(key)
        if isinstance(partitions, dg.TimeWindowPartitionsDefinition)
        else None
    )


def looked_up(value: Any) -> Any:
    """A config with every `dg.EnvVar` in it replaced by the variable's value. SettingsError for one that is not set."""
    if isinstance(value, dg.EnvVar):
        found = value.get_value()
        if found is None:
            raise SettingsError(
                f"The environment variable {value.env_var_name} is not set, and the source's config names it.",
                setting=value.env_var_name,
            )
        return found
    if isinstance(value, Mapping):
        return {name: looked_up(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [looked_up(inner) for inner in value]
    return value


def log_to(context: dg.AssetExecutionContext) -> Log:
    """Takes what the connector logs into the run's log, at its level."""
    return lambda level, message: context.log.log(LOG_LEVELS[level], "%s", printable_lines(message))
