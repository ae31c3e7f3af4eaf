"""What a sync is called when Dagster starts it: the same when Dagster tries again, another when a person does.

What a sync has from outside beside its id, its time and its UUID, is drawn here too. It must not know what is landed.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg

from s3dest_dagster.settings.connector_config import JOB_ID_VARIABLE
from s3dest_dagster.stream import Sync

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


# ---------------------------------------------------------------------- what is drawn from outside


def now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Milliseconds since 1970."""
    return int(now().timestamp() * 1000)


def new_sync(identity: str) -> Sync:
    """A sync of this id that begins now."""
    return Sync(identity, now(), str(uuid.uuid4()), os.environ.get(JOB_ID_VARIABLE, ""))


def delivery_id() -> str:
    """The id of the run whose delivery this step is a part of; outside of a run one that is drawn."""
    execution = current_execution()
    if execution is None:
        return str(uuid.uuid4())
    return delivering_run(execution.run, execution.instance.get_run_by_id)


def current_execution() -> dg.AssetExecutionContext | None:
    """The asset's execution context, where a step runs."""
    try:
        return dg.AssetExecutionContext.get()
    except dg.DagsterInvariantViolationError:
        return None
