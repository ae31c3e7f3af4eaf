"""The columns of the objects that a landing is about to publish, and the check that they still fit the stream's.

Columns are reserved when a landing begins to write. Until it ends, another landing may change their types, since it
does not see objects that are not decided. Therefore both look again:

- A landing that has changed a type looks for objects with the former type before it is decided (`check_beside`).
- Every landing of a partition looks at the registry after it is decided, before its objects become visible (`check`).

Each has put what the other looks for before it looks itself, so at least one of them sees the other and fails.
Must not know: S3, how columns are reserved.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from s3dest_dagster.columns.column_conflicts import ColumnConflict, column_conflicts
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.merged_columns import WrittenColumns
from s3dest_dagster.columns.schema_differences import path_text
from s3dest_dagster.columns.stream_columns import StreamColumns, with_paths
from s3dest_dagster.commit.segment import Segment
from s3dest_dagster.commit.written_columns import all_written_columns
from s3dest_dagster.errors import SupersededError
from s3dest_dagster.stream import Scope


@dataclass(frozen=True, slots=True)
class LandedColumns:
    """The columns of a landing's objects."""

    scope: Scope
    """The scope that they land in."""
    records: tuple[Record, ...]
    """Their record types. Empty if their format has no types: then every type fits."""

    @classmethod
    def of(cls, scope: Scope, segment: Segment) -> LandedColumns:
        """The columns of a staged segment's objects."""
        written = all_written_columns(segment) if segment.has_records else ()
        return cls(scope, tuple(each.record for each in written if each.is_typed))

    def check(self, columns: StreamColumns) -> None:
        """Checks that the stream still has these columns, with types to which those of the objects widen.

        Args:
            columns: The stream's columns as the registry has them now.

        Raises:
            SupersededError: Another landing has changed a column in the meantime.
        """
        for conflict in column_conflicts(columns, self.records):
            raise self._superseded(conflict, _found(conflict))

    def check_beside(self, retyped: Collection[int], live: Iterable[WrittenColumns]) -> None:
        """Checks that no object has a type that this landing has changed.

        Args:
            retyped: Ids of the columns whose type this landing has changed.
            live: The columns of the objects that stay together with those of this landing.

        Raises:
            SupersededError: Another landing has published such objects in the meantime.
        """
        changed = (field for record in self.records for _, field in with_paths(record.fields) if field.id in retyped)
        columns = StreamColumns(fields=tuple(changed))
        for conflict in column_conflicts(columns, (each.record for each in live if each.is_typed)):
            if conflict.remembered is not None:
                raise self._superseded(
                    conflict,
                    f"it is {conflict.remembered.words()} in the objects of this sync, and {conflict.written.words()} "
                    "in those of the other",
                )

    def _superseded(self, conflict: ColumnConflict, found: str) -> SupersededError:
        partition = self.scope.partition
        where, left = (
            f"Stream {str(self.scope.stream)!r}",
            "Nothing since its last checkpoint, if it had one, is visible",
        )
        if partition is not None:
            where, left = f"{where}, partition {partition!r}", "Nothing of it is visible"
        return SupersededError(
            f"{where}: while this sync ran, another sync of the stream changed the column of the field "
            f"{path_text(conflict.path)!r}: {found}. Readers would find one column with two types. {left}. Run it "
            "again: it then lands with the columns as they are now.",
            stream=str(self.scope.stream),
            partition=partition,
        )


def _found(conflict: ColumnConflict) -> str:
    written = f"it is {conflict.written.words()} in the objects of this sync"
    if conflict.remembered is None:
        return f"{written}, and the stream's registry, which was made anew, does not have it"
    return f"{written}, and is {conflict.remembered.words()} now"
