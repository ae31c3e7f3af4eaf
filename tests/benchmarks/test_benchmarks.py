"""The benchmark compares like with like: its records are the same every time, and all sides land the same records."""

from __future__ import annotations

import csv
import gzip
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import pyarrow.parquet as pq
import pytest

from benchmarks import arrow_landing, loops, stages
from benchmarks.connectors import SCHEMAS as CONNECTOR_SCHEMAS
from benchmarks.dirt import DIRT
from benchmarks.engine_peers import duckdb_work, polars_work
from benchmarks.feeder import feed, stream_names
from benchmarks.landing import destination, format_settings, land_file, land_file_seeded
from benchmarks.local_client import LocalClient
from benchmarks.messages import FEW, USERS, WIDE, MessageFile, message_file, records_of
from benchmarks.parts import Options
from benchmarks.parts.growth import growth
from benchmarks.parts.large_lake import large_lake
from benchmarks.report import publish
from benchmarks.sharded_landing import SOURCES, Work, measure
from s3dest_dagster.batch import StreamBatch
from s3dest_dagster.sources.airbyte.session import read_messages
from s3dest_dagster.stream import StreamId

COUNT = 40
JSON = loops.Json(msgspec.json.decode, msgspec.json.encode)
"""Has the functions of the library that the loops are measured with, which is not among the tests' packages."""
MOMENTS = ("created_at", "updated_at")
FORMATS = ("jsonl", "csv", "avro", "parquet")


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> MessageFile:
    return message_file(USERS, COUNT, tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("kind", [USERS, WIDE, *DIRT, *CONNECTOR_SCHEMAS])
def test_records_are_the_same_every_time(kind):
    first = list(records_of(kind, COUNT))
    assert first == list(records_of(kind, COUNT))
    assert len(first) == COUNT


@pytest.mark.parametrize("kind", DIRT)
def test_dirt_changes_records(kind):
    clean, dirty = list(records_of(USERS, 100)), list(records_of(kind, 100))
    assert clean != dirty


def test_a_message_file_equals_the_output_of_a_source(users: MessageFile):
    with users.path.open("rb", buffering=0) as file:
        items = list(read_messages(file.fileno(), [StreamId(None, "users")]))
    batches = [each.batch for each in items if isinstance(each, StreamBatch)]
    assert sum(each.num_rows for each in batches) == COUNT == users.records


@pytest.mark.parametrize("name", FORMATS)
def test_loop_and_landing_produce_the_same_records(name, users: MessageFile, tmp_path: Path):
    receipt = land_file(users.path, tmp_path / "ours", users.schema, destination(format_settings(name)))
    loops.run(name, users.path, tmp_path / "loop", JSON, 2, users.schema)
    ours = read(name, tmp_path / "ours" / "objects" / receipt.objects[0].key)
    assert ours == read(name, tmp_path / "loop") == [comparable(name, each) for each in records_of(USERS, COUNT)]


@pytest.mark.parametrize("engine", [duckdb_work, polars_work])
@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_engines_write_all_records(name, engine, users: MessageFile, tmp_path: Path):
    engine(name, Path(users.bare_task["messages"]), tmp_path / "out", 2)()
    written = {**READERS, "jsonl": _lines}[name](tmp_path / "out")
    assert [str(each["id"]) for each in written] == [str(each["id"]) for each in records_of(USERS, COUNT)]
    assert {str(each["email"]) for each in written} == {each["email"] for each in records_of(USERS, COUNT)}


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]


def read(name: str, path: Path) -> list[dict[str, Any]]:
    """The records of a file without their envelope, read by a reader that is not ours."""
    return [comparable(name, each) for each in READERS[name](path)]


def _avro_rows(path: Path) -> list[dict[str, Any]]:
    with path.open("rb") as file:
        return list(fastavro.reader(file))


def _jsonl_rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line)["_airbyte_data"] for line in gzip.decompress(path.read_bytes()).splitlines()]


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    return list(csv.DictReader(io.StringIO(gzip.decompress(path.read_bytes()).decode(), newline="")))


READERS = {
    "jsonl": _jsonl_rows,
    "csv": _csv_rows,
    "avro": _avro_rows,
    "parquet": lambda path: pq.ParquetFile(path).read().to_pylist(),
}


