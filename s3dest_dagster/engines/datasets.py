"""The engines and their datasets. Class names distinguish them, so that no unused engine is imported.

Must not know: how an engine works.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any, Protocol

import pyarrow as pa

from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.shards import Order


class Engine(Protocol):
    """The module of an adapter."""

    def arrow_schema(self, dataset: Any) -> pa.Schema | None:
        """The schema of a dataset. None if the dataset does not know it, so that the stream must declare one."""

    def write(self, dataset: Any, order: Order, **options: Any) -> Receipt:
        """Stages a dataset in the engine's workers, and commits it.

        Args:
            dataset: The engine's own dataset.
            order: The order of the sync.
            options: Further arguments of `stage`, which travel to the workers: `s3`, `hash_key`, `on_progress`.
        """


_MODULES = {
    "dask.dataframe": "dask",
    "dask.bag": "dask",
    "dask.delayed": "dask",
    "pyspark.sql": "spark",
    "ray.data": "ray",
}
"""The adapter by the beginning of the module that defines the class of a dataset."""
_CLASSES = {"DataFrame", "Bag", "Delayed", "DelayedLeaf", "Dataset", "MaterializedDataset"}


def engine_of(value: Any) -> Engine | None:
    """The adapter for a value. None if the value is no engine's dataset.

    A list of `dask.delayed` values is a dataset, each value being a shard.
    """
    first = value[0] if isinstance(value, Sequence) and not isinstance(value, str | bytes) and value else value
    for kind in type(first).__mro__:
        name = next((each for each in _MODULES if f"{kind.__module__}.".startswith(f"{each}.")), None)
        if name is not None and kind.__name__ in _CLASSES and (first is value or name == "dask.delayed"):
            adapter: Engine = import_module(f"{__package__}.{_MODULES[name]}")
            return adapter
    return None
