"""`s3dest demo`: a week of a shop's records, landed by Dagster in an S3 server on this machine, and looked at.

Must not know: the command line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from s3dest_dagster.cli import inspect
from s3dest_dagster.cli.output import Output, Table
from s3dest_dagster.cli.selections import SelectionOptions
from s3dest_dagster.cli.signals import ended_by_ctrl_c
from s3dest_dagster.commit.commit_log import CommitLog
from s3dest_dagster.commit.documents import segment_key
from s3dest_dagster.inspection.read import LiveObject
from s3dest_dagster.local import demo as parts
from s3dest_dagster.local.project import Connector
from s3dest_dagster.local.s3_server import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, LocalS3, local_s3
from s3dest_dagster.printable import amount, size
from s3dest_dagster.storage import open_bucket
from s3dest_dagster.stream import Scope

_PLANNED = "purchases"
_QUERY = """\
SELECT make, count(*) AS sold, sum(price)::BIGINT AS revenue
FROM '{bucket}/lake/purchases/*/*.parquet' AS purchases
JOIN '{bucket}/lake/products/*.parquet' AS products ON product_id = products.id
GROUP BY make ORDER BY revenue DESC LIMIT 5"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoRequest:
    """What the demo does."""

    ui: bool = False
    """Whether the web interface follows."""
    keep: Path | None = None
    """The folder that stays. None: everything is deleted at the end."""
    source: str | None = None
    """The connector's executable. None: the one that is there."""


def demo(output: Output, request: DemoRequest) -> int:
    """Shows the demo.

    Raises:
        MissingExtraError: A package of the extra `demo` is missing.
        SettingsError: The folder holds other files.
        SourceError: The connector or the run failed.
    """
    parts.check_packages()
    today = datetime.now(UTC).date()
    with parts.demo_folder(request.keep) as folder, local_s3(folder.lake, log=folder.log("s3")) as s3:
        _heading(output, "S3 server", f"{s3.endpoint}, objects as plain files in {folder.lake / s3.bucket}")
        connector = parts.connector(request.source)
        parts.write_demo_project(folder, connector, today)
        _heading(output, "Project", f"{folder.project}, three streams of `{connector.command}`")
        _show_plan(output, folder, s3, connector, parts.days(today)[1])
        variables = parts.environment(folder, s3)
        _land(output, folder, variables, today)
        _show_landed(output, s3)
        _show_query(output, folder, s3)
        if request.ui:
            _serve_ui(output, folder, variables)
        else:
            _say_what_next(output, request)
    return 0


def _heading(output: Output, title: str, note: str = "") -> None:
    if (screen := output.screen) is not None:
        screen.sentence("")
        screen.heading(title, note)
    else:
        output.show("")
        output.show(f"{title}: {note}" if note else title)


# ---------------------------------------------------------------------- plan


def _show_plan(output: Output, folder: parts.DemoFolder, s3: LocalS3, connector: Connector, day: str) -> None:
    """Shows the plan of a sync, as `s3dest plan` does. Its files are those that the command takes."""
    _heading(output, "Plan", f"what a sync of {_PLANNED} of {day} would write; nothing has landed yet")
    config, catalog = folder.root / "config.json", folder.root / "catalog.json"
    config.write_text(json.dumps(_config(s3), indent=2), "utf-8")
    catalog.write_text(json.dumps(_configured(connector.catalog), indent=2), "utf-8")
    inspect.plan(output, SelectionOptions(str(config), str(catalog), partition=day), None, None)


def _config(s3: LocalS3) -> dict[str, Any]:
    return {
        "s3_bucket_name": s3.bucket,
        "s3_bucket_path": "lake",
        "s3_path_format": "${STREAM_NAME}/day=${PARTITION}/",
        "s3_bucket_region": REGION,
        "s3_endpoint": s3.endpoint,
        "access_key_id": ACCESS_KEY_ID,
        "secret_access_key": SECRET_ACCESS_KEY,
        "format": {"format_type": "Parquet", "compression_codec": "SNAPPY"},
    }


def _configured(catalog: Any) -> dict[str, Any]:
    """The catalog that syncs the planned stream as the project does."""
    (stream,) = (each for each in catalog["streams"] if each["name"] == _PLANNED)
    return {"streams": [{"stream": stream, "sync_mode": "full_refresh", "destination_sync_mode": "append"}]}


