"""Where one read of a source for several streams begins: the states of the streams, as the settings of the run change
them.

Must not know: how the source is read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from s3dest_dagster.batch import KnownState, is_of_one_stream, state_id
from s3dest_dagster.commit.head import ReachedState
from s3dest_dagster.commit.states import text_of
from s3dest_dagster.dagster.run_config import StreamRunConfig
from s3dest_dagster.dagster.run_start import given_state, state_to_continue
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import Landing
from s3dest_dagster.sources import MultiStreamSource
from s3dest_dagster.sources.airbyte.states import Reached, Resumption, resumption
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Stream, StreamId


def start_of_read(
    source: MultiStreamSource,
    declared: Sequence[Stream],
    landings: Sequence[Landing],
    configs: Mapping[StreamId, StreamRunConfig],
    bucket: Bucket,
) -> Resumption:
    """Where the source continues. Partitions and full refreshes start from the beginning.

    Args:
        source: The source that is read.
        declared: All streams of the step, as they are declared.
        landings: The streams that are read.
        configs: The settings of the run for each of them.
        bucket: Where their states are kept.

    Raises:
        SettingsError: The source cannot go on from a state that the run sets.
    """
    modes = {stream.id: stream.sync_mode for stream in declared}
    in_full = [
        each.stream.id
        for each in landings
        if not source.is_incremental(replace(each.stream, sync_mode=modes[each.stream.id]))
    ]
    anew = {stream for stream, config in configs.items() if config.full_refresh or config.start_date is not None}
    reached = {each.stream.id: _reached(source, each, configs[each.stream.id]) for each in landings}
    are_some = len(anew) < len(declared)
    resumed = resumption(
        {stream: None if stream in anew else state for stream, state in reached.items()},
        partial(text_of, bucket),
        in_full=in_full,
        are_all=len(landings) == len(declared),
        restarted={stream: reached[stream] for stream in anew} if are_some else None,
    )
    _check_given_states(resumed, configs)
    is_given = any(config.state is not None for config in configs.values())
    # No segment holds a state that the run sets, so that no later read could look it up as an ancestor.
    return replace(resumed, lineage=()) if is_given else resumed


def _check_given_states(resumed: Resumption, configs: Mapping[StreamId, StreamRunConfig]) -> None:
    """Raises SettingsError if the source does not go on from the states that the run sets."""
    for stream, config in configs.items():
        if config.state is None:
            continue
        state = given_state(config, stream)
        is_whole = is_of_one_stream(state.decode()) or all(other.state is not None for other in configs.values())
        if state not in resumed.states or not is_whole:
            raise SettingsError(
                f"{stream} cannot go on from the state that the run sets: it must be of the kind of state that the "
                "source's other streams have, and a state of all streams must be set for all of them.",
                stream=str(stream),
                setting="state",
            )


def _reached(source: MultiStreamSource, landing: Landing, config: StreamRunConfig) -> Reached | None:
    """The state of a stream: the one that the run sets, or the one that its records have reached."""
    if config.state is not None:
        text = given_state(config, landing.stream.id).decode()
        return Reached(text, (KnownState(state_id(text), 0, ""),))
    if config.full_refresh:
        return None if landing.last_state is None else _reached_of(landing.last_state)
    state = state_to_continue(landing, is_incremental=source.is_incremental(landing.stream))
    return None if state is None else _reached_of(state)


def _reached_of(state: ReachedState) -> Reached:
    return Reached(state.text, state.lineage)