def comparable(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """A record's own fields; moments as such, and what a cell of CSV cannot tell apart as the cell's text."""
    own = {key: value for key, value in record.items() if not key.startswith("_airbyte_")}
    if name == "csv":
        return {key: _cell(value) for key, value in own.items()}
    if isinstance(own["address"], dict):
        own["address"] = {key: each for key, each in own["address"].items() if not key.startswith("_airbyte_")}
    return {key: _moment(value) if key in MOMENTS else value for key, value in own.items()}


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value if isinstance(value, dict) else str(value)


def _moment(value: Any) -> datetime:
    return datetime.fromisoformat(value) if isinstance(value, str) else value


@pytest.mark.parametrize("name", FORMATS)
def test_stages_make_the_bytes_of_all_records(name, users: MessageFile, tmp_path: Path):
    watch = stages.measure(name, users.path, tmp_path / "out", users.schema)
    assert all(seconds > 0 for seconds in watch.seconds.values())
    assert rows_of_stages(name, tmp_path / "out", watch) == COUNT


def rows_of_stages(name: str, path: Path, watch: stages.Stopwatch) -> int:
    if name == "parquet":
        return pq.ParquetFile(path).metadata.num_rows
    if name == "avro":  # bodies without a container
        assert path.stat().st_size
        return watch.records
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        return len(list(csv.reader(file))) if name == "csv" else len(file.readlines())


@pytest.mark.parametrize("name", FORMATS)
def test_a_seeded_landing_is_the_same_with_any_number_of_workers(name, users: MessageFile, tmp_path: Path):
    checksums = set()
    for workers in (1, 2):
        settings = destination(format_settings(name), encode_workers=workers)
        receipt = land_file_seeded(users.path, tmp_path / str(workers), users.schema, settings)
        checksums.add(tuple(each.crc32 for each in receipt.objects))
    assert len(checksums) == 1


def test_a_feeder_takes_turns_between_streams(users: MessageFile, tmp_path: Path):
    with (tmp_path / "fed").open("wb") as out:
        feed(users.path, 2 * users.nbytes, 3, out.fileno())
    names = [json.loads(line)["record"]["stream"] for line in (tmp_path / "fed").read_bytes().splitlines()]
    assert len(names) == 2 * COUNT
    assert names[:4] == [*stream_names(3), stream_names(3)[0]]


def test_the_local_client_lists_by_pages_and_counts_calls(tmp_path: Path):
    client = LocalClient(tmp_path)
    client.fill(f"data/{number:04}" for number in range(1500))
    client.fill(["other/key"])
    page = client.list_objects_v2(Bucket="lake", Prefix="data/")
    rest = client.list_objects_v2(Bucket="lake", Prefix="data/", ContinuationToken=page["NextContinuationToken"])
    assert (len(page["Contents"]), page["IsTruncated"]) == (1000, True)
    assert (len(rest["Contents"]), rest["IsTruncated"]) == (500, False)
    assert client.calls == {"ListObjectsV2": 2}


def test_the_local_client_lists_directories(tmp_path: Path):
    client = LocalClient(tmp_path)
    client.fill(["data/a/1", "data/a/b/2", "data/c/3", "data/plain", "other/d/4"])
    client.fill(f"many/{number:04}/key" for number in range(1001))
    answer = client.list_objects_v2(Bucket="lake", Prefix="data/", Delimiter="/")
    assert [each["Prefix"] for each in answer["CommonPrefixes"]] == ["data/a/", "data/c/"]
    page = client.list_objects_v2(Bucket="lake", Prefix="many/", Delimiter="/")
    token = page["NextContinuationToken"]
    rest = client.list_objects_v2(Bucket="lake", Prefix="many/", Delimiter="/", ContinuationToken=token)
    assert (len(page["CommonPrefixes"]), page["IsTruncated"]) == (1000, True)
    assert ([each["Prefix"] for each in rest["CommonPrefixes"]], rest["IsTruncated"]) == (["many/1000/"], False)


def test_a_measurement_is_published_in_its_own_section(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "a\n<!-- measured: one -->\nold\n<!-- /measured -->\n<!-- measured: two -->\nkept\n<!-- /measured -->\n"
    )
    publish("one", "new", page)
    assert page.read_text().count("kept") == 1
    assert "old" not in page.read_text()
    assert "\nnew\n" in page.read_text()
    with pytest.raises(KeyError, match="three"):
        publish("three", "text", page)


def test_a_large_lake_is_a_multiple_of_one_object_and_one_part():
    options = Options(
        records=50, rounds=1, gigabytes=(), objects=1, partitions=1, sizes=(), with_dlt=False, say=lambda text: None
    )
    rows = [line.strip("| ").split(" | ") for line in large_lake(options).text.splitlines() if line.startswith("|")]
    figures = {row[0]: row[1:] for row in rows}
    assert (
        figures["one more object of one part"][0] == "1 CreateMultipartUpload, 1 UploadPart, 1 CompleteMultipartUpload"
    )
    assert figures["one more part of an object"][0] == "1 UploadPart"
    # 100 TB / 200 MB, and 200 MB / 8 MiB for each of them.
    assert (figures["objects"], figures["parts"]) == (["500,000"], ["11,920,929"])
    assert figures["requests"] == ["12,920,929"]
    assert figures["objects of a sync"] == ["500,000", "20,833", "500"]


def test_growth_says_what_does_not_grow_and_what_does():
    options = Options(
        records=1, rounds=1, gigabytes=(), objects=1, partitions=1, sizes=(3, 6), with_dlt=False, say=lambda text: None
    )
    rows = [line.split(" | ") for line in growth(options).text.splitlines()]
    calls = {row[0].lstrip("| "): float(row[1]) for row in rows if len(row) == 3 and row[1][0].isdigit()}
    assert calls["landing the next partition"] == calls["partitions: registry lost"] == 0
    assert 0.5 < calls["partitions: registry and copy lost"] <= 1
    assert 0.5 < calls["objects of one commit: commit"] <= 1
    assert 0.5 < calls["partitions: ls"] <= 1
    assert 0.5 < calls["streams of one sync"] <= 1.01


@pytest.mark.parametrize("name", ["jsonl", "csv", "parquet"])
def test_columns_are_written_by_a_landing_and_by_the_library_alone_in_about_the_same_bytes(name):
    rows = arrow_landing.orders(2_000)
    assert rows.equals(arrow_landing.orders(2_000))
    ours, alone = arrow_landing.landed(name, rows), arrow_landing.written_alone(name, rows)
    assert ours == pytest.approx(alone, rel=0.3)


@pytest.mark.parametrize("source", SOURCES)
def test_two_processes_land_what_one_lands(source, tmp_path: Path):
    one, two = (measure("jsonl", Work(source, FEW, tmp_path), number) for number in (1, 2))
    expected = FEW if source in ("messages", "JSON Lines files") else 4 * FEW
    assert one["records"] == two["records"] == expected
    assert (len(one["processes"]), len(two["processes"])) == (0, 2)
    assert two["wall_s"] > 0
