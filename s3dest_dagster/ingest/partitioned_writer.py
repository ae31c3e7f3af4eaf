"""Writes a segment's records into objects by their directories: one value of each field for each object.

Batches arrive in groups. Several of them are cut together, and the pieces of each directory are held until there is
enough of them to write. So a directory that gets few records has no open object, and values that come in turns do not
make an object of every few records. Must not know: how values are found in records, or when a segment ends.
"""

from __future__ import annotations

from collections.abc import Sequence

from s3dest_dagster.commit.landed_objects import SegmentObject
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import Encoded, Encoder
from s3dest_dagster.ingest.object_writer import Directories, RollingObjectWriter, SegmentWriting
from s3dest_dagster.keys.directories import directories_text
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.partition_fields import FieldValues, PartitionRule
from s3dest_dagster.stream import Scope, Stream

MOST_DIRECTORIES = 50_000
"""The most directories of a sync. Each is an object at least, which the manifest lists."""
_HELD_BACK = 512 << 10
"""Bytes of a directory's records that are written together."""
_CUT_TOGETHER = 16 << 20
"""Bytes of batches that are cut together. Cutting costs by the piece."""
_PIECE_BYTES = 64 << 10
"""The size of a piece below which it pays to cut more batches together."""
_SHARE_TOGETHER = 8
"""The batches that are cut together use at most this part of the memory for open objects, and as much for cutting."""
_DIRECTORY_BYTES = 800
"""The memory of a directory besides its records."""
_OBJECT_BYTES = 1_600
"""The memory of an object until it is published: its key, its upload and its entry in the manifest."""
_EXAMPLES = 5


class DirectoryCount:
    """Counts the directories of a sync, and refuses records of a field that has too many values.

    Args:
        rule: The stream's rule.
        scope: The scope, for errors.
    """

    def __init__(self, destination: S3Destination, rule: PartitionRule, scope: Scope) -> None:
        self.rule = rule
        self._destination = destination
        self._scope = scope
        self._known: set[FieldValues] = set()
        self._values: list[dict[str, None]] = [{} for _ in rule]

    def add(self, groups: Sequence[FieldValues]) -> None:
        """Counts the directories of these values.

        Raises:
            RecordError: A field has more values than `max_partition_values`, or there are too many directories; or a
                value is null, and `on_null` is "fail".
        """
        for values in groups:
            if values in self._known:
                continue
            if None in values and self._destination.on_null == "fail":
                raise self._null(values)
            self._known.add(values)
            for known, value in zip(self._values, values, strict=True):
                if value is not None:
                    known[value] = None
        self._check_counts()

    def _check_counts(self) -> None:
        most = self._destination.max_partition_values
        for field, known in zip(self.rule, self._values, strict=True):
            if len(known) > most:
                shown = ", ".join(map(repr, list(known)[:_EXAMPLES]))
                raise self._error(
                    f"{field} of partition_by has {len(known):,} values so far, such as {shown}, and "
                    f"max_partition_values is {most:,}, since every value costs an object. Take a field with fewer "
                    "values, or a longer time such as the month, or raise max_partition_values",
                    "max_partition_values",
                )
        if len(self._known) > MOST_DIRECTORIES:
            counts = ", ".join(f"{field} {len(known):,}" for field, known in zip(self.rule, self._values, strict=True))
            shown = ", ".join(directories_text(self.rule, each) for each in list(self._known)[:_EXAMPLES])
            raise self._error(
                f"partition_by makes {len(self._known):,} directories so far, such as {shown}, more than the "
                f"{MOST_DIRECTORIES:,} of one sync (values: {counts}). Take fewer fields, or fields with fewer values",
                "partition_by",
            )

    def _null(self, values: FieldValues) -> RecordError:
        field = self.rule[values.index(None)]
        return self._error(
            f"a record has no value of {field} that can be a directory: it is null, missing, empty or longer than 200 "
            "bytes, or does not fit the field's type. The record's directories would be "
            f"{directories_text(self.rule, values)}. Correct the source, or set on_null to 'default'",
            "on_null",
        )

    def _error(self, problem: str, setting: str) -> RecordError:
        return RecordError(
            f"{self._scope}: {problem}. Nothing of these records was published.",
            stream=str(self._scope.stream),
            partition=self._scope.partition,
            setting=setting,
        )


