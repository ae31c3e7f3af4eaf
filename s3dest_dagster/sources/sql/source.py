"""`SqlSource`: the rows of a query or a table, for a stream, one of its partitions, or a shard of them.

How a row travels: `SqlSource.read` opens a session (`session.open_session`), asks for the columns of the query, and
reads the statement that `_Reading` composes. `cursor.between_values` finds where a state may be. Must not know: what
becomes of the rows, Dagster.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, ClassVar

import pyarrow.types as pt

from s3dest_dagster.batch import BadRecord, Batch, State
from s3dest_dagster.columns.arrow_types import is_any_string
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.fields import is_variable, refuse_variables
from s3dest_dagster.sources import DeferredRead, LookUp, OverSlices, RequestedStream, Slice
from s3dest_dagster.sources.python import batches_and_bad_records
from s3dest_dagster.sources.sql.address import DatabaseAddress, Engine, parse_address
from s3dest_dagster.sources.sql.cursor import (
    between_values,
    check_cursor_type,
    null_cursor,
    state_of,
    value_of_state,
)
from s3dest_dagster.sources.sql.key_ranges import parse_range, split_keys
from s3dest_dagster.sources.sql.session import Chunks, QueryColumns, Session, open_session
from s3dest_dagster.sources.sql.statements import (
    ALIAS,
    check_table,
    literal_of,
    query_of_table,
    quoted_name,
    render_query,
    select,
)
from s3dest_dagster.sources.templating import (
    PARTITION_VALUES,
    STREAM_VALUES,
    Values,
    placeholder_names,
    stream_values,
)
from s3dest_dagster.stream import Stream, StreamId, SyncMode

EmittedAt = Callable[[], int]
"""Returns milliseconds since 1970."""


def _now() -> int:
    return int(time.time() * 1000)


@dataclass(frozen=True, slots=True)
class SqlSource:
    """The rows of a query or a table of PostgreSQL, DuckDB, SQLite, MySQL or MariaDB.

        SqlSource(dg.EnvVar("SHOP_DATABASE"), table="shop.orders", cursor="updated_at")

    Rows come as they are read, a few MB at a time, and the whole result is never in memory. Every value lands as the
    database has it, or the read fails with the name of its column. A read sees one snapshot of the database, except on
    MySQL, where each statement sees its own. No secret of the URI appears in logs or errors.
    """

    uri: str | Callable[[], str] = field(repr=False)
    """The database, as `postgresql://user:password@host/database`, `duckdb:///shop.duckdb`, `sqlite:///shop.db` or
    `mysql://…`; a variable (`dg.EnvVar`) that has it; or a function that each read calls. Three slashes before a
    relative path, four before an absolute one."""
    _: KW_ONLY
    query: str | None = None
    """A query of the rows. It may name the partition, as `{{ partition_key }}` (see `templating.partition_values`). A
    placeholder becomes a quoted text, never SQL."""
    table: str | None = None
    """A table of which all rows and columns are read, instead of a query. It may name the stream, as
    `{{ stream_name }}`."""
    cursor: str | None = None
    """The column by which an append without partitions continues: each read takes the rows with larger values than the
    largest one that was published."""
    shard_by: str | None = None
    """The column of integers whose ranges are the shards of a sync."""
    shards: int = 1
    """The number of shards."""
    engine: Engine = "auto"
    """The driver: `adbc` for PostgreSQL, `connectorx` for MySQL and MariaDB, `duckdb` or `sqlite`. `auto` takes the one
    for the URI."""

    run_placeholders: ClassVar[Mapping[str, Sequence[str]]] = {
        "query": (*PARTITION_VALUES, *STREAM_VALUES),
        "table": STREAM_VALUES,
    }
    asset_kinds: ClassVar[frozenset[str]] = frozenset({"sql"})

    def __post_init__(self) -> None:
        for setting in ("query", "table", "cursor", "shard_by", "shards", "engine"):
            refuse_variables(setting, getattr(self, setting))
        if (self.query is None) == (self.table is None):
            raise SettingsError("A SQL source has either a query or a table. Give one of them.", setting="query")
        if self.table is not None:
            check_table(self.table)
        if type(self.shards) is not int or self.shards < 1:
            raise SettingsError(f"shards is {self.shards!r}; it is a whole number from 1 on.", setting="shards")
        if (self.shards > 1) != (self.shard_by is not None):
            raise SettingsError("Shards need both the column shard_by and shards above 1. Give both.", setting="shards")
        if self.shards > 1 and self.cursor is not None:
            raise SettingsError(
                "A sync of several shards has no state, so that a cursor cannot continue. Remove cursor, or shard_by "
                "and shards.",
                setting="cursor",
            )
        if isinstance(self.uri, str) and not is_variable(self.uri):
            parse_address(self.uri, self.engine)

    # ------------------------------------------------------------------ reading

    def read(
        self, values: Values | None = None, *, shard: str | None = None, emitted_at: EmittedAt = _now
    ) -> Iterator[Batch | BadRecord]:
        """Yields all rows, a few MB at a time. The connection is closed at the end, or when the iterator is closed.

        Args:
            values: The values of the placeholders.
            shard: One of `shard_names`, whose rows alone are read.
            emitted_at: Returns the time at which a batch was read.

        Raises:
            SettingsError: The query lacks a column or a placeholder's value, or has a type that cannot be read.
            SourceError: The database failed, or a value cannot be read without loss.
            MissingExtraError: The driver is not installed.
        """
        with open_session(self._address()) as session:
            reading = self._reading(session, values)
            conditions = []
            if shard is not None:
                conditions.append(parse_range(shard).condition(reading.name(self._shard_key(reading.columns))))
            with closing(reading.chunks(where=[each for each in conditions if each is not None])) as chunks:
                for chunk in chunks:
                    yield from batches_and_bad_records(chunk, emitted_at=emitted_at)

    def incremental(self, name: str, namespace: str | None = None, *, emitted_at: EmittedAt = _now) -> DeferredRead:
        """The read of an append, which continues after the last value of `cursor` that its stream has published.

        Return it from the function of a `stream_asset` with `sync_mode="append"`. Its name and namespace are the
        stream's, and the state has them.

        Raises SettingsError if the source has no cursor.
        """
        if self.cursor is None:
            raise SettingsError("An incremental read needs a cursor. Give the source one.", setting="cursor")
        stream, values = StreamId(namespace or None, name), {"stream_name": name, "stream_namespace": namespace or ""}

        def open_from(state: bytes | None) -> AbstractContextManager[Iterator[Batch | BadRecord | State]]:
            return closing(self._read_after(state, stream, values, emitted_at))

        # The type of the items is that of all sources together, and a landing receives batches, too.
        return DeferredRead(open_from, is_incremental=True)  # type: ignore[arg-type]

    def json_schema(self, values: Values | None = None) -> dict[str, Any]:
        """The JSON schema of a row, without reading one. Raises as `read`."""
        with open_session(self._address()) as session:
            schema = self._reading(session, values).columns.schema
        properties = json_schema_of_arrow(schema)["properties"]
        unknown = {each.name for each in schema if pt.is_null(each.type)}
        return {"type": "object", "properties": {n: {} if n in unknown else each for n, each in properties.items()}}

    def shard_names(self, values: Values | None = None) -> list[str]:
        """The shards of a sync: ranges of `shard_by`, from the smallest to the largest key that is there now.

        The first and the last range are open. So every row is in one of them, also one that is inserted later or that
        has no key. Raises as `read`.
        """
        with open_session(self._address()) as session:
            reading = self._reading(session, values)
            name = reading.name(self._shard_key(reading.columns))
            found = session.row(select(reading.query, f"min({name}), max({name})"))
        lowest, highest = found if found is not None else (None, None)
        ranges = split_keys(_as_int(lowest, self.shard_by), _as_int(highest, self.shard_by), self.shards)
        return [each.name for each in ranges]

    def _read_after(
        self, state: bytes | None, stream: StreamId, values: Values, emitted_at: EmittedAt
    ) -> Generator[Batch | BadRecord | State, None, None]:
        """Yields the rows after a state, in the order of the cursor, and the states that they reach."""
        cursor = self.cursor or ""
        after = None if state is None else value_of_state(state, cursor)
        with open_session(self._address()) as session:
            reading = self._reading(session, values)
            name = reading.cursor_name(cursor)
            if session.row(select(reading.query, "1", where=[f"{reading.name(cursor)} is null"])) is not None:
                raise null_cursor(cursor)
            literal = "" if after is None else literal_of(after, has_escapes=session.has_escapes)
            where = [] if after is None else [f"{name} > {literal}"]
            with closing(reading.chunks(where=where, order_by=name)) as chunks:
                for chunk, reached in between_values(chunks, cursor):
                    yield from batches_and_bad_records(chunk, emitted_at=emitted_at)
                    if reached is not None:
                        yield state_of(stream, cursor, reached)

    def _reading(self, session: Session, values: Values | None) -> _Reading:
        if self.table is not None:
            query = query_of_table(self.table, values, mark=session.quote_mark)
        else:
            query = render_query(self.query or "", values, has_escapes=session.has_escapes)
        return _Reading(session, query, session.columns(query))

    def _shard_key(self, columns: QueryColumns) -> str:
        """The column of the shards. Raises SettingsError if it has no integers."""
        if self.shard_by is None:
            raise SettingsError("The source has no shards. Give it shard_by and shards.", setting="shard_by")
        type_ = columns.field(self.shard_by, "shard_by").type
        whole_decimal = pt.is_decimal(type_) and type_.scale == 0
        if not (pt.is_integer(type_) or pt.is_null(type_) or whole_decimal):
            raise SettingsError(
                f"shard_by is {self.shard_by!r}, a column of the type {type_}. Shards are ranges of integers.",
                setting="shard_by",
            )
        return self.shard_by

    def _address(self) -> DatabaseAddress:
        uri = self.uri() if callable(self.uri) else self.uri
        if is_variable(uri):
            uri = _value_of_variable(uri)
        return parse_address(str(uri), self.engine)

    # ------------------------------------------------------------------ the methods of every `Source`

    @property
    def separates_streams(self) -> bool:
        """Whether the query or the table names the stream."""
        return "stream_name" in placeholder_names(self.query or self.table or "")

    def stream_names(self) -> Sequence[str]:
        """The table's name. Raises SettingsError for a query, which has none."""
        if self.table is None or placeholder_names(self.table):
            raise SettingsError("A query does not say which stream it is: name it in streams.", setting="streams")
        return [self.table.rpartition(".")[2].strip('"`')]

    def describe_stream(self, requested: RequestedStream) -> Stream:
        """The stream that is asked for. Its columns are known when it is read.

        Raises SettingsError for a stream that has a cursor and is not appended.
        """
        stream = requested.stream()
        if self.cursor is None:
            return stream
        if stream.sync_mode is not SyncMode.APPEND:
            raise SettingsError(
                f"Stream {str(stream.id)!r} is a full refresh, which reads all rows, so that the cursor "
                f"{self.cursor!r} has no effect. Append the stream (sync_mode), or remove cursor.",
                stream=str(stream.id),
                setting="cursor",
            )
        return replace(stream, cursor_field=(self.cursor,))

    def asset_function(self, stream: Stream, over_slices: OverSlices) -> Callable[..., Any]:
        """A function that reads the rows of each slice."""
        return over_slices(lambda part: self._read_slice(stream, part))

    def as_multi_stream(self) -> None:
        """None: one read returns the rows of one stream."""

    def with_variables(self, look_up: LookUp) -> SqlSource:
        """This source with a variable in its URI looked up."""
        return self if callable(self.uri) else replace(self, uri=str(look_up(self.uri, "uri")))

    # ------------------------------------------------------------------ the methods of a `ShardedSource`

    def shards_of(self, stream: Stream, part: Slice) -> Sequence[str]:
        """The ranges of `shard_by` at this moment."""
        return self.with_variables(part.look_up).shard_names(_values(stream, part))

    def schema_of(self, stream: Stream, part: Slice) -> Mapping[str, Any]:
        """The schema of the query."""
        return self.with_variables(part.look_up).json_schema(_values(stream, part))

    def read_shard(self, stream: Stream, part: Slice, shard: str) -> Iterator[Batch | BadRecord]:
        """The rows of one range."""
        return self.with_variables(part.look_up).read(_values(stream, part), shard=shard)

    def _read_slice(self, stream: Stream, part: Slice) -> Any:
        source = self.with_variables(part.look_up)
        if self.cursor is None:
            return source.read(_values(stream, part))
        if part.values is not None:
            raise SettingsError(
                f"Stream {str(stream.id)!r} has partitions, each of which is read as a whole, so that the cursor "
                f"{self.cursor!r} has no effect. Remove cursor, or the partitions.",
                stream=str(stream.id),
                setting="cursor",
            )
        return source.incremental(stream.name, stream.namespace)


