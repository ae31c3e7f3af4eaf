"""Loads landed records as the type that the annotation of a downstream asset's parameter names.

The tables at the end list the types that an input can have. Must not know: formats, how records are read.
"""

from __future__ import annotations

import collections.abc
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, NewType, Union, get_args, get_origin, is_typeddict

import dagster as dg
import pyarrow as pa
import pyarrow.dataset

from s3dest_dagster.dagster.asset_metadata import op_scope, op_stream, scopes_of
from s3dest_dagster.dagster.input_metadata import input_selection, select_partitions, upstream_stream
from s3dest_dagster.dagster.run_landing import connection_of_workers
from s3dest_dagster.dagster.step_values import load_step_value
from s3dest_dagster.engines.loading import DATASETS
from s3dest_dagster.errors import ObjectNotFoundError, SettingsError
from s3dest_dagster.inspection.landed_scopes import LandedScopes
from s3dest_dagster.inspection.read import read_whole, snapshot
from s3dest_dagster.inspection.record_selection import RecordSelection
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import Bucket, each_in_parallel
from s3dest_dagster.stream import Scope


def load_input(
    context: dg.InputContext, destination: S3Destination, bucket: Bucket, connection: S3Connection | None = None
) -> Any:
    """The records of the upstream asset's scopes, as the type that the parameter's annotation names.

    Iterators and readers hold one object at a time in memory, all other values hold everything. A dict has one value
    for each partition key; otherwise the partitions are concatenated. Metadata of the input says which records are
    loaded (see `RecordSelection`) and of which stream (see `upstream_stream`). The output of an op is None, since an op
    can return nothing else.

    Raises:
        ObjectNotFoundError: If a scope never landed.
        SettingsError: If nothing can be loaded as the annotation, or a column does not exist.
    """
    of_op = None if context.has_asset_key else _scope_of_op(context)
    if not context.has_asset_key and of_op is None:
        return load_step_value(context, destination, bucket)
    load, selection = loader_of(_annotation(context)), input_selection(context.definition_metadata)
    hint = ""
    scopes: Mapping[str | None, Scope]
    if of_op is not None:
        scopes = {of_op.partition: of_op}
    else:
        stream, hint = upstream_stream(context, destination, bucket)
        scopes = select_partitions(selection, scopes_of(context, stream))
    in_bucket = {key: scope.prefixed(destination.stream_prefix) for key, scope in scopes.items()}

    def look() -> LandedScopes:
        return replace(_landed(bucket, destination, in_bucket, selection, hint), connection=connection)

    return read_whole(look, load)


def _landed(
    bucket: Bucket,
    destination: S3Destination,
    scopes: Mapping[str | None, Scope],
    selection: RecordSelection,
    hint: str,
) -> LandedScopes:
    """Reads the manifests of these scopes, by the key that Dagster has for each.

    Args:
        hint: A text to add to the message of ObjectNotFoundError, if a scope never landed.
    """
    snapshots = each_in_parallel(partial(snapshot, bucket, destination.template), scopes.values())
    by_key = dict(zip(scopes, snapshots, strict=True))
    missing = [scopes[key] for key, scope in by_key.items() if not scope.segments]
    if missing and not selection.allow_missing:
        raise _never_landed(missing, hint)
    stream = str(next(iter(scopes.values())).stream) if scopes else "nothing"
    return LandedScopes.of(by_key, stream, selection)


def _scope_of_op(context: dg.InputContext) -> Scope | None:
    """What the op before this one has landed. None if its output names no stream."""
    output = context.upstream_output
    stream = None if output is None else op_stream(output.definition_metadata)
    return None if stream is None else op_scope(context, stream.id)


def _annotation(context: dg.InputContext) -> Any:
    try:
        return context.dagster_type.typing_type
    except dg.DagsterInvariantViolationError:
        return Any


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


# ---------------------------------------------------------------------- the types of annotations

Loader = Callable[[LandedScopes], Any]


def loader_of(annotation: Any) -> Loader:
    """The function that loads an annotation's type. For a union, the first member that can be loaded is used.

    Raises SettingsError, with all types that can be loaded, for any other annotation.
    """
    loader = _first_loader(annotation)
    if loader is None:
        raise SettingsError(
            f"An input cannot be loaded as {annotation!r}. Annotate the parameter with pyarrow.Table, "
            "pyarrow.RecordBatchReader, pyarrow.dataset.Dataset, list[dict], Iterator[dict], Iterable[dict], "
            "pandas.DataFrame, polars.DataFrame, polars.LazyFrame, duckdb.DuckDBPyRelation, dask.dataframe.DataFrame, "
            "dask.bag.Bag, ray.data.Dataset or pyspark.sql.DataFrame; with dict[str, X] for "
            "one X of these for each partition key; or with Optional of any of them.",
            setting="annotation",
        )
    return loader


