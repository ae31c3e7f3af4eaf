"""The reports of a landing: its progress while it runs, and a receipt at the end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.commit.documents import StreamLocation, attempt_of
from s3dest_dagster.commit.head import PublishedSync
from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.commit.object_lists import ObjectLists
from s3dest_dagster.commit.segment import Counts, SchemaChanges, Segment
from s3dest_dagster.commit.written_columns import record_of
from s3dest_dagster.ingest.object_writer import CloseReason
from s3dest_dagster.ingest.partition_summary import PartitionSummary
from s3dest_dagster.ingest.target import resident_bytes
from s3dest_dagster.printable import amount
from s3dest_dagster.stream import Scope, StreamId


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a landing has come."""

    rows: int = 0
    """Records read."""
    objects: int = 0
    """Objects begun."""
    bytes: int = 0
    """Bytes written, compressed."""
    expected_rows: int | None = None
    """The records that the source expects to read. None if it does not say."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The progress of all streams at one moment."""

    streams: Mapping[StreamId, Progress]
    """The progress of each stream."""
    total: Progress
    """The sum over all streams."""
    rows_per_s: float
    """Records read per second."""
    bytes_per_s: float
    """Bytes written per second."""
    memory: int | None
    """Memory of the process in bytes; None if the system does not report it."""
    seconds: float
    """Seconds since the sync began."""


class StreamProgress:
    """Collects the progress of streams that land side by side, and computes their sum and rates when asked.

    Updating costs next to nothing. One thread may update while another samples.

    Args:
        window_s: Rates are those of the last `window_s` seconds.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        memory: Callable[[], int | None] = resident_bytes,
        window_s: float = 5.0,
    ) -> None:
        self._clock = clock
        self._memory = memory
        self._window_s = window_s
        self._progress: dict[StreamId, Progress] = {}
        self._begin = clock()
        self._marks = deque([(self._begin, 0, 0)])

    def update(self, stream: StreamId, progress: Progress) -> None:
        """Notes the newest progress of a stream."""
        self._progress[stream] = progress

    def sample(self, *, whole: bool = False) -> Sample:
        """The progress now. With `whole`, the rates are averages since the beginning."""
        streams = self._progress.copy()
        of_all = streams.values()
        total = Progress(
            rows=sum(progress.rows for progress in of_all),
            objects=sum(progress.objects for progress in of_all),
            bytes=sum(progress.bytes for progress in of_all),
            expected_rows=_expected_rows(of_all),
        )
        now = self._clock()
        while len(self._marks) > 1 and self._marks[1][0] <= now - self._window_s:
            self._marks.popleft()
        then, rows, nbytes = (self._begin, 0, 0) if whole else self._marks[0]
        self._marks.append((now, total.rows, total.bytes))
        seconds = now - then or 1.0
        return Sample(
            streams,
            total,
            rows_per_s=(total.rows - rows) / seconds,
            bytes_per_s=(total.bytes - nbytes) / seconds,
            memory=self._memory(),
            seconds=now - self._begin,
        )


def _expected_rows(streams: Collection[Progress]) -> int | None:
    """The records that are expected of all streams together. None unless each of them is known."""
    known = [progress.expected_rows for progress in streams if progress.expected_rows is not None]
    return sum(known) if known and len(known) == len(streams) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The result of a sync, compiled from its segments, including those of its checkpoints."""

    scope: Scope
    """The scope, with its stream's name as in the source."""
    sync_id: str
    objects: tuple[SegmentObject, ...]
    """The objects that were landed."""
    replaces: bool
    """Whether the scope now holds only this sync's objects."""
    removed: tuple[str, ...]
    """The keys of the objects that this sync replaced."""
    counts: Counts
    """Records read, landed and quarantined, and values that did not fit."""
    schema: str | None
    """The Avro schema of the records. None if there were no records."""
    fingerprint: str | None
    """The SHA-256 of `schema`."""
    json_schema: str | None
    """The stream's JSON schema."""
    schema_changes: SchemaChanges | None
    """How the columns differ from those of the previous sync. None if they do not differ."""
    state: str | None
    """The source's state that the records reach. None if the source provided none."""
    manifest: str
    """The `s3://` address of the last segment, or of the sync's mark if `collected`."""
    format: Mapping[str, str | int | bool | None]
    """The format's settings."""
    columns: Record | None = None
    """The columns with which the last objects were written. None if there were no records, or if it is not recorded."""
    content: str | None = None
    """The checksum of the records (see `ContentChecksum`). None if the sync had checkpoints, or if it was not
    recorded."""
    total_rows: int | None = None
    """The records that the scope held once the sync was published. None if it was not recorded."""
    checkpoints: int = 0
    """The number of times that records were published before the end."""
    earlier: Counts | None = None
    """The part of `counts` that earlier attempts at this sync had published. None if there was none."""
    repeated: bool = False
    """Whether the sync with this id was already complete, so that this is its recorded result."""
    collected: bool = False
    """Whether the segments of a repeated sync have been deleted, so that all counts are 0."""
    swept: int = 0
    """The number of abandoned uploads of the stream that were aborted during the sync."""
    quarantine: tuple[str, ...] = ()
    """The keys of the objects that hold quarantined lines."""
    left_beside: tuple[Scope, ...] = ()
    """At the first sync of a scope: the scopes that stay visible from before the stream became partitioned, or while it
    was."""
    left_elsewhere: tuple[StreamLocation, ...] = ()
    """At the first sync of a scope: the streams to which this one gave what it held."""
    former_names: tuple[StreamLocation, ...] = ()
    """The streams from which this one got what it holds."""
    former_template: str = ""
    """At the first sync under another template: the settings of the one before, as far as they differ. What stays there
    is reported by `former_template_sentence`."""
    expired: tuple[str, ...] = ()
    """The partitions that were retired because they are older than `expire_partitions_after`."""
    discarded: int | None = None
    """The number of records that were read and did not land, because the stream has never landed and its schema
    contract discards new streams. None if it landed. There is then no manifest."""

    @property
    def rows(self) -> int:
        """Rows of all objects."""
        return sum(item.rows for item in self.objects)

    @property
    def bytes(self) -> int:
        """Bytes of all objects."""
        return sum(item.bytes for item in self.objects)

    @property
    def partitions(self) -> PartitionSummary | None:
        """What the directories of the objects tell. None if the stream has no `partition_by`, or no records."""
        return PartitionSummary.of(self.objects)

    @property
    def ended_early(self) -> int:
        """The number of objects and row groups that ended early because memory ran short."""
        return sum((item.close_reason == CloseReason.MEMORY) + item.short_row_groups for item in self.objects)