def directory_count(destination: S3Destination, stream: Stream, scope: Scope) -> DirectoryCount | None:
    """Counts the directories of a stream. None if it has no `partition_by`."""
    rule = stream.settings.partition_by
    return DirectoryCount(destination, rule, scope) if rule else None


def new_object_writer(
    writing: SegmentWriting, count: DirectoryCount | None
) -> RollingObjectWriter | PartitionedObjectWriter:
    """The writer of a segment's objects."""
    return RollingObjectWriter(writing) if count is None else PartitionedObjectWriter(writing, count)


class PartitionedObjectWriter:
    """Writes encoded groups of records, each into an object of its directories. Use it from one thread only.

    The records of each directory count towards the target's memory budget separately: when it is used up, the
    directory that holds the most is written, and its object closed.
    """

    def __init__(self, writing: SegmentWriting, count: DirectoryCount) -> None:
        self._writing = writing
        self._target = writing.target
        self._count = count
        self._writers: dict[FieldValues, RollingObjectWriter] = {}
        self._together: list[Encoded] = []
        self._together_bytes = 0
        self._encoder: Encoder | None = None
        self._most_together = self._target.destination.open_bytes // _SHARE_TOGETHER

    @property
    def bytes(self) -> int:
        """Bytes written so far, of all objects."""
        return self._writing.bytes

    @property
    def objects(self) -> int:
        """Objects begun so far."""
        return self._writing.objects

    @property
    def encoders(self) -> dict[Encoder, list[str]]:
        """The keys of the closed objects of each encoder."""
        return self._writing.encoders

    def append(self, encoded: Encoded, encoder: Encoder) -> None:
        """Writes a batch in groups. Also raises the error of an earlier `spill`."""
        assert encoded.groups is not None, "the encoder of a stream with directories encodes groups"
        self._count.add(encoded.groups.values)
        if self._encoder is not encoder:
            self._write_pieces()
            self._encoder = encoder
        is_whole = len(encoded.groups.values) == 1 and encoded.nbytes >= _PIECE_BYTES
        if is_whole:
            # There is nothing to cut: input in the order of its values costs no copy.
            self._write_pieces()
        self._together.append(encoded)
        self._together_bytes += encoded.nbytes
        enough = min(max(_CUT_TOGETHER, _PIECE_BYTES * len(self._writers)), self._most_together)
        # The batches, and what is cut of them before they are dropped.
        self._reserve(2 * max(self._together_bytes, enough))
        if is_whole or self._together_bytes >= enough:
            self._write_pieces()

    def finish(self) -> tuple[SegmentObject, ...]:
        """Closes all objects, and waits until every part of every object is uploaded."""
        self._write_pieces(is_last=True)
        self._reserve(0)
        for writer in self._writers.values():
            writer.close()
        self._target.memory.reserve(self, 0)
        return tuple(each for writer in self._writers.values() for each in writer.finish())

    def abort(self) -> None:
        """Aborts the uploads of all objects. Raises the first error after all have been tried."""
        self._together = []
        self._target.memory.reserve(self, 0)
        self._target.parts.abort([upload for writer in self._writers.values() for upload in writer.abandon()])

    def _reserve(self, nbytes: int) -> None:
        """Reserves memory for batches, and for the directories and objects so far."""
        known = _DIRECTORY_BYTES * len(self._writers) + _OBJECT_BYTES * self._writing.objects
        self._target.memory.reserve(self, nbytes + known)

    def _write_pieces(self, *, is_last: bool = False) -> None:
        """Cuts the batches that were collected, and passes the pieces on to the writers of their directories.

        The last pieces are not held: the objects of their directories are closed one after another.
        """
        together, self._together, self._together_bytes = self._together, [], 0
        if not together:
            return
        assert self._encoder is not None, "batches have their encoder"
        for values, piece in self._encoder.pieces(together):
            writer = self._writer(values)
            writer.append(piece, self._encoder)
            if is_last:
                writer.close()

    def _writer(self, values: FieldValues) -> RollingObjectWriter:
        writer = self._writers.get(values)
        if writer is None:
            by_name = {field.name: value for field, value in zip(self._count.rule, values, strict=True)}
            writer = RollingObjectWriter(self._writing, directories=Directories(values, by_name), held_back=_HELD_BACK)
            self._writers[values] = writer
        return writer
