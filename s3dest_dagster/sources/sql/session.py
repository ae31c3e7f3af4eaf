"""What all drivers have in common: a session of one database, its errors, and the columns of a query.

Must not know: which rows are read, streams.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Protocol, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_extensions import by_meaning
from s3dest_dagster.columns.arrow_types import is_any_list, unpacked
from s3dest_dagster.errors import MissingExtraError, RecordError, S3DestError, SettingsError, SourceError
from s3dest_dagster.sources.sql.address import DatabaseAddress

Chunk: TypeAlias = pa.RecordBatch | list[dict[str, Any]]
"""Rows that were read together: columns, or the records of a database without column types."""
Chunks: TypeAlias = Generator[Chunk, None, None]
"""Rows as they are read. Closing it ends the statement."""


@dataclass(frozen=True, slots=True)
class QueryColumns:
    """The columns of a query, known without reading a row of it."""

    schema: pa.Schema
    """Names and types, as they are landed. A database without column types has null for what it does not say."""
    texts: frozenset[str] = frozenset()
    """The columns that the database writes as text, since the driver would change their values."""
    select_list: str = "*"
    """What a statement selects, with the casts in it."""

    def field(self, name: str, setting: str) -> pa.Field:
        """The column of a setting. Raises SettingsError if the query lacks it, or has it as another type."""
        if name not in self.schema.names:
            raise SettingsError(
                f"{setting} is {name!r}, and the query has no such column. It has {', '.join(self.schema.names)}.",
                setting=setting,
            )
        if name in self.texts:
            raise SettingsError(
                f"{setting} is {name!r}, whose type the driver cannot order by exactly. Cast it in the query to an "
                "integer, a numeric with precision, a date, a timestamp or a text.",
                setting=setting,
            )
        return self.schema.field(name)


class Session(Protocol):
    """An open connection that sees one snapshot of the database, if the database has snapshots."""

    has_escapes: ClassVar[bool]
    """Whether a backslash has a meaning within quoted texts."""
    quote_mark: ClassVar[str]
    """What quotes names."""
    binary_collation: ClassVar[str | None]
    """What is written after a text so that it is ordered by its bytes. None: there is no such thing for every text."""

    def columns(self, query: str) -> QueryColumns:
        """The columns of a query, of which no row is read. Raises SettingsError for a type that cannot be read."""

    def chunks(self, statement: str, columns: QueryColumns) -> Chunks:
        """Yields the rows of a statement, a few MB at a time. Raises SourceError for a value that would be lost."""

    def row(self, statement: str) -> tuple[Any, ...] | None:
        """The first row of a statement; None if it has no rows."""


def open_session(address: DatabaseAddress) -> AbstractContextManager[Session]:
    """Connects to a database, and disconnects when the `with` ends.

    Raises MissingExtraError if the driver is not installed, and SourceError if the database cannot be reached.
    """
    module = {"adbc": "postgresql"}.get(address.engine, address.engine)
    opened: AbstractContextManager[Session] = import_module(f"s3dest_dagster.sources.sql.{module}").connected(address)
    return opened


def imported_driver(module: str, extra: str, address: DatabaseAddress) -> Any:
    """A driver's library. Raises MissingExtraError, which names the extra, if it is not installed."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(
            f"A {address.scheme} database is read with {module.partition('.')[0]}, which is not installed. Install "
            f"s3dest-dagster[{extra}].",
            setting="uri",
        ) from None


@contextmanager
def driver_errors(address: DatabaseAddress, doing: str) -> Iterator[None]:
    """Turns the errors of a driver into SourceErrors without secrets.

    The driver's error is not shown as a cause, since its own text may hold the URI.
    """
    message: str | None = None
    try:
        yield
    except (S3DestError, GeneratorExit, KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except Exception as error:
        message = f"{error}" or type(error).__name__
    except BaseException as error:
        # A panic of ConnectorX is no Exception. Everything else, such as an interruption of Dagster, passes.
        if type(error).__name__ != "PanicException":
            raise
        message = str(error)
    if message is not None:
        reason = address.mask(message.partition("\n\nQuery was:")[0].strip())
        raise SourceError(f"The database {address} failed while {doing}: {reason}") from None


@contextmanager
def transaction(address: DatabaseAddress, connect: Callable[[], Any], begin: Callable[[Any], object]) -> Iterator[Any]:
    """A connection in which a transaction has begun, until the `with` ends. Raises SourceError without secrets.

    Args:
        connect: Returns the connection.
        begin: Begins the transaction of a connection.
    """
    with driver_errors(address, "connecting"):
        connection = connect()
    with closing(connection):
        with driver_errors(address, "beginning a transaction"):
            begin(connection)
        yield connection


def read_batches(reader: pa.RecordBatchReader, address: DatabaseAddress) -> Generator[pa.RecordBatch, None, None]:
    """Yields the batches of a driver's reader, and closes it at the end. Raises SourceError without secrets."""
    with closing(reader):
        while True:
            with driver_errors(address, "reading rows"):
                batch = next(reader, None)
            if batch is None:
                return
            yield batch


# ---------------------------------------------------------------------- values that a driver cannot hold


def refuse_infinite_moments(batch: pa.RecordBatch, is_lost: Callable[[str, int], bool]) -> None:
    """Raises SourceError for an infinite date or timestamp, which Arrow would show as some day far away.

    Args:
        is_lost: Says of "date" or "timestamp", and of an integer that the driver has for one, whether it stands for
            infinity. It is asked about the smallest and the largest only.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for values in _moments(column):
            kind = "date" if pt.is_date32(values.type) else "timestamp"
            integers = values.cast(pa.int32() if kind == "date" else pa.int64())
            extremes = pc.min_max(integers).as_py().values()
            if any(each is not None and is_lost(kind, each) for each in extremes):
                raise SourceError(
                    f"Column {name!r} holds an infinite {kind}, or one that the driver cannot hold. Read it as text, "
                    f"or as null, in the query: cast({name} as varchar), or nullif({name}, 'infinity')."
                )


def _moments(column: pa.Array) -> Iterator[pa.Array]:
    """Yields the dates and timestamps of a column, at every level."""
    column = unpacked(column) if pt.is_dictionary(column.type) else column
    if pt.is_date32(column.type) or pt.is_timestamp(column.type):
        if len(column):
            yield column
    elif is_any_list(column.type) or pt.is_map(column.type):
        yield from _moments(column.values)
    elif pt.is_struct(column.type):
        for child in column.flatten():
            yield from _moments(child)


def refuse_repeated_columns(names: Sequence[str]) -> None:
    """Raises SettingsError if a query has two columns of one name."""
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise SettingsError(
            f"The query has two columns {repeated!r}, and a record has each field once. Name one of them otherwise, "
            "with `as`.",
            setting="query",
        )


def refuse_unknown_types(schema: pa.Schema) -> None:
    """Raises SettingsError for a type whose meaning is not known, such as one within a composite type."""
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)
    try:
        by_meaning(empty)
    except RecordError as error:
        raise SettingsError(f"{error.message} A cast in the query does so.", setting="query") from None
