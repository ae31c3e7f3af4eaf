"""Dask: the partitions of a bag or frame, or a list of delayed values, are the shards of a sync.

Needs the extra `dask`. Must not know: which scheduler runs the tasks, since a killed task is only run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import dask
import dask.bag
import pyarrow as pa

from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.shards import Order, ShardReceipt, commit, stage


def arrow_schema(dataset: Any) -> pa.Schema | None:
    """The schema of a frame. None for a bag and for delayed values."""
    meta = getattr(dataset, "_meta", None)
    return pa.Schema.from_pandas(meta, preserve_index=False) if hasattr(meta, "dtypes") else None


def write(dataset: Any, order: Order, **options: Any) -> Receipt:
    """Stages each partition in a task, and commits all of them. The tasks run on the current scheduler.

    Args:
        dataset: A `dask.dataframe.DataFrame`, a `dask.bag.Bag`, or a list of `dask.delayed` values.
        order: The order of the sync.
        options: Further arguments of `stage`: `s3`, `hash_key`, `on_progress`.

    Example:
        write(frame, begin(target, stream, sync, schema=arrow_schema(frame)))
    """
    text = order.to_json()
    if isinstance(dataset, dask.bag.Bag):
        # A bag's partition is not held in memory: it is staged while it is computed.
        numbers = dask.bag.from_sequence(range(dataset.npartitions), npartitions=dataset.npartitions)
        tasks = dataset.map_partitions(_stage_numbered, numbers, text, options).to_delayed()
    else:
        parts = dataset.to_delayed() if hasattr(dataset, "to_delayed") else dataset
        tasks = [dask.delayed(_stage)(part, shard, text, options) for shard, part in enumerate(parts)]
    receipts = [each for group in dask.compute(*tasks) for each in group]
    kept = {name: options[name] for name in ("s3",) if name in options}
    return commit(order, map(ShardReceipt.from_json, receipts), shards=range(len(tasks)), **kept)


def _stage_numbered(records: Iterable[Any], numbers: Iterable[int], order: str, options: dict[str, Any]) -> list[str]:
    (shard,) = numbers
    return _stage(records, shard, order, options)


def _stage(records: Any, shard: int, order: str, options: dict[str, Any]) -> list[str]:
    if hasattr(records, "dtypes"):  # a pandas frame, whose index is no column
        records = pa.Table.from_pandas(records, preserve_index=False)
    return [stage(Order.from_json(order), records, shard=shard, **options).to_json()]
