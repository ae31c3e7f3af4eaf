"""Spark: the partitions of a frame are the shards of a sync, staged in the executors' Python workers by `mapInArrow`.

Needs the extra `spark`. Must not know: how Spark schedules the tasks, since a killed or doubled task is only run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame

from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.shards import Order, ShardReceipt, commit, stage


def arrow_schema(dataset: DataFrame) -> pa.Schema | None:
    """The schema of a frame. It costs no job over the frame's data."""
    schema: pa.Schema = dataset.limit(0).toArrow().schema
    return schema


def write(dataset: DataFrame, order: Order, **options: Any) -> Receipt:
    """Stages each partition in a task, and commits all of them.

    The order of the partitions does not matter, and neither does their number, which Spark may change.

    Args:
        dataset: The frame.
        order: The order of the sync.
        options: Further arguments of `stage`: `s3`, `hash_key`, `on_progress`.

    Example:
        write(frame, begin(target, stream, sync, schema=arrow_schema(frame)))
    """
    rows = dataset.mapInArrow(_stage_partition(order.to_json(), options), "receipt string").collect()
    return commit(order, [ShardReceipt.from_json(row.receipt) for row in rows], s3=options.get("s3"))


def _stage_partition(
    order: str, options: dict[str, Any]
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def stage_batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        task = TaskContext.get()
        assert task is not None, "it runs in a task"
        receipt = stage(Order.from_json(order), batches, shard=task.partitionId(), **options)
        yield pa.RecordBatch.from_pydict({"receipt": [receipt.to_json()]})

    return stage_batches
