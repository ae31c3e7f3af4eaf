"""The verbs that need a bucket: `check` answers with a status; `write` lands the messages of standard input, and hands
back every state whose records are published.

Must not know: the arguments.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from s3dest_dagster.airbyte.messages import Messages
from s3dest_dagster.airbyte.pending_states import PendingStates
from s3dest_dagster.batch import State
from s3dest_dagster.cli.check import check_steps
from s3dest_dagster.cli.output import Output, Session, full_text
from s3dest_dagster.cli.streams_to_land import StreamsToLand
from s3dest_dagster.cli.targets import CatalogStreams, new_sync, opened_target, read_config, read_streams
from s3dest_dagster.cli.write import (
    CheckpointLines,
    former_locations,
    publish_and_report,
    published_so_far,
)
from s3dest_dagster.commit.documents import StreamLocation
from s3dest_dagster.errors import S3DestError, SettingsError
from s3dest_dagster.ingest.streams import StreamLandings, landing_streams
from s3dest_dagster.ingest.target import Target
from s3dest_dagster.settings.connector_config import read_json_object
from s3dest_dagster.sources.airbyte.config import CurrentConfig
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.stream import Stream, StreamId

_STDIN = 0
MAX_STREAMS = 10_000
"""The most streams of a catalog. Each costs memory and requests before the first record is read."""
_ADVICE = "Run it again: the source continues after the last state that was handed back."


def check(output: Output, messages: Messages, config_path: str) -> None:
    """Tries to find an identity and to send every request of a sync, as `s3dest check` does.

    Args:
        output: Receives messages for people, and the secrets of the configuration.
        messages: Receives one CONNECTION_STATUS. A wrong configuration is a FAILED one, too.
        config_path: The destination's configuration.
    """
    try:
        landing = StreamsToLand.of_config(read_config(config_path, output), CatalogStreams())
        _, steps = check_steps(landing.with_few_attempts(), again=False)
    except S3DestError as error:
        messages.connection_status(full_text(error))
        return
    messages.connection_status(" ".join(f"{step.name}: {step.message}" for step in steps if not step.ok))


# ---------------------------------------------------------------------- write


def write(session: Session, messages: Messages, config_path: str, catalog_path: str) -> None:
    """Lands standard input. Every call is a sync of its own, whatever ids the catalog has.

    A state is handed back as soon as all records that it covers are published.

    Args:
        session: What reads signals and prints messages for people.
        messages: Receives the states, and the streams' statuses.
        config_path: The destination's configuration.
        catalog_path: The configured catalog.

    Raises:
        S3DestError: The sync failed. A note says what was published before.
    """
    config = read_config(config_path, session.output)
    _check_size(catalog_path)
    selected = read_streams(config, catalog_path, None)
    messages.name_streams(each.id for each in selected.streams)
    for sentence in (*selected.unknown, *selected.warnings):
        session.output.say(sentence)
    checkpoints = CheckpointLines(session.output, _ADVICE)
    with (
        PendingStates(selected.streams[0].id) as pending,
        opened_target(config, None) as target,
        landing_streams(
            target, selected.streams, new_sync(None, None), allow_empty=False, on_checkpoint=checkpoints
        ) as landings,
    ):
        former = former_locations(target, selected.streams, landings.new)
        try:
            _land_messages(landings, selected.streams, session, messages, pending)
        except BaseException as error:
            error.add_note(checkpoints.summary())
            raise
        _publish(landings, session, messages, pending, target, former)


def _check_size(catalog_path: str) -> None:
    """Refuses a catalog with very many streams before anything is made of them."""
    streams = read_json_object(catalog_path, "catalog").get("streams")
    if isinstance(streams, list) and len(streams) > MAX_STREAMS:
        raise SettingsError(
            f"The catalog has {len(streams):,} streams, and a sync takes at most {MAX_STREAMS:,}. Give each of several "
            "connections some of them.",
            setting="catalog",
        )


def _land_messages(
    landings: StreamLandings, streams: Sequence[Stream], session: Session, messages: Messages, pending: PendingStates
) -> None:
    """Lands the input to its end, and hands back the states that checkpoints publish."""
    source = CurrentConfig({})

    def log(level: str, message: str) -> None:
        session.output.log(level, source.mask(message))

    hides_text = any(stream.selection for stream in streams)
    for item in read_messages(
        _STDIN, [stream.id for stream in streams], log=log, config=source, hides_text=hides_text, **session.limits
    ):
        pending.receive(item)
        with session.interruption.deferred():
            if landings.append(item) is not None and isinstance(item, State):
                for message in pending.pop({item.stream}):
                    messages.state(message)
    messages.end_input()
    landings.stage()


def _publish(
    landings: StreamLandings,
    session: Session,
    messages: Messages,
    pending: PendingStates,
    target: Target,
    former: Mapping[StreamId, tuple[StreamLocation, ...]],
) -> None:
    """Publishes the streams, and hands back the states of those that are published, even if a later one fails."""
    try:
        publish_and_report(landings, session, target, former)
    except BaseException as error:
        error.add_note(published_so_far(landings.published, landings.unpublished, _ADVICE))
        raise
    finally:
        of_all: set[StreamId | None] = set() if landings.unpublished else {None}
        for message in pending.pop(of_all | landings.landed):
            messages.state(message)
        for scope in landings.published:
            messages.stream_status(scope.stream, complete=True)
        for stream in landings.unpublished:
            messages.stream_status(stream, complete=False)
