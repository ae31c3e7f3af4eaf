"""Ray Data: the write tasks of a dataset are the shards of a sync.

Needs the extra `ray`. Must not know: how Ray schedules the tasks, since a killed task is only run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from ray.data import Dataset, Datasink
from ray.data.block import BlockAccessor

from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.shards import Order, ShardReceipt, commit, stage


class OrderDatasink(Datasink[str]):  # type: ignore[misc]  # mypy does not know Ray
    """Stages a dataset in Ray's workers, and commits it.

    If the write fails, nothing is aborted here: it may fail after the decision. Write again under the same sync id.

    Args:
        order: The order of the sync.
        options: Further arguments of `stage`: `s3`, `hash_key`, `on_progress`.

    Example:
        dataset.write_datasink(OrderDatasink(begin(target, stream, sync, schema=arrow_schema(dataset))))
    """

    def __init__(self, order: Order, **options: Any) -> None:
        self._order = order.to_json()
        self._options = options
        self.receipt: Receipt | None = None
        """The receipt of the sync, after the write."""

    def write(self, blocks: Iterable[Any], ctx: Any) -> str:
        """Stages one task's blocks. Ray calls it in a worker, perhaps several times for one task."""
        tables = (BlockAccessor.for_block(block).to_arrow() for block in blocks)
        return stage(Order.from_json(self._order), tables, shard=ctx.task_idx, **self._options).to_json()

    def on_write_complete(self, write_result: Any) -> None:
        """Commits. Ray calls it on the driver once all tasks have succeeded."""
        receipts = map(ShardReceipt.from_json, write_result.write_returns)
        self.receipt = commit(Order.from_json(self._order), receipts, s3=self._options.get("s3"))


def arrow_schema(dataset: Dataset) -> pa.Schema | None:
    """The schema of a dataset. None if Arrow's types cannot express it."""
    base = getattr(dataset.schema(), "base_schema", None)
    return base if isinstance(base, pa.Schema) else None


def write(dataset: Dataset, order: Order, **options: Any) -> Receipt:
    """Writes a dataset through an `OrderDatasink`. Returns the receipt of the sync."""
    dataset.write_datasink(sink := OrderDatasink(order, **options))
    assert sink.receipt is not None, "a write that does not fail is committed"
    return sink.receipt
