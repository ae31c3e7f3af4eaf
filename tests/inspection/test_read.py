"""A reader of the manifest gets exactly one generation. What the manifest promises is compared with what is read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import dagster as dg
import pyarrow as pa
import pytest
from failing_clients import OvertakenClient
from land_and_read import batch_of, data_keys, destination, sync, target, users
from land_and_read import stream as users_stream
from servers import S3Server

from s3dest_dagster.dagster.loading import load_input
from s3dest_dagster.errors import ObjectNotFoundError, ObjectReplacedError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.read import read_scope, read_tables
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, Flattening, ParquetFormat, TextCompression
from s3dest_dagster.storage import Bucket
from s3dest_dagster.stream import Scope, Stream, SyncMode

PLAIN_CSV = CsvFormat(flattening=Flattening.ROOT, compression=TextCompression.NONE, column_order="sorted")
_numbers = count()
USERS = Scope(users_stream().id)


def columns(*names: str) -> Stream:
    """The stream with these integer columns."""
    schema = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    return Stream(name="users", namespace="public", json_schema=schema)


def compact(server: S3Server, stream: Stream, *records: dict, **settings: object) -> S3Destination:
    """A destination in which each sync writes the same key, with a sync of these records."""
    place = destination(
        server.new_bucket(),
        **{"s3_path_format": "${STREAM_NAME}/", "file_name_pattern": "latest{format_extension}", **settings},
    )
    landed(server, place, stream, *records)
    return place


def landed(server: S3Server, place: S3Destination, stream: Stream, *records: dict) -> None:
    with target(server, place) as opened:
        land([batch_of(records)], opened, stream, sync(f"s{next(_numbers)}"))


def overtaken(server: S3Server, place: S3Destination, other: Callable[[], object], key: str = "latest.csv") -> Bucket:
    """The bucket of a reader whom another writer overtakes just before the read of the object."""
    return Bucket(OvertakenClient(server.client(), "get_object", other, key=key), place.s3_bucket_name)


def rows_of(table: pa.Table) -> list[dict]:
    return table.select([name for name in table.column_names if not name.startswith("_airbyte_")]).to_pylist()


def test_a_reader_who_is_overtaken_in_place_gets_the_new_generation_whole(any_s3: S3Server) -> None:
    place = compact(any_s3, columns("a", "b"), {"a": 1, "b": 2}, format=PLAIN_CSV)
    reader = overtaken(any_s3, place, lambda: landed(any_s3, place, columns("b", "c"), {"b": 3, "c": 4}))
    assert rows_of(read_scope(reader, place.template, USERS)) == [{"b": 3, "c": 4}]


def test_tables_are_also_those_of_the_new_generation(moto_s3: S3Server) -> None:
    place = compact(moto_s3, users_stream(), *users(1, 3))
    again = lambda: landed(moto_s3, place, users_stream(), *users(10, 11))  # noqa: E731
    tables = list(read_tables(overtaken(moto_s3, place, again, "latest.jsonl"), place.template, USERS))
    assert [each["id"].to_pylist() for each in tables] == [[10, 11]]


def test_a_reader_overtaken_after_the_first_table_gets_an_error_instead_of_a_mixture(moto_s3: S3Server) -> None:
    place = compact(moto_s3, users_stream(), *users(1, 40), file_name_pattern="", object_size_mb=1)
    with target(moto_s3, place) as opened:
        wide = [{"id": number, "name": "x" * 300_000} for number in range(8)]
        land([batch_of([each]) for each in wide], opened, users_stream(), sync("wide"))
    first, second, *_ = data_keys(moto_s3, place.s3_bucket_name)
    bucket = moto_s3.open(place)
    reading = read_tables(bucket, place.template, USERS)
    next(reading)
    landed(moto_s3, place, users_stream(), *users(1, 2))
    with pytest.raises(
        ObjectNotFoundError, match=r"another sync of public\.users was published\. Read it again"
    ) as told:
        list(reading)
    assert told.value.key == second
    assert first != second


@pytest.mark.parametrize("deep", [False, True])
def test_an_object_that_another_program_replaced_is_reported(any_s3: S3Server, deep: bool) -> None:
    place = compact(any_s3, columns("a"), {"a": 1}, format=PLAIN_CSV)
    bucket = any_s3.open(place)
    content = bucket.get("data/users/latest.csv")[0]
    bucket.put("data/users/latest.csv", content[:-3] + b"7" + content[-2:])
    if not deep:
        with pytest.raises(ObjectReplacedError, match=r"was replaced by somebody else.*s3dest verify"):
            read_scope(bucket, place.template, USERS)
    assert verify(bucket, place.template, USERS, deep=True).problems


def test_an_object_that_another_program_deleted_is_reported(moto_s3: S3Server) -> None:
    place = compact(moto_s3, columns("a"), {"a": 1}, format=PLAIN_CSV)
    bucket = moto_s3.open(place)
    bucket.delete(["data/users/latest.csv"])
    with pytest.raises(ObjectNotFoundError, match="was deleted by somebody else"):
        read_scope(bucket, place.template, USERS)


def test_the_same_bytes_with_a_different_etag_are_accepted(moto_s3: S3Server) -> None:
    """A copy has another ETag, and so has a server with its own rule for ETags."""
    place = compact(moto_s3, columns("a"), {"a": 1}, format=PLAIN_CSV)
    bucket = moto_s3.open(place)
    bucket.put("data/users/latest.csv", bucket.get("data/users/latest.csv")[0])
    assert rows_of(read_scope(bucket, place.template, USERS)) == [{"a": 1}]


@pytest.mark.parametrize("annotation", [pa.Table, list, dict, pa.RecordBatchReader])
@pytest.mark.parametrize("same", [True, False])
def test_an_input_and_its_columns_are_of_the_same_generation(moto_s3: S3Server, annotation: type, same: bool) -> None:
    place = compact(moto_s3, columns("a", "b"), {"a": 1, "b": 2}, format=PLAIN_CSV)
    names = ("a", "b") if same else ("b", "c")
    newer = dict(zip(names, (3, 4), strict=True))
    reader = overtaken(moto_s3, place, lambda: landed(moto_s3, place, columns(*names), newer))
    context = dg.build_input_context(
        asset_key=dg.AssetKey(["public", "users"]),
        dagster_type=dg.PythonObjectDagsterType(annotation),
    )
    if annotation is pa.RecordBatchReader and not same:
        # The columns are known before the rows are read.
        with pytest.raises(ObjectReplacedError, match="Read it again"):
            load_input(context, place, reader).read_all()
        return
    loaded = load_input(context, place, reader)
    if isinstance(loaded, pa.RecordBatchReader):
        loaded = loaded.read_all()
    if isinstance(loaded, dict):
        (loaded,) = loaded.values()
    rows = rows_of(loaded) if isinstance(loaded, pa.Table) else loaded
    assert [{name: value for name, value in row.items() if not name.startswith("_airbyte")} for row in rows] == [newer]


def test_a_scope_is_read_as_it_was_before_a_concurrent_append(moto_s3: S3Server) -> None:
    place = destination(moto_s3.new_bucket())
    for number in (1, 2):
        with target(moto_s3, place) as opened:
            land([batch_of(users(number, number))], opened, users_stream(mode=SyncMode.APPEND), sync(f"a{number}"))

    def append() -> None:
        with target(moto_s3, place) as opened:
            land([batch_of(users(3, 3))], opened, users_stream(mode=SyncMode.APPEND), sync("a3"))

    reader = overtaken(moto_s3, place, append, ".jsonl")
    assert read_scope(reader, place.template, USERS)["id"].to_pylist() == [1, 2]


def test_a_column_takes_its_type_from_the_objects_that_have_one(moto_s3: S3Server) -> None:
    """Of this column there are only cells in CSV, which have no type, when the first typed object has it."""
    bucket = moto_s3.new_bucket()
    of_nulls, integer = {"type": "array", "items": {"type": "null"}}, {"type": "integer"}
    for settings, properties, record in (
        (PLAIN_CSV, {"a": of_nulls}, {"a": [None]}),
        (ParquetFormat(), {"b": integer}, {"b": 2}),
        (AvroFormat(), {"a": integer}, {"a": 3}),
    ):
        stream = Stream(name="users", json_schema={"properties": properties}, sync_mode=SyncMode.APPEND)
        place = destination(bucket, format=settings)
        landed(moto_s3, place, stream, record)
    table = read_scope(moto_s3.open(place), place.template, Scope(stream.id))
    assert table is not None
    assert sorted(map(str, rows_of(table))) == [
        "{'a': 3, 'b': None}",
        "{'a': None, 'b': 2}",
        "{'a': None, 'b': None}",
    ]
