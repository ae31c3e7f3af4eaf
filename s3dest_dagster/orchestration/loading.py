"""What was landed, as the value that a downstream asset's parameter asks for.

It knows Dagster's input context on one side and the landing's readers on the other; it must not know formats.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, get_origin

import dagster as dg
import pyarrow as pa
import pyarrow.dataset

from s3dest_dagster.destination import S3Destination
from s3dest_dagster.errors import ObjectNotFoundError, SettingsError
from s3dest_dagster.landing import landed_scope, read_tables, scope_schema, unified
from s3dest_dagster.orchestration.declared import scopes_of, stream_of
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope
from s3dest_dagster.wording import amount

COLUMNS_KEY = "columns"
ALLOW_MISSING_KEY = "allow_missing_partitions"
_PARALLEL = 8
_ROWS_AT_ONCE = 10_000


def load_input(context: dg.InputContext, destination: S3Destination, bucket: Bucket) -> Any:
    """What the upstream asset's scopes hold, as the parameter's annotation says.

    `pa.Table` (also for none, and for Any), `pa.RecordBatchReader`, `pyarrow.dataset.Dataset`, a list or an iterator
    of dicts, a polars or pandas frame, a DuckDB relation: all partitions one after another. A dict: a table for each
    partition key. `columns` in the input's metadata names the columns to load, `allow_missing_partitions` leaves out
    partitions that were never landed; without it they are an ObjectNotFoundError. Iterators and readers hold one
    object at a time, the others everything.
    """
    upstream = context.upstream_output
    stream = stream_of(context.asset_key, upstream.definition_metadata if upstream is not None else {})
    scopes = {
        key: landed_scope(destination.stream_prefix, scope) for key, scope in scopes_of(context, stream.id).items()
    }
    given = context.definition_metadata
    landed = Landed.of(
        bucket,
        destination,
        scopes,
        columns=given.get(COLUMNS_KEY),
        allow_missing=bool(given.get(ALLOW_MISSING_KEY, False)),
    )
    return _maker(_annotation(context))(landed)


@dataclass(frozen=True, slots=True)
class Landed:
    """Scopes that hold something, by partition key, and the columns that all of them are read as."""

    bucket: Bucket
    destination: S3Destination
    scopes: Mapping[str | None, Scope]
    schema: pa.Schema

    @classmethod
    def of(
        cls,
        bucket: Bucket,
        destination: S3Destination,
        scopes: Mapping[str | None, Scope],
        *,
        columns: Sequence[str] | None,
        allow_missing: bool,
    ) -> Landed:
        """Looks at the manifests; raises for scopes that were never landed, and for columns that are not there."""
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            schemas = dict(
                zip(
                    scopes,
                    executor.map(lambda scope: scope_schema(bucket, destination.template, scope), scopes.values()),
                    strict=True,
                )
            )
        missing = [scopes[key] for key, schema in schemas.items() if schema is None]
        if missing and not allow_missing:
            raise _never_landed(missing)
        there = {key: scope for key, scope in scopes.items() if schemas[key] is not None}
        what = str(next(iter(scopes.values())).stream) if scopes else "nothing"
        schema = unified((each for each in schemas.values() if each is not None), what)
        return cls(bucket, destination, there, _selected(schema, columns, what))

    def tables(self, key: str | None) -> Iterator[pa.Table]:
        """One scope's objects, each as a table of all columns."""
        for table in read_tables(self.bucket, self.destination.template, self.scopes[key]):
            wanted = table.select([name for name in self.schema.names if name in table.column_names])
            aligned = pa.concat_tables([self.schema.empty_table(), wanted], promote_options="permissive")
            yield aligned.select(self.schema.names).cast(self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Everything, an object at a time."""
        for key in self.scopes:
            for table in self.tables(key):
                yield from table.to_batches(_ROWS_AT_ONCE)

    def by_partition(self) -> dict[str | None, pa.Table]:
        """Everything, a few scopes at once."""
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            return dict(zip(self.scopes, executor.map(self._table, self.scopes), strict=True))

    def _table(self, key: str | None) -> pa.Table:
        return pa.concat_tables([self.schema.empty_table(), *self.tables(key)])


def _selected(schema: pa.Schema, columns: Sequence[str] | None, what: str) -> pa.Schema:
    if columns is None:
        return schema
    unknown = [name for name in columns if name not in schema.names]
    if unknown:
        raise SettingsError(
            f"{what} has no column {unknown[0]!r}, which the input's metadata asks for. It has: "
            f"{', '.join(schema.names)}.",
            stream=what,
            setting=COLUMNS_KEY,
        )
    return pa.schema([schema.field(name) for name in columns])


def _never_landed(missing: Sequence[Scope]) -> ObjectNotFoundError:
    first = missing[0]
    others = len(missing) - 1
    more = f" (and {amount(others, 'more partition')})" if others else ""
    return ObjectNotFoundError(
        f"{first}{more} has not landed here, so there is nothing to load. Materialize it first"
        + ("." if first.partition is None else ", or set allow_missing_partitions in the input's metadata."),
        stream=str(first.stream),
        partition=first.partition,
    )


# ---------------------------------------------------------------------- as the parameter asks for it


def _annotation(context: dg.InputContext) -> Any:
    try:
        return context.dagster_type.typing_type
    except dg.DagsterInvariantViolationError:
        return Any


def _table(landed: Landed) -> pa.Table:
    return pa.concat_tables([landed.schema.empty_table(), *landed.by_partition().values()])


def _reader(landed: Landed) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(landed.schema, landed.batches())


def _dataset(landed: Landed) -> pyarrow.dataset.Dataset:
    return pyarrow.dataset.dataset(_table(landed))


def _rows(landed: Landed) -> Iterator[dict[str, Any]]:
    for batch in landed.batches():
        yield from batch.to_pylist()


def _list(landed: Landed) -> list[dict[str, Any]]:
    return list(_rows(landed))


def _dict(landed: Landed) -> dict[str | None, pa.Table]:
    return landed.by_partition()


def _pandas(landed: Landed) -> Any:
    return _table(landed).to_pandas()


def _polars(landed: Landed) -> Any:
    import polars

    return polars.from_arrow(_table(landed))


def _polars_lazy(landed: Landed) -> Any:
    return _polars(landed).lazy()


def _duckdb(landed: Landed) -> Any:
    import duckdb

    # A connection of its own, which the relation keeps: the default one is not for several threads.
    return duckdb.connect().from_arrow(_table(landed))


Maker = Callable[[Landed], Any]
_MAKERS: dict[Any, Maker] = {
    Any: _table,
    pa.Table: _table,
    pa.RecordBatchReader: _reader,
    pyarrow.dataset.Dataset: _dataset,
    list: _list,
    collections.abc.Sequence: _list,
    collections.abc.Iterator: _rows,
    collections.abc.Iterable: _rows,
    dict: _dict,
    collections.abc.Mapping: _dict,
}
_FRAMES: dict[str, Maker] = {
    "pandas.DataFrame": _pandas,
    "polars.DataFrame": _polars,
    "polars.LazyFrame": _polars_lazy,
    "duckdb.DuckDBPyRelation": _duckdb,
}
"""By name, so that a library that nobody uses is not imported."""


def _maker(annotation: Any) -> Maker:
    kind = get_origin(annotation) or annotation
    name = f"{getattr(kind, '__module__', '').split('.')[0]}.{getattr(kind, '__name__', '')}"
    maker = _MAKERS.get(kind) or _FRAMES.get(name)
    if maker is None:
        raise SettingsError(
            f"An input cannot be loaded as {annotation!r}. Annotate the parameter with pyarrow.Table, "
            "pyarrow.RecordBatchReader, pyarrow.dataset.Dataset, list, collections.abc.Iterator, dict (a table for "
            "each partition), pandas.DataFrame, polars.DataFrame, polars.LazyFrame or duckdb.DuckDBPyRelation.",
            setting="annotation",
        )
    return maker
