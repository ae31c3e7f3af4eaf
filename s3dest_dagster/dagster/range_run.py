"""Lands all assets of a module in one run: `python -m s3dest_dagster.dagster.range_run MODULE FIRST LAST`.

The demo starts it as a process of its own. It is quick, because the run starts no further process of Dagster and the
definitions are loaded once. Must not know: which assets there are.
"""

from __future__ import annotations

import argparse
from importlib import import_module

import dagster as dg

_FIRST, _LAST = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"


def land_range(defs: dg.Definitions, first: str, last: str, instance: dg.DagsterInstance) -> bool:
    """Lands the assets of the definitions, those with partitions for all partitions of a range.

    Args:
        defs: The definitions. All assets that have partitions have the same ones.
        first, last: The keys of the first and the last partition.
        instance: Keeps the run.

    Returns:
        Whether the run has succeeded. What has failed is in the instance's event log, and in the log of this process.

    Example:
        ```python
        with dg.DagsterInstance.get() as instance:
            assert land_range(defs, "2026-01-01", "2026-01-07", instance)
        ```
    """
    job = defs.resolve_implicit_global_asset_job_def()
    return job.execute_in_process(instance=instance, tags={_FIRST: first, _LAST: last}, raise_on_error=False).success


def main() -> None:
    """Lands what the arguments name. The exit code is 0 on success."""
    parser = argparse.ArgumentParser(description="Land all assets of a module in one run.")
    parser.add_argument("module")
    parser.add_argument("first")
    parser.add_argument("last")
    options = parser.parse_args()
    with dg.DagsterInstance.get() as instance:
        done = land_range(import_module(options.module).defs, options.first, options.last, instance)
    raise SystemExit(0 if done else 1)


if __name__ == "__main__":
    main()