def left_beside_sentence(scope: Scope, others: Sequence[Scope]) -> str:
    """What stays visible next to a scope, and the cure."""
    stream, count = scope.stream, len(others)
    if scope.partition is None:
        what, option = (
            f"{amount(count, 'partition')} from when it was partitioned, the first is {others[0]}",
            " --scope KEY",
        )
    else:
        what, option = "what it held before it was partitioned", ' --scope ""'
    return (
        f"Stream {stream} still holds {what}: readers of the bucket see it next to {scope}. If nobody needs it, "
        f"run `s3dest retire {stream}{option}`{' for each' if scope.partition is None else ''}."
    )


def left_elsewhere_sentence(scope: Scope, others: Sequence[StreamLocation]) -> str:
    """Where the content of a scope is that begins anew."""
    return f"{scope} begins anew: what it held was given to {', '.join(str(each.stream_id) for each in others)}."


def former_template_sentence(scope: Scope, former: str, *, replaces: bool) -> str:
    """What becomes of the objects under the template that a sync of this scope replaces.

    Args:
        scope: The scope.
        former: The settings of the former template.
        replaces: Whether the sync replaces what the scope holds.
    """
    objects = f"The objects of {scope} under {former}"
    if replaces:
        what = f"{objects} are replaced by this sync"
    else:
        what = f"{objects} stay live next to those of this sync, until a full refresh replaces them"
    others = "" if scope.partition is None else ". Those of other partitions stay live until these land again"
    return f"Stream {scope.stream} lands under another template from now on. {what}{others}."


def receipt_of(
    segments: Sequence[Segment], lists: ObjectLists, scope: Scope, manifest: str, *, repeated: bool, swept: int = 0
) -> Receipt:
    """The receipt of one sync, from its segments, oldest first, and the lists of their objects."""
    last = segments[-1]
    described = next((each for each in reversed(segments) if each.schema.fingerprint is not None), last)
    earlier = [each for each in segments if attempt_of(each.name) != attempt_of(last.name)]
    return Receipt(
        scope=scope,
        sync_id=last.sync_id,
        objects=tuple(item for each in segments for item in lists.objects(each)),
        replaces=last.replaces,
        removed=tuple(lists.replaced_keys(last)),
        counts=_sum(segments),
        schema=described.schema.avro_schema,
        fingerprint=described.schema.fingerprint,
        json_schema=described.schema.json_schema,
        columns=record_of(described.schema.columns) if described.schema.columns is not None else None,
        schema_changes=next((each.schema.changes for each in reversed(segments) if each.schema.changes), None),
        state=next((each.state.text for each in reversed(segments) if each.state is not None), None),
        manifest=manifest,
        format=last.format,
        total_rows=last.total_rows,
        content=last.content_checksum if len(segments) == 1 else None,
        checkpoints=sum(not each.sync.complete for each in segments),
        earlier=_sum(earlier) if earlier else None,
        repeated=repeated,
        swept=swept,
        quarantine=tuple(item.key for each in segments for item in lists.quarantines(each)),
    )


def receipt_of_mark(entry: PublishedSync, scope: Scope, manifest: str) -> Receipt:
    """The receipt of a published sync whose segments have been deleted."""
    return replace(_receipt_of_nothing(scope, entry.id), manifest=manifest, repeated=True, collected=True)


def receipt_of_discarded(scope: Scope, sync_id: str, records: int) -> Receipt:
    """The receipt of a stream whose records did not land, because it is new."""
    return replace(_receipt_of_nothing(scope, sync_id), discarded=records)


def _receipt_of_nothing(scope: Scope, sync_id: str) -> Receipt:
    """The receipt of a sync of which no segment is known."""
    return Receipt(
        scope=scope,
        sync_id=sync_id,
        objects=(),
        replaces=False,
        removed=(),
        counts=Counts(),
        schema=None,
        fingerprint=None,
        json_schema=None,
        schema_changes=None,
        state=None,
        manifest="",
        format={},
    )


def _sum(segments: Iterable[Segment]) -> Counts:
    return sum((each.counts for each in segments), Counts())