@dataclass(frozen=True, slots=True)
class _Reading:
    """A query that is about to be read."""

    session: Session
    query: str
    columns: QueryColumns

    def name(self, column: str) -> str:
        """The column as a statement names it."""
        return f"{ALIAS}.{quoted_name(column, mark=self.session.quote_mark)}"

    def cursor_name(self, cursor: str) -> str:
        """The cursor as a statement orders by it. Raises SettingsError if it has no exact order."""
        found = self.columns.field(cursor, "cursor")
        check_cursor_type(found)
        if not (is_any_string(found.type) or pt.is_null(found.type)):
            return self.name(cursor)
        if self.session.binary_collation is None:
            raise SettingsError(
                f"cursor is {cursor!r}, a text, whose order depends on its collation in this database. Choose an "
                "integer, a date or a timestamp.",
                setting="cursor",
            )
        return self.name(cursor) + self.session.binary_collation

    def chunks(self, *, where: Sequence[str] = (), order_by: str | None = None) -> Chunks:
        """Yields the rows."""
        statement = select(self.query, self.columns.select_list, where=where, order_by=order_by)
        return self.session.chunks(statement, self.columns)


def _values(stream: Stream, part: Slice) -> Values:
    """The values of the placeholders in a slice."""
    return {**stream_values(stream), **(part.values or {})}


def _as_int(value: Any, column: str | None) -> int | None:
    """A key of the database as a number: some drivers return the text of a numeric."""
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        raise SettingsError(
            f"shard_by is {column!r}, which has a value that is no integer. Shards are ranges of integers.",
            setting="shard_by",
        ) from None


def _value_of_variable(variable: Any) -> str:
    value: str | None = variable.get_value()
    if value is None:
        raise SettingsError(
            f"The environment variable {variable.env_var_name} is not set, and the source's uri names it.",
            setting="uri",
        )
    return value
