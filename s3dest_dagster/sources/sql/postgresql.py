"""PostgreSQL through ADBC: rows as Arrow batches, which the server sends by binary COPY.

Two facts shape this module. The driver uses COPY only for statements without parameters, and holds the whole result in
memory otherwise, so that values are literals. And it changes some types (it flattens arrays, and reads money as cents),
so that the server writes those as text. Must not know: which rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_types import is_any_list
from s3dest_dagster.errors import SourceError
from s3dest_dagster.sources.sql.address import DatabaseAddress
from s3dest_dagster.sources.sql.session import (
    Chunks,
    QueryColumns,
    Session,
    driver_errors,
    imported_driver,
    read_batches,
    refuse_infinite_moments,
    refuse_repeated_columns,
    refuse_unknown_types,
    transaction,
)
from s3dest_dagster.sources.sql.statements import ALIAS, quoted_name, quoted_text, select

BATCH_BYTES = 4 << 20
"""The size of a batch. The driver's own default of 16 MB needs 40 MB more, and is no faster."""
_SETTINGS = (
    # One snapshot for all statements of a read.
    "begin transaction isolation level repeatable read, read only",
    # What a role or database may have set otherwise, and what literals and texts depend on.
    "set standard_conforming_strings = on",
    "set client_encoding = 'UTF8'",
    "set intervalstyle = 'iso_8601'",
    "set datestyle = 'ISO, YMD'",
    "set bytea_output = 'hex'",
)
_FIRST = {"date": -2_500_000, "timestamp": -215_000_000_000_000_000}
"""Days and microseconds before all that PostgreSQL has, from 4713 BC on. The driver moves values from 2000 to 1970, by
which infinity and -infinity overflow to what is below these, as do timestamps after the year 294246."""
_MAX_DIGITS = 76


@contextmanager
def connected(address: DatabaseAddress) -> Iterator[Session]:
    """A session in a transaction that reads only, and that sees one snapshot."""
    driver = imported_driver("adbc_driver_postgresql.dbapi", "adbc", address)
    with transaction(address, partial(driver.connect, address.uri, autocommit=True), _begin) as connection:
        yield _PostgresSession(address, connection)


def _begin(connection: Any) -> None:
    with connection.cursor() as cursor:
        for setting in _SETTINGS:
            cursor.execute(setting)


class _PostgresSession:
    has_escapes: ClassVar[bool] = False
    quote_mark: ClassVar[str] = '"'
    binary_collation: ClassVar[str | None] = ' collate "C"'

    def __init__(self, address: DatabaseAddress, connection: Any) -> None:
        self._address = address
        self._connection = connection

    def columns(self, query: str) -> QueryColumns:
        with self._connection.cursor() as cursor, driver_errors(self._address, "describing the query"):
            schema = cursor.adbc_execute_schema(select(query))
        refuse_repeated_columns(schema.names)
        casts = {field.name: cast for field in schema if (cast := _cast(field)) is not None}
        listed = ", ".join(_selected(name, casts.get(name)) for name in schema.names)
        with self._connection.cursor() as cursor, driver_errors(self._address, "describing the query"):
            cast_schema = cursor.adbc_execute_schema(select(query, listed))
        landed = pa.schema(map(_landed_field, schema, cast_schema))
        refuse_unknown_types(landed)
        # A decimal is a text only on its way to the client, and keeps its order.
        texts = frozenset(name for name in casts if pt.is_string(landed.field(name).type))
        return QueryColumns(landed, texts, listed)

    def chunks(self, statement: str, columns: QueryColumns) -> Chunks:
        with self._connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{"adbc.postgresql.batch_size_hint_bytes": str(BATCH_BYTES)})
            with driver_errors(self._address, "executing the query"):
                cursor.execute(statement)
                reader = cursor.fetch_record_batch()
            with closing(read_batches(reader, self._address)) as batches:
                for batch in batches:
                    yield _exact(batch, columns.schema)

    def row(self, statement: str) -> tuple[Any, ...] | None:
        with self._connection.cursor() as cursor, driver_errors(self._address, "executing a query"):
            cursor.execute(statement)
            found: tuple[Any, ...] | None = cursor.fetchone()
            return found


# ---------------------------------------------------------------------- types


def _selected(name: str, cast: str | None) -> str:
    quoted = quoted_name(name)
    return f"{ALIAS}.{quoted}" if cast is None else f"{cast} as {quoted}"


def _cast(field: pa.Field) -> str | None:
    """The expression of a column that the driver would change. None: it reads the column exactly."""
    name = f"{ALIAS}.{quoted_name(field.name)}"
    if not is_any_list(field.type):
        return _exact_expression(field, name, "")
    items = _exact_expression(field.type.value_field, name, "[]") or name
    if pt.is_struct(field.type.value_type):
        return items
    # The driver flattens an array of several dimensions. Only such an array makes this cast fail.
    problem = f"Column {field.name} holds an array of several dimensions; read it as to_jsonb({field.name}). "
    refused = f"({quoted_text(problem)} || array_ndims({name}))::int"
    return f"case when array_ndims({name}) > 1 then ({items})[{refused}:] else {items} end"


def _exact_expression(field: pa.Field, name: str, suffix: str) -> str | None:
    """The expression of a column, or of the items of an array with the suffix `[]`."""
    if pt.is_struct(field.type):
        # What is changed within a composite type would not be seen here.
        return f"to_jsonb({name})"
    type_name = (field.metadata or {}).get(b"POSTGRESQL:type", b"").decode()
    if type_name == "money":
        # Its own text depends on the locale of the server.
        return f"{name}::numeric{suffix}::text{suffix}"
    if type_name == "oid":
        return f"{name}::bigint{suffix}"
    is_opaque = getattr(field.type, "extension_name", None) == "arrow.opaque"
    return f"{name}::text{suffix}" if is_opaque or type_name == "interval" else None


def _landed_field(field: pa.Field, cast: pa.Field) -> pa.Field:
    """The column as it is landed: after its cast, and a decimal if the database declares its digits."""
    if (digits := _digits(field)) is None:
        return cast
    precision, scale = digits
    return pa.field(field.name, (pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale))


def _digits(field: pa.Field) -> tuple[int, int] | None:
    """Precision and scale of a numeric; None for another type, for none, and for some that Arrow does not have."""
    if (field.metadata or {}).get(b"POSTGRESQL:type") != b"numeric":
        return None
    modifier = int((field.metadata or {}).get(b"POSTGRESQL:typmod", b"-1"))
    if modifier < 0:
        return None
    precision, scale = (modifier - 4) >> 16, (modifier - 4) & 0x7FF
    return (precision, scale) if precision <= _MAX_DIGITS and scale <= precision else None


def _exact(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with decimals in place of their texts. Raises SourceError for a value that the type cannot hold."""
    refuse_infinite_moments(batch, _is_lost)
    decimals = [number for number, field in enumerate(schema) if pt.is_decimal(field.type)]
    for number in decimals:
        field = schema.field(number)
        try:
            column = batch.column(number).cast(field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise SourceError(
                f"Column {field.name!r} holds NaN, which a decimal cannot. Read it as text, or as null, in the query: "
                f"{field.name}::text, or nullif({field.name}, 'NaN')."
            ) from None
        batch = batch.set_column(number, field, column)
    return batch


def _is_lost(kind: str, stored: int) -> bool:
    return stored < _FIRST[kind]