def _first_loader(annotation: Any, *, of_partition: bool = False) -> Loader | None:
    """`of_partition`: the value of one partition, which cannot be a mapping of partitions itself."""
    loaders = (_loader(member, of_partition=of_partition) for member in _members(annotation))
    return next((loader for loader in loaders if loader is not None), None)


_UNIONS = (Union, types.UnionType)


def _members(annotation: Any) -> Iterator[Any]:
    """The types that the annotation allows, in its order, except None.

    `Annotated`, type aliases and new types are replaced by their underlying types.
    """
    if get_origin(annotation) is Annotated:
        yield from _members(get_args(annotation)[0])
    elif get_origin(annotation) in _UNIONS:
        for member in get_args(annotation):
            yield from _members(member)
    elif isinstance(annotation, NewType):
        yield from _members(annotation.__supertype__)
    elif type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
        yield from _members(annotation.__value__)
    elif annotation is not type(None):
        yield annotation


def _loader(kind: Any, *, of_partition: bool) -> Loader | None:
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in _MAPPINGS:
        return None if of_partition else _mapping_loader(arguments)
    if origin in _ROWS:
        return _ROWS[origin] if not arguments or _is_row(arguments[0]) else None
    name = f"{getattr(origin, '__module__', '').split('.')[0]}.{getattr(origin, '__name__', '')}"
    return _WHOLE.get(origin) or _FRAMES.get(name) or _dataset_loader(name)


def _dataset_loader(name: str) -> Loader | None:
    """Loads the dataset of an engine, whose workers read the objects."""
    read = DATASETS.get(name)
    if read is None:
        return None

    def load(landed: LandedScopes) -> Any:
        return read(landed.portable(connection_of_workers(landed.connection, landed.stream)), landed.schema)

    return load


def _mapping_loader(arguments: tuple[Any, ...]) -> Loader | None:
    """Loads a mapping of partition keys to tables, or to the type of the annotation's second argument."""
    if not arguments:
        return lambda landed: landed.by_partition(LandedScopes.table)
    keys, value = list(_members(arguments[0])), _first_loader(arguments[1], of_partition=True)
    if value is None or not {str, Any}.intersection(keys):
        return None

    def load(landed: LandedScopes) -> Any:
        if None in landed.scopes:
            raise SettingsError(
                f"{landed.stream} has no partitions, so that it cannot be loaded as a mapping of partition keys. "
                "Annotate the parameter with what one of its values would be.",
                stream=landed.stream,
                setting="annotation",
            )
        return landed.by_partition(value)

    return load


def _is_row(annotation: Any) -> bool:
    """Whether the annotation allows a dict."""
    kinds = {get_origin(member) or member for member in _members(annotation)}
    return bool(kinds & {Any, object, *_MAPPINGS}) or any(map(is_typeddict, kinds))


def _dataset(landed: LandedScopes) -> pyarrow.dataset.Dataset:
    return pyarrow.dataset.dataset(landed.table())


def _rows(landed: LandedScopes) -> Iterator[dict[str, Any]]:
    for batch in landed.batches():
        yield from batch.to_pylist()


def _list(landed: LandedScopes) -> list[dict[str, Any]]:
    return list(_rows(landed))


def _polars_lazy(landed: LandedScopes) -> Any:
    return landed.polars().lazy()


_MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_ROWS: dict[Any, Loader] = {
    list: _list,
    collections.abc.Sequence: _list,
    collections.abc.MutableSequence: _list,
    collections.abc.Collection: _list,
    collections.abc.Iterable: _rows,
    collections.abc.Iterator: _rows,
    collections.abc.Generator: _rows,
}
_WHOLE: dict[Any, Loader] = {
    Any: LandedScopes.table,
    object: LandedScopes.table,
    pa.Table: LandedScopes.table,
    pa.RecordBatchReader: LandedScopes.reader,
    pyarrow.dataset.Dataset: _dataset,
}
_FRAMES: dict[str, Loader] = {
    "pandas.DataFrame": LandedScopes.pandas,
    "polars.DataFrame": LandedScopes.polars,
    "polars.LazyFrame": _polars_lazy,
    "duckdb.DuckDBPyRelation": LandedScopes.duckdb,
}
"""By name, so that an unused library is not imported."""
