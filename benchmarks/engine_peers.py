"""Engines that a user could take instead: DuckDB and Polars, which read JSON records and write one file, on one thread.

They get less to do than a landing, and do less (`LESS` says what). They must not know what they are compared with.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

LESS = (
    "They read bare records, one JSON object per line, without a message around each.",
    "Their types are inferred. Dates that the engine does not recognise stay text.",
    "Numbers with a fraction are doubles, also those with more digits than a double holds.",
    "A value of another type is an error or changes its column; nothing overflows, and nothing is counted.",
    "A name that stands twice in a record is an error, or one of its values is lost.",
    "No record id, no moment of emission, no checksum, no manifest, no commit: a reader can see half a file.",
    "Polars holds all records in memory at once.",
)
"""What the engines do less than a landing."""


def duckdb_work(file_format: str, records: Path, output: Path, level: int) -> Callable[[], None]:
    """Reads the records and writes one file (jsonl, csv or parquet). DuckDB chooses the level of gzip itself."""
    import duckdb

    options = {"parquet": "FORMAT parquet, COMPRESSION snappy", "csv": "FORMAT csv, COMPRESSION gzip"}
    written = options.get(file_format, "FORMAT json, COMPRESSION gzip")

    def work() -> None:
        with duckdb.connect(config={"threads": 1}) as connection:
            source = f"read_json('{records}', format = 'newline_delimited')"
            columns = "*"
            if file_format == "csv":  # a cell has JSON text, as ours has
                described = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
                nested = [name for name, type_, *_ in described if type_.startswith("STRUCT") or type_.endswith("[]")]
                replaced = ", ".join(f'to_json("{name}") AS "{name}"' for name in nested)
                columns = f"* REPLACE ({replaced})" if nested else "*"
            connection.execute(f"COPY (SELECT {columns} FROM {source}) TO '{output}' ({written})")

    return work


def polars_work(file_format: str, records: Path, output: Path, level: int) -> Callable[[], None]:
    """Reads the records and writes one file (jsonl, csv, avro or parquet). Texts are compressed by isal's gzip."""
    import polars

    writers: Mapping[str, Callable[[Any], None]] = {
        "parquet": lambda frame: frame.write_parquet(output, compression="snappy"),
        "avro": lambda frame: frame.write_avro(output, compression="deflate"),
        "csv": lambda frame: _compressed(_with_json_cells(frame).write_csv, output, level),
        "jsonl": lambda frame: _compressed(frame.write_ndjson, output, level),
    }
    return lambda: writers[file_format](polars.read_ndjson(records))


def _with_json_cells(frame: Any) -> Any:
    """The frame with the JSON text of objects in place of them."""
    import polars

    objects = [name for name, type_ in frame.schema.items() if type_ == polars.Struct]
    return frame.with_columns(polars.col(name).struct.json_encode() for name in objects)


def _compressed(write: Callable[[Any], Any], output: Path, level: int) -> None:
    from isal import igzip

    text = io.BytesIO()
    write(text)
    with igzip.open(output, "wb", level) as file:  # type: ignore[no-untyped-call]  # it has no types
        file.write(text.getbuffer())
