"""The same work by dlt: dicts in, files of its filesystem destination out. Runs where dlt is installed.

dlt has its defaults, except for two settings that make it cheaper: nested values stay in their table, and gzip uses the
level of the comparison (dlt has no setting for it, and uses 9). It must not know the library that it is compared
with.
"""

from __future__ import annotations

import gzip
import os
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.loops import Json, records

_PAGE = 2000
SETTINGS = {
    "RUNTIME__DLTHUB_TELEMETRY": "false",
    "RUNTIME__LOG_LEVEL": "ERROR",
    "NORMALIZE__WORKERS": "1",
    "EXTRACT__WORKERS": "1",
    "LOAD__WORKERS": "1",
}
"""What is set in dlt's environment: one worker each, and no calls to anybody."""


def load(messages: Path, output: Path, json: Json, file_format: str, gzip_level: int | None) -> None:
    """Runs a pipeline that leaves its files under `output`. `file_format` is dlt's name for it."""
    import dlt

    set_up(gzip_level)
    users = dlt.resource(_pages(messages, json), name="users", max_table_nesting=0)
    pipeline_into(output).run(users, loader_file_format=file_format)


def set_up(gzip_level: int | None) -> None:
    """Sets the settings of dlt in this process."""
    os.environ.update(SETTINGS)
    if gzip_level is not None:
        gzip.open = partial(gzip.open, compresslevel=gzip_level)  # type: ignore[assignment]


def pipeline_into(output: Path) -> Any:
    """A pipeline that leaves its files under `output`/lake/peer, one folder for each table."""
    import dlt

    return dlt.pipeline(
        "peer",
        destination=dlt.destinations.filesystem(bucket_url=(output / "lake").as_uri()),
        dataset_name="peer",
        pipelines_dir=str(output / "pipelines"),
    )


def _pages(messages: Path, json: Json) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for record in records(messages, json):
        data: dict[str, Any] = record["data"]
        data["_airbyte_ab_id"] = str(uuid.uuid4())
        data["_airbyte_emitted_at"] = record["emitted_at"]
        page.append(data)
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page
