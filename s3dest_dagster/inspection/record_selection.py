"""Which records of a stream a reader wants: the columns, the conditions, the partitions and the time.

Must not know: how records are read, who asks for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from s3dest_dagster.errors import SettingsError, did_you_mean
from s3dest_dagster.inspection.partition_filter import PartitionFilter

COLUMNS_KEY = "columns"
FILTER_KEY = "filter"
WHERE_KEY = "where"
PARTITIONS_KEY = "partitions"
AS_OF_KEY = "as_of"


@dataclass(frozen=True, slots=True)
class RecordSelection:
    """The records that are read. By default all of them."""

    columns: Sequence[str] | None = None
    """The columns to read. None: all columns."""
    filter: Any = None
    """Conditions on the columns of a record (see `RowFilter`). None: no condition."""
    where: PartitionFilter = field(default_factory=PartitionFilter)
    """The values of the directories of the objects to read."""
    partitions: Sequence[str] | None = None
    """Keys of partitions. None: all of them."""
    as_of: datetime | None = None
    """Only syncs that began by this time are read. None: all of them."""
    allow_missing: bool = False
    """Whether to leave out partitions that never landed. Otherwise they are an error."""

    @classmethod
    def of(
        cls,
        *,
        columns: Any = None,
        filter: Any = None,
        where: Any = None,
        partitions: Any = None,
        as_of: Any = None,
        allow_missing: Any = False,
    ) -> RecordSelection:
        """The selection that these values describe, as a user writes them.

        Raises:
            SettingsError: One of them cannot be understood.
        """
        return cls(
            columns=_texts(columns, COLUMNS_KEY, "the names of columns, as ['id']"),
            filter=filter,
            where=PartitionFilter.of(where),
            partitions=_texts(partitions, PARTITIONS_KEY, "the keys of partitions, as ['2026-01-05']"),
            as_of=_time(as_of),
            allow_missing=bool(allow_missing),
        )

    def schema_of(self, schema: pa.Schema, stream: str) -> pa.Schema:
        """The selected columns of these.

        Args:
            schema: The columns that there are.
            stream: The stream, for errors.

        Raises:
            SettingsError: There is no column of a name.
        """
        if self.columns is None:
            return schema
        unknown = [name for name in self.columns if name not in schema.names]
        if unknown:
            raise SettingsError(
                f"{stream} has no column {unknown[0]!r}, which {COLUMNS_KEY} asks for. "
                f"{did_you_mean(unknown[0], schema.names)}",
                stream=stream,
                setting=COLUMNS_KEY,
            )
        return pa.schema([schema.field(name) for name in self.columns])


def _texts(given: Any, setting: str, wanted: str) -> Sequence[str] | None:
    if given is None:
        return None
    if isinstance(given, str):
        return (given,)
    if not isinstance(given, list | tuple | set | frozenset) or not all(isinstance(each, str) for each in given):
        raise SettingsError(f"{setting} is {given!r}. Give {wanted}.", setting=setting)
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
