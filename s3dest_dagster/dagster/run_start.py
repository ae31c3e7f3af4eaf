"""Where the read of a scope begins: at the last state that it reached, or where the settings of the run say.

Must not know: how records are read.
"""

from __future__ import annotations

from typing import Any

from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.dagster.run_config import (
    StreamRunConfig,
    function_reads_config,
    given_states,
    refuse_settings,
    shown_settings,
)
from s3dest_dagster.dagster.run_landing import current_execution
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.ingest.read_limit import ReadLimit
from s3dest_dagster.sources import DeferredRead
from s3dest_dagster.stream import Scope, Stream, StreamId, SyncMode


def state_of_read(landing: Landing, config: StreamRunConfig, *, is_incremental: bool) -> bytes | None:
    """The state from which the run reads: the one that it sets, or the last one unless it begins anew."""
    if config.state is not None:
        return given_state(config, landing.stream.id)
    if config.start_date is not None:
        return None
    state = state_to_continue(landing, is_incremental=is_incremental)
    return None if state is None else state.text.encode()


def given_state(config: StreamRunConfig, stream: StreamId) -> bytes:
    """The state that the run sets for a stream. Raises SettingsError if there is none for it."""
    for given in given_states(config):
        if given.stream is None or given.stream.name == stream.name:
            return given.text.encode()
    raise SettingsError(
        f"The run's state has none of {stream}. Give its state, or name the streams of the state as streams.",
        stream=str(stream),
        setting="state",
    )


def check_start(config: StreamRunConfig, stream: Stream, scope: Scope) -> None:
    """Raises SettingsError if the run sets where to begin, and the scope has no such place."""
    if scope.partition is not None:
        reason = "Each partition is its own slice of the source. Choose other partitions instead."
        refuse_settings(config, ["start_date", "state"], str(scope.stream), reason)
    if stream.sync_mode is not SyncMode.APPEND:
        refuse_settings(config, ["state"], str(scope.stream), "A full refresh reads from the beginning.")


def run_metadata(config: StreamRunConfig, limit: ReadLimit, stream: StreamId) -> dict[str, Any]:
    """What a materialization shows of the run's settings, and of the limit that has cut it off."""
    reached = limit.reached(stream)
    return {**shown_settings(config), **({"limited": reached} if reached is not None else {})}


def state_to_continue(landing: Landing, *, is_incremental: bool) -> ReachedState | None:
    """The state from which a source continues. None if it starts from the beginning, as for partitions and full
    refreshes.

    A read that is not incremental continues only if the last sync was interrupted: the state at the end of a complete
    read says that nothing is left.
    """
    if landing.scope.partition is not None or landing.stream.sync_mode is not SyncMode.APPEND:
        return None
    state = landing.last_state
    return state if state is not None and (is_incremental or not state.complete) else None


def refuse_start(config: StreamRunConfig, records: Any, stream: str) -> None:
    """Raises SettingsError if the run sets where to begin, and what the asset returned cannot begin there."""
    if not isinstance(records, DeferredRead):
        refuse_settings(config, ["state"], stream, "Only a source that has states goes on from one.")
        execution = current_execution()
        if execution is not None and function_reads_config(execution):
            return
    if getattr(records, "start_date", None) is None:
        reason = (
            "Only a connector, and a function whose parameter config is of a class derived from StreamRunConfig, "
            "read from a date on."
        )
        refuse_settings(config, ["start_date"], stream, reason)
