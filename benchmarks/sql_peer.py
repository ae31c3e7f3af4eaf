"""The same table by dlt with its connectorx backend: `python -m benchmarks.sql_peer TASK`, where dlt is installed.

The task is that of `sql_landing`, with the `level` of gzip. dlt streams the rows in batches of its default size: it
would hold the whole table in memory otherwise. It must not know the library that it is compared with.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.contestant import measured_work
from benchmarks.dlt_peer import pipeline_into, set_up

_PACKAGES = ("dlt", "connectorx", "pyarrow")


def main() -> None:
    task = json.loads(sys.argv[1])
    set_up(task["level"])
    with TemporaryDirectory(prefix="s3dest-bench-") as warm, TemporaryDirectory(prefix="s3dest-bench-") as folder:
        loaded(task, task["few"], Path(warm))
        measured = measured_work(lambda: loaded(task, task["table"], Path(folder)))
    print(json.dumps(measured | {"versions": {name: version(name) for name in _PACKAGES}}))


def loaded(task: Mapping[str, Any], table: str, folder: Path) -> Mapping[str, int]:
    """Runs a pipeline. Returns the bytes of its files."""
    from dlt.sources.sql_database import sql_table

    rows = sql_table(
        # SQLAlchemy, which reads the columns, takes another driver by default.
        task["uri"].replace("postgresql:", "postgresql+psycopg2:"),
        table=table,
        backend="connectorx",
        backend_kwargs={"return_type": "arrow_stream"},
    )
    pipeline_into(folder).run(rows, loader_file_format=task["format"])
    written = (folder / "lake" / "peer" / table).rglob("*")
    return {"bytes": sum(each.stat().st_size for each in written if each.is_file())}


if __name__ == "__main__":
    main()
