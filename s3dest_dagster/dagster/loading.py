"""What was landed, as the value that a downstream asset's parameter asks for.

It knows Dagster's input context on one side and the landed scopes on the other; it must not know formats.
"""

from __future__ import annotations

import collections.abc
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Annotated, Any, NewType, TypeVar, Union, get_args, get_origin, is_typeddict

import dagster as dg
import pyarrow as pa
import pyarrow.dataset

from s3dest_dagster.dagster.asset_metadata import NAME_KEY, NAMESPACE_KEY, STREAM_KEY, scopes_of, stream_of
from s3dest_dagster.errors import ObjectNotFoundError, SettingsError
from s3dest_dagster.inspection.read import ScopeSnapshot, read_whole, snapshot, unified
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope

_UNIONS = (Union, types.UnionType)
_OF_RESOURCES: Any = typing.cast(Any, dg.ResourceParam).__metadata__
"""How Dagster marks the annotation of a resource."""


def alternatives(annotation: Any) -> Iterator[Any]:
    """What the annotation allows, in its order: the members of unions but None, each without `Annotated`, and what
    type aliases and new types stand for."""
    if get_origin(annotation) is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in _UNIONS:
        for member in get_args(annotation):
            yield from alternatives(member)
    elif isinstance(annotation, NewType):
        yield from alternatives(annotation.__supertype__)
    elif type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
        yield from alternatives(annotation.__value__)
    elif annotation is not type(None):
        yield annotation


