"""The values that an input can be loaded as, by the annotation that asks for them.

It knows what was landed; it must not know Dagster's contexts.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Callable, Iterator
from typing import Any, get_args, get_origin, is_typeddict

import pyarrow as pa
import pyarrow.dataset

from s3dest_dagster.dagster.annotations import alternatives
from s3dest_dagster.dagster.landed_scopes import LandedScopes
from s3dest_dagster.errors import SettingsError

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