# ---------------------------------------------------------------------- landing


def _land(output: Output, folder: parts.DemoFolder, variables: dict[str, str], today: date) -> None:
    first, last = parts.days(today)
    _heading(output, "Landing", f"one run of Dagster, {first} to {last}")
    for line in parts.land(folder, variables, first, last):
        output.show(f"  {line}" if line is not None else "  … Dagster is at work")


def _show_landed(output: Output, s3: LocalS3) -> None:
    """Shows the objects, and the receipt of the last sync."""
    landed = list(parts.landed(s3))
    rows = sum(each.item.rows for _, each in landed)
    summary = f"{amount(len(landed), 'object')}, {amount(rows, 'row')}, {size(sum(o.item.bytes for _, o in landed))}"
    _heading(output, "Objects", summary)
    _show_table(output, Table(("stream", "partition", "rows", "size", "object"), _rows(landed), _NUMBERS))
    _show_receipt(output, s3, *landed[-1])


_NUMBERS = frozenset({"rows", "size"})


def _rows(landed: Sequence[tuple[Scope, LiveObject]]) -> list[tuple[str, ...]]:
    return [
        (str(scope.stream), scope.partition or "", f"{each.item.rows:,}", size(each.item.bytes), each.item.key)
        for scope, each in landed
    ]


def _show_receipt(output: Output, s3: LocalS3, scope: Scope, last: LiveObject) -> None:
    bucket, template = open_bucket(s3.connection, s3.bucket), parts.destination(s3).template
    location = CommitLog.of(bucket, template, scope).root
    _heading(output, "Receipt", f"the last sync of {scope}, {bucket.uri(segment_key(location, last.sync.segment))}")
    counts, tally = last.segment.counts, last.segment.counts.tally
    output.show(
        f"  {amount(counts.read, 'record')} read = {counts.landed:,} landed + {counts.quarantined:,} quarantined"
    )
    respelt, kept = sum(tally.coerced.values()), sum(tally.overflowed.values())
    output.show(
        f"  {amount(respelt, 'value')} respelt to fit a column, {amount(kept, 'value')} kept as text beside them"
    )


def _show_table(output: Output, table: Table) -> None:
    if (screen := output.screen) is not None:
        screen.table(table)
        return
    cells = [table.headings, *table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.headings))]
    for row in cells:
        columns = zip(row, widths, table.headings, strict=True)
        output.show(
            "  " + "  ".join(f"{c:>{w}}" if name in table.numbers else f"{c:<{w}}" for c, w, name in columns).rstrip()
        )


# ---------------------------------------------------------------------- query


def _show_query(output: Output, folder: parts.DemoFolder, s3: LocalS3) -> None:
    """Shows what DuckDB reads from the plain files."""
    import duckdb

    _heading(output, "Query", f"DuckDB in {folder.lake}")
    shown = _QUERY.format(bucket=s3.bucket)
    for line in shown.splitlines():
        output.show(f"  {line}")
    with duckdb.connect() as connection:
        answer = connection.execute(_QUERY.format(bucket=folder.lake / s3.bucket))
        names = tuple(column[0] for column in answer.description)
        rows = [(str(make), f"{sold:,}", f"{revenue:,}") for make, sold, revenue in answer.fetchall()]
    _show_table(output, Table(names, rows, frozenset(names[1:])))


# ---------------------------------------------------------------------- the web interface, and the end


def _serve_ui(output: Output, folder: parts.DemoFolder, variables: dict[str, str]) -> None:
    _heading(output, "Web interface", "Dagster starts it")
    with parts.web_interface(folder, variables) as (address, process):
        for _ in parts.wait_until_served(address, process, folder.log("dagster")):
            output.show("  … it is starting")
        output.show(f"  {address}  (Ctrl-C ends it, and the S3 server)")
        with ended_by_ctrl_c():
            process.wait()


def _say_what_next(output: Output, request: DemoRequest) -> None:
    _heading(output, "Next")
    output.show("  s3dest demo --ui         the same in Dagster's web interface")
    output.show("  s3dest init my_project   a project of your own")
    if request.keep is not None:
        output.show(f"Everything stays in {request.keep}.")