def for_dagster(annotation: Any) -> Any:
    """The annotation as Dagster takes it; one that Dagster refuses becomes a type of its own kind that carries it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    if get_origin(annotation) is Annotated:
        is_resource = annotation.__metadata__ == _OF_RESOURCES
        return annotation if is_resource else for_dagster(get_args(annotation)[0])
    try:
        dg.In(annotation)
    except dg.DagsterInvalidDefinitionError:
        return _carrying(annotation)
    # Dagster takes a list of these, and fails when it looks at one.
    return _carrying(annotation) if any(map(is_typeddict, get_args(annotation))) else annotation


@cache
def _carrying(annotation: Any) -> dg.DagsterType:
    return dg.DagsterType(lambda _, value: True, name=_name(annotation), typing_type=annotation)


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, NewType) else str(annotation)


COLUMNS_KEY = "columns"
_PARALLEL = 8
_ROWS_AT_ONCE = 10_000
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True)
class LandedScopes:
    """Scopes of a stream that hold something, by partition key, each as it was at one moment, and the columns that all
    of them are read as."""

    scopes: Mapping[str | None, ScopeSnapshot]
    schema: pa.Schema
    stream: str

    @classmethod
    def of(
        cls,
        bucket: Bucket,
        destination: S3Destination,
        scopes: Mapping[str | None, Scope],
        *,
        columns: Sequence[str] | None,
        allow_missing: bool,
        hint: str = "",
    ) -> LandedScopes:
        """Looks at the manifests; raises for scopes that were never landed (with the hint), and for columns that are
        not there."""
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            looked_at = executor.map(lambda scope: snapshot(bucket, destination.template, scope), scopes.values())
            found = dict(zip(scopes, looked_at, strict=True))
        missing = [scopes[key] for key, each in found.items() if not each.segments]
        if missing and not allow_missing:
            raise _never_landed(missing, hint)
        there = {key: each for key, each in found.items() if each.segments}
        what = str(next(iter(scopes.values())).stream) if scopes else "nothing"
        schema = unified((each for one in there.values() if (each := one.schema) is not None), what)
        return cls(there, _selected(schema, columns, what), what)

    def is_outdated(self) -> bool:
        """Whether another sync of one of the scopes was published since they were looked at."""
        return any(each.is_outdated() for each in self.scopes.values())

    def tables(self, key: str | None) -> Iterator[pa.Table]:
        """One scope's objects, each as a table of all columns."""
        for table in self.scopes[key].tables():
            wanted = table.select([name for name in self.schema.names if name in table.column_names])
            aligned = pa.concat_tables([self.schema.empty_table(), wanted], promote_options="permissive")
            yield aligned.select(self.schema.names).cast(self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Everything, an object at a time."""
        for key in self.scopes:
            for table in self.tables(key):
                yield from table.to_batches(_ROWS_AT_ONCE)

    def table(self) -> pa.Table:
        """Everything, one object after another."""
        tables = (table for key in self.scopes for table in self.tables(key))
        return pa.concat_tables([self.schema.empty_table(), *tables])

    def each(self, make: Callable[[LandedScopes], Made]) -> dict[str | None, Made]:
        """What `make` makes of each scope by itself, of a few at once."""
        alone = [replace(self, scopes={key: scope}) for key, scope in self.scopes.items()]
        with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="s3dest-read") as executor:
            return dict(zip(self.scopes, executor.map(make, alone), strict=True))


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


def _never_landed(missing: Sequence[Scope], hint: str) -> ObjectNotFoundError:
    first = missing[0]
    others = len(missing) - 1
    more = f" (and {amount(others, 'more partition')})" if others else ""
    return ObjectNotFoundError(
        f"{first}{more} has not landed here, so there is nothing to load. Materialize it first"
        + ("." if first.partition is None else ", or set allow_missing_partitions in the input's metadata.")
        + (f" {hint}" if hint else ""),
        stream=str(first.stream),
        partition=first.partition,
    )


Maker = Callable[[LandedScopes], Any]


def maker_of(annotation: Any) -> Maker:
    """What makes the value that an annotation asks for: of a union the first member that can be made.

    Raises SettingsError, with all that can be made, for any other annotation.
    """
    maker = _first_maker(annotation)
    if maker is None:
        raise SettingsError(
            f"An input cannot be loaded as {annotation!r}. Annotate the parameter with pyarrow.Table, "
            "pyarrow.RecordBatchReader, pyarrow.dataset.Dataset, list[dict], Iterator[dict], Iterable[dict], "
            "pandas.DataFrame, polars.DataFrame, polars.LazyFrame or duckdb.DuckDBPyRelation; with dict[str, X] for "
            "one X of these for each partition key; or with Optional of any of them.",
            setting="annotation",
        )
    return maker


def _first_maker(annotation: Any, *, of_partition: bool = False) -> Maker | None:
    """`of_partition` makes one partition's value, which is not again a mapping of partitions."""
    found = (_maker(each, of_partition=of_partition) for each in alternatives(annotation))
    return next((each for each in found if each is not None), None)


def _maker(kind: Any, *, of_partition: bool) -> Maker | None:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in _MAPPINGS:
        return None if of_partition else _by_partition(arguments)
    if origin in _ROWS:
        return _ROWS[origin] if not arguments or _is_row(arguments[0]) else None
    name = f"{getattr(origin, '__module__', '').split('.')[0]}.{getattr(origin, '__name__', '')}"
    return _WHOLE.get(origin) or _FRAMES.get(name)


def _by_partition(arguments: tuple[Any, ...]) -> Maker | None:
    """A mapping of partition keys: to tables, or to whatever its annotation says."""
    if not arguments:
        return lambda landed: landed.each(_table)
    keys, value = list(alternatives(arguments[0])), _first_maker(arguments[1], of_partition=True)
    if value is None or not {str, Any}.intersection(keys):
        return None

    def make(landed: LandedScopes) -> Any:
        if None in landed.scopes:
            raise SettingsError(
                f"{landed.stream} has no partitions, so that it cannot be loaded as a mapping of partition keys. "
                "Annotate the parameter with what one of its values would be.",
                stream=landed.stream,
                setting="annotation",
            )
        return landed.each(value)

    return make


def _is_row(annotation: Any) -> bool:
    """Whether dicts are what is meant."""
    kinds = {get_origin(each) or each for each in alternatives(annotation)}
    return bool(kinds & {Any, object, *_MAPPINGS}) or any(map(is_typeddict, kinds))


# ---------------------------------------------------------------------- each kind


def _table(landed: LandedScopes) -> pa.Table:
    return pa.concat_tables([landed.schema.empty_table(), *landed.each(LandedScopes.table).values()])


def _reader(landed: LandedScopes) -> pa.RecordBatchReader:
    return pa.RecordBatchReader.from_batches(landed.schema, landed.batches())


def _dataset(landed: LandedScopes) -> pyarrow.dataset.Dataset:
    return pyarrow.dataset.dataset(_table(landed))


def _rows(landed: LandedScopes) -> Iterator[dict[str, Any]]:
    for batch in landed.batches():
        yield from batch.to_pylist()


def _list(landed: LandedScopes) -> list[dict[str, Any]]:
    return list(_rows(landed))


def _pandas(landed: LandedScopes) -> Any:
    return _table(landed).to_pandas()


def _polars(landed: LandedScopes) -> Any:
    import polars

    return polars.from_arrow(_table(landed))


def _polars_lazy(landed: LandedScopes) -> Any:
    return _polars(landed).lazy()


def _duckdb(landed: LandedScopes) -> Any:
    import duckdb

    # A connection of its own, which the relation keeps: the default one is not for several threads.
    return duckdb.connect().from_arrow(_table(landed))


_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ROWS: dict[Any, Maker] = {
    list: _list,
    collections.abc.Sequence: _list,
    collections.abc.MutableSequence: _list,
    collections.abc.Collection: _list,
    collections.abc.Iterable: _rows,
    collections.abc.Iterator: _rows,
    collections.abc.Generator: _rows,
}
_WHOLE: dict[Any, Maker] = {
    Any: _table,
    object: _table,
    pa.Table: _table,
    pa.RecordBatchReader: _reader,
    pyarrow.dataset.Dataset: _dataset,
}
_FRAMES: dict[str, Maker] = {
    "pandas.DataFrame": _pandas,
    "polars.DataFrame": _polars,
    "polars.LazyFrame": _polars_lazy,
    "duckdb.DuckDBPyRelation": _duckdb,
}
"""By name, so that a library that nobody uses is not imported."""


ALLOW_MISSING_KEY = "allow_missing_partitions"
_NAMES = (NAME_KEY, NAMESPACE_KEY)


def load_input(context: dg.InputContext, destination: S3Destination, bucket: Bucket) -> Any:
    """What the upstream asset's scopes hold, as the parameter's annotation says; None for an op's output, since None is
    all that an op may give.

    `pa.Table` (also for none, and for Any), `pa.RecordBatchReader`, `pyarrow.dataset.Dataset`, a list or an iterator
    of dicts, a polars or pandas frame, a DuckDB relation: all partitions one after another. A dict: a table, or what
    its annotation says, for each partition key. In the input's metadata `columns` names the columns to load,
    `allow_missing_partitions` leaves out partitions that were never landed (an ObjectNotFoundError without it), and
    `s3dest/name` and `s3dest/namespace` name the stream of an asset of another code location. Iterators and readers
    hold one object at a time, the others everything.
    """
    if not context.has_asset_key:
        return None
    make, definition = maker_of(_annotation(context)), _upstream_metadata(context)
    stream = stream_of(context.asset_key, definition)
    scopes = {key: scope.prefixed(destination.stream_prefix) for key, scope in scopes_of(context, stream.id).items()}
    given = context.definition_metadata
    look = partial(
        LandedScopes.of,
        bucket,
        destination,
        scopes,
        columns=given.get(COLUMNS_KEY),
        allow_missing=bool(given.get(ALLOW_MISSING_KEY, False)),
        hint="" if {STREAM_KEY, *_NAMES} & definition.keys() else _how_to_name(context.asset_key),
    )
    return read_whole(look, make)


def _upstream_metadata(context: dg.InputContext) -> dict[str, Any]:
    """What the upstream asset declares, and over it the names that the input's own metadata gives its stream."""
    upstream = context.upstream_output
    declared = dict(upstream.definition_metadata) if upstream is not None else {}
    named = {name: value for name, value in context.definition_metadata.items() if name in _NAMES}
    if named:
        declared.pop(STREAM_KEY, None)
    return declared | named


def _how_to_name(key: dg.AssetKey) -> str:
    """What to do where an asset's key alone tells its stream, as that of another code location."""
    return (
        f"The asset {key.to_user_string()} does not say here which stream it is, so its key was taken for the "
        "stream's name. If another code location lands it under another name (a key_prefix, for instance, is no part "
        f'of it), give the input that name: dg.AssetIn(metadata={{"{NAME_KEY}": "{key.path[-1]}", "{NAMESPACE_KEY}": '
        '"…"}), or give the same metadata to the dg.AssetSpec that stands for it.'
    )


def _annotation(context: dg.InputContext) -> Any:
    try:
        return context.dagster_type.typing_type
    except dg.DagsterInvariantViolationError:
        return Any
