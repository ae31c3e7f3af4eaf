"""Loads landed objects as an engine's dataset: workers read each object, and compare it with its manifest.

An engine is imported when its dataset is asked for. Must not know: how an object is read, where the manifests are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from s3dest_dagster.inspection.portable import PortableObject


def dask_frame(parts: Sequence[PortableObject], schema: pa.Schema) -> Any:
    """A `dask.dataframe.DataFrame` with a partition for each object."""
    import dask.dataframe

    empty = schema.empty_table().to_pandas()
    return dask.dataframe.from_map(_pandas, parts, meta=empty) if parts else dask.dataframe.from_pandas(empty)


def dask_bag(parts: Sequence[PortableObject], schema: pa.Schema) -> Any:
    """A `dask.bag.Bag` of dicts with a partition for each object."""
    import dask.bag

    return dask.bag.from_sequence(parts, npartitions=max(1, len(parts))).map(_rows).flatten()


def ray_dataset(parts: Sequence[PortableObject], schema: pa.Schema) -> Any:
    """A `ray.data.Dataset` with a block for each object."""
    import ray.data

    if not parts:
        return ray.data.from_arrow(schema.empty_table())
    numbers = ray.data.range(len(parts), override_num_blocks=len(parts))
    return numbers.map_batches(_NumberedTables(parts), batch_size=1)


def spark_frame(parts: Sequence[PortableObject], schema: pa.Schema) -> Any:
    """A `pyspark.sql.DataFrame` with a partition for each object, of the active session or a new one."""
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()
    empty = session.createDataFrame(schema.empty_table())
    numbers = session.range(0, len(parts), 1, max(1, len(parts)))
    return numbers.mapInArrow(_numbered_batches(parts, empty.toArrow().schema), empty.schema)


DATASETS: dict[str, Callable[[Sequence[PortableObject], pa.Schema], Any]] = {
    "dask.DataFrame": dask_frame,
    "dask.Bag": dask_bag,
    "pyspark.DataFrame": spark_frame,
    "ray.Dataset": ray_dataset,
}
"""The datasets by the first part of their module, and their class."""


# ---------------------------------------------------------------------- in the workers


def _pandas(part: PortableObject) -> Any:
    return part.table().to_pandas()


def _rows(part: PortableObject) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = part.table().to_pylist()
    return rows


class _NumberedTables:
    """Reads the object whose number a batch has."""

    def __init__(self, parts: Sequence[PortableObject]) -> None:
        self._parts = parts

    def __call__(self, batch: Any) -> pa.Table:
        return pa.concat_tables([self._parts[int(number)].table() for number in batch["id"]])


def _numbered_batches(
    parts: Sequence[PortableObject], schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch["id"].to_pylist():
                yield from parts[number].table().cast(schema).to_batches()

    return read
