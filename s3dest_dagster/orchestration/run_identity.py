"""What a sync is called when Dagster starts it: the same when Dagster tries again, another when a person does.

It must not know what is landed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import dagster as dg

_PARENT = "dagster/parent_run_id"
_RETRY_NUMBER = "dagster/retry_number"
_RESUMED = ("dagster/is_resume_retry", "dagster/is_asset_resume_retry")

FindRun = Callable[[str], dg.DagsterRun | None]


def delivering_run(run: dg.DagsterRun, find: FindRun) -> str:
    """The id of the run whose delivery this is: the run itself, or the one that it goes on with.

    A run goes on with its parent when Dagster retries it, or when a person re-executes it from failure. A run
    re-executed as a whole is a delivery of its own, and so are the retries of that one.
    """
    while _goes_on(run) and (parent_id := run.tags.get(_PARENT)):
        parent = find(parent_id)
        if parent is None:
            return parent_id
        run = parent
    return run.run_id


def _goes_on(run: dg.DagsterRun) -> bool:
    return _RETRY_NUMBER in run.tags or any(run.tags.get(tag) == "true" for tag in _RESUMED)


def sync_id(run_id: str, asset_key: dg.AssetKey, partition: str | None) -> str:
    """The id of the sync of one scope in a run: the run's id and a digest of asset and partition, printable ASCII."""
    scope = "\n".join([*asset_key.path, "" if partition is None else f"[{partition}]"])
    return f"{run_id}-{hashlib.sha256(scope.encode()).hexdigest()[:12]}"
