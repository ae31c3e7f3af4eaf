"""One line reads a stream into a frame, without Dagster: exactly the records that its manifests list."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from itertools import count

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from land_and_read import (
    DIRECTORIES,
    START,
    batch_of,
    data_keys,
    destination,
    sync,
    target,
    users,
    users_of_two_names,
)
from land_and_read import stream as users_stream
from recording_proxy import recording_proxy
from servers import S3Server

from s3dest_dagster import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat, S3Connection, Scope, StreamId, read
from s3dest_dagster.commit.retirement import retire
from s3dest_dagster.dagster.loading import load_input
from s3dest_dagster.errors import (
    BucketNotFoundError,
    MissingExtraError,
    ObjectNotFoundError,
    S3DestError,
    SettingsError,
)
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.inspection.stream_reader import StreamReader
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.stream import Stream, SyncMode

_numbers = count()
APPEND = users_stream(mode=SyncMode.APPEND)


def opened(server: S3Server, place: S3Destination, stream: str | StreamId = "public.users", **options) -> StreamReader:
    path = f"s3://{place.s3_bucket_name}/{place.s3_bucket_path}"
    return read(path, stream, connection=server.connection, **options)


def landed(
    server: S3Server, place: S3Destination, stream: Stream, *records: dict, partition: str | None = None
) -> None:
    with target(server, place) as open_target:
        scope = Scope(stream.id, partition)
        land([batch_of(records)], open_target, stream, sync(f"s{next(_numbers)}"), scope=scope)


@pytest.fixture(scope="module")
def lake(moto_s3: S3Server) -> S3Destination:
    """Two syncs of an append stream with a directory for each name, which other tests only read."""
    place = destination(moto_s3.new_bucket(), **DIRECTORIES, format=ParquetFormat())
    stream = users_stream(mode=SyncMode.APPEND, settings=place)
    with target(moto_s3, place) as open_target:
        land([batch_of(users_of_two_names(1, 4))], open_target, stream, sync("first", START))
        land([batch_of(users_of_two_names(5, 6))], open_target, stream, sync("second", START + timedelta(days=1)))
    return place


def ids(table: pa.Table) -> list[int]:
    return sorted(table.column("id").to_pylist())


@pytest.mark.parametrize("kind", [AvroFormat, CsvFormat, JsonlFormat, ParquetFormat])
def test_a_reader_gives_what_an_input_of_an_asset_has(moto_s3, kind):
    place = destination(moto_s3.new_bucket(), format=kind())
    landed(moto_s3, place, APPEND, *users(1, 3))
    landed(moto_s3, place, APPEND, *users(4, 5))
    users_of_an_input = dg.build_input_context(
        asset_key=dg.AssetKey(["public", "users"]), dagster_type=dg.PythonObjectDagsterType(pa.Table)
    )
    loaded = load_input(users_of_an_input, place, moto_s3.open(place))
    assert loaded.num_rows == 5
    assert opened(moto_s3, place).arrow().equals(loaded)


def test_each_form_has_every_record_once(moto_s3, lake):
    reader = opened(moto_s3, lake)
    polars, pandas, relation = reader.polars(), reader.pandas(), reader.duckdb()
    assert isinstance(polars, pl.DataFrame)
    assert isinstance(pandas, pd.DataFrame)
    assert isinstance(relation, duckdb.DuckDBPyRelation)
    expected = [1, 2, 3, 4, 5, 6]
    assert ids(reader.arrow()) == expected
    assert ids(reader.batches().read_all()) == expected
    assert sorted(polars["id"]) == sorted(pandas["id"]) == expected
    assert sorted(row[0] for row in relation.select("id").fetchall()) == expected


def test_a_relation_of_a_given_connection_can_be_joined_there(moto_s3, lake):
    connection = duckdb.connect()
    connection.sql("create table names as select 'odd' as name, 'ungerade' as german")
    relation = opened(moto_s3, lake).duckdb(connection).set_alias("users")
    joined = relation.join(connection.table("names"), "name")
    assert joined.aggregate("count(*)").fetchall() == [(3,)]


def test_columns_directories_conditions_and_a_time_select(moto_s3, lake):
    assert opened(moto_s3, lake, columns=["name", "id"]).arrow().column_names == ["name", "id"]
    assert opened(moto_s3, lake, columns="id").schema.names == ["id"]
    assert ids(opened(moto_s3, lake, where={"name": "odd"}).arrow()) == [1, 3, 5]
    assert ids(opened(moto_s3, lake, filter=[("id", ">", 4)]).arrow()) == [5, 6]
    assert ids(opened(moto_s3, lake, as_of=START + timedelta(hours=1)).arrow()) == [1, 2, 3, 4]
    some = opened(moto_s3, lake, where={"name": "odd"}, filter=[("id", "<", 4)], as_of="2026-01-05T12:00")
    assert ids(some.arrow()) == [1, 3]


def test_partitions_are_read_together_or_by_name(moto_s3):
    place = destination(moto_s3.new_bucket(), s3_path_format="${STREAM_NAME}/${PARTITION}/")
    for number, day in enumerate(["2026-01-05", "2026-01-06", "2026-01-07"], start=1):
        landed(moto_s3, place, users_stream(), *users(number, number), partition=day)
    reader = opened(moto_s3, place)
    assert reader.partitions == ["2026-01-05", "2026-01-06", "2026-01-07"]
    assert ids(reader.arrow()) == [1, 2, 3]
    assert ids(opened(moto_s3, place, partitions=["2026-01-06"]).arrow()) == [2]
    with pytest.raises(ObjectNotFoundError, match=r"no partition '2026-01-09'.*Did you mean '2026-01-0"):
        opened(moto_s3, place, partitions=["2026-01-06", "2026-01-09"])
    some = opened(moto_s3, place, partitions=["2026-01-06", "2026-01-09"], allow_missing_partitions=True)
    assert some.partitions == ["2026-01-06"]
    with pytest.raises(ObjectNotFoundError, match="has nothing without a partition"):
        opened(moto_s3, place, partitions=[""])


def test_what_landed_before_the_partitions_is_not_read_with_them(moto_s3):
    place = destination(moto_s3.new_bucket())
    landed(moto_s3, place, users_stream(), *users(1, 2))
    landed(moto_s3, place, users_stream(), *users(2, 3), partition="2026-01-05")
    with pytest.raises(SettingsError, match=r'may be there twice.*s3dest retire public.users --scope ""'):
        opened(moto_s3, place)
    assert ids(opened(moto_s3, place, partitions=[""]).arrow()) == [1, 2]
    assert ids(opened(moto_s3, place, partitions=["2026-01-05"]).arrow()) == [2, 3]


def test_foreign_objects_are_not_read(moto_s3, lake):
    key = data_keys(moto_s3, lake.s3_bucket_name)[0]
    copy = key.replace(".parquet", "-copy.parquet")
    moto_s3.client().copy_object(Bucket=lake.s3_bucket_name, CopySource=f"{lake.s3_bucket_name}/{key}", Key=copy)
    assert opened(moto_s3, lake).arrow().num_rows == 6


def test_a_reader_that_a_refresh_has_overtaken_reads_the_new_records(moto_s3):
    place = destination(moto_s3.new_bucket())
    landed(moto_s3, place, users_stream(), *users(1, 2))
    reader = opened(moto_s3, place)
    landed(moto_s3, place, users_stream(), *users(7, 9))
    assert ids(reader.arrow()) == [7, 8, 9]
    assert ids(reader.batches().read_all()) == [7, 8, 9]


def test_a_reader_reads_the_moment_at_which_it_was_opened_while_its_objects_exist(moto_s3):
    place = destination(moto_s3.new_bucket())
    landed(moto_s3, place, APPEND, *users(1, 2))
    reader = opened(moto_s3, place)
    landed(moto_s3, place, APPEND, *users(3, 4))
    assert ids(reader.arrow()) == ids(reader.arrow()) == [1, 2]
    assert ids(opened(moto_s3, place).arrow()) == [1, 2, 3, 4]


def test_batches_hold_one_object_in_memory(moto_s3):
    place = destination(moto_s3.new_bucket(), format=ParquetFormat())
    for number in range(6):
        texts = [{"id": each, "name": f"{number}-{each}" * 400} for each in range(200)]
        landed(moto_s3, place, APPEND, *texts)
    reader = opened(moto_s3, place)
    whole = reader.arrow()
    size, before, most = whole.nbytes, pa.total_allocated_bytes(), 0
    del whole
    before = pa.total_allocated_bytes()
    for batch in reader.batches():
        most = max(most, pa.total_allocated_bytes() - before)
        del batch
    assert size > 1_500_000
    assert 0 < most < size / 2


def test_it_shows_what_there_is(moto_s3, lake):
    reader = opened(moto_s3, lake, columns=["id", "name"])
    assert repr(reader) == "<public.users: 4 objects, 6 rows; columns id, name>"
    assert reader.stream == "public.users"
    assert reader.schema.field("id").type == pa.int64()


@pytest.mark.parametrize("name", ["a.b.c", StreamId("a.b", "c")])
def test_a_name_with_dots_is_found(moto_s3, name):
    place = destination(moto_s3.new_bucket())
    landed(moto_s3, place, Stream(name="c", namespace="a.b"), {"id": 1})
    assert ids(opened(moto_s3, place, name).arrow()) == [1]


def test_a_name_of_two_streams_is_refused(moto_s3):
    place = destination(moto_s3.new_bucket())
    landed(moto_s3, place, Stream(name="c", namespace="a.b"), {"id": 1})
    landed(moto_s3, place, Stream(name="b.c", namespace="a"), {"id": 2})
    with pytest.raises(SettingsError, match=r"2 streams are called 'a\.b\.c'.*StreamId\(namespace='a'"):
        opened(moto_s3, place, "a.b.c")
    assert ids(opened(moto_s3, place, StreamId("a", "b.c")).arrow()) == [2]


# ---------------------------------------------------------------------- what goes wrong


def test_an_unknown_stream_is_told_with_the_streams_that_there_are(moto_s3, lake):
    with pytest.raises(ObjectNotFoundError, match=r"No stream 'public\.user' .* Did you mean 'public\.users'\?"):
        opened(moto_s3, lake, "public.user")
    with pytest.raises(ObjectNotFoundError, match=r"It has: public\.users\."):
        opened(moto_s3, lake, "orders")


@pytest.mark.parametrize("path", ["", "data/public", "data/public/users/", "other"])
def test_another_path_is_told_with_the_paths_that_have_streams(moto_s3, lake, path):
    there = f"s3://{lake.s3_bucket_name}"
    with pytest.raises(ObjectNotFoundError, match=rf"Streams have landed under {there}/data\."):
        read(f"{there}/{path}", "public.users", connection=moto_s3.connection)


def test_a_bucket_without_manifests_is_told(moto_s3):
    with pytest.raises(ObjectNotFoundError, match=r"No stream has landed under s3://lake-\d+/x.*s3dest adopt"):
        read(f"s3://{moto_s3.new_bucket()}/x", "users", connection=moto_s3.connection)


def test_an_unknown_bucket_is_told(moto_s3):
    with pytest.raises(BucketNotFoundError, match="lake-nowhere"):
        read("s3://lake-nowhere/x", "users", connection=S3Connection(**admin(moto_s3)))


def admin(server: S3Server) -> dict[str, str]:
    """The connection of an identity that may do anything, so that the server says what does not exist."""
    names = {name.removeprefix("aws_"): value for name, value in server.admin.items()}
    return {"endpoint": server.endpoint, "region": "us-east-1", **names}


@pytest.mark.parametrize("path", ["my-bucket/lake", "https://my-bucket.s3.amazonaws.com/lake", "/tmp/lake"])
def test_an_address_of_another_form_is_told(path):
    with pytest.raises(SettingsError, match="s3://my-bucket/lake"):
        read(path, "users")


def test_a_stream_whose_content_was_retired_is_told(moto_s3):
    place = destination(moto_s3.new_bucket())
    landed(moto_s3, place, users_stream(), *users(1, 2))
    retire(moto_s3.open(place), place, Scope(users_stream().id), sync("retired"), attempt="0a0a0a0a")
    with pytest.raises(ObjectNotFoundError, match="holds nothing"):
        opened(moto_s3, place)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"columns": ["idd"]}, "no column 'idd'"),
        ({"where": {"nam": "odd"}}, "Did you mean 'name'"),
        ({"filter": [("idd", ">", 1)]}, "Did you mean 'id'"),
        ({"as_of": "yesterday"}, "as_of is 'yesterday'"),
        ({"partitions": [5]}, "partitions is"),
    ],
)
def test_a_wrong_selection_is_refused_when_the_stream_is_opened(moto_s3, lake, options, words):
    with pytest.raises(SettingsError, match=words):
        opened(moto_s3, lake, **options)


@pytest.mark.parametrize("library", ["duckdb", "pandas", "polars"])
def test_a_library_that_is_not_installed_is_named_with_its_extra(moto_s3, lake, library, monkeypatch):
    reader = opened(moto_s3, lake)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=rf"s3dest-dagster\[{library}\]"):
        getattr(reader, library)()


# ---------------------------------------------------------------------- identities


def test_keywords_and_the_environment_give_endpoint_and_identity(moto_s3, lake, monkeypatch):
    path = f"s3://{lake.s3_bucket_name}/{lake.s3_bucket_path}"
    keys = {"access_key_id": moto_s3.access_key_id, "secret_access_key": moto_s3.secret_access_key}
    assert read(path, "public.users", endpoint=moto_s3.endpoint, region="us-east-1", **keys).arrow().num_rows == 6
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto_s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_access_key)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert read(path, "public.users").arrow().num_rows == 6
    with pytest.raises(S3DestError):
        read(path, "public.users", access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key="wrong")


def test_reading_sends_no_request_that_writes(moto_s3, lake):
    with recording_proxy() as server:
        seen_from_there = replace(moto_s3.connection, endpoint=server.endpoint)
        reader = read(f"s3://{lake.s3_bucket_name}/data", "public.users", connection=seen_from_there)
        assert reader.arrow().num_rows == 6
        assert {each.method for each in server.seen} == {"GET"}


def test_reading_does_not_import_dagster(moto_s3, lake):
    code = (
        "import sys; from s3dest_dagster import read\n"
        f"reader = read('s3://{lake.s3_bucket_name}/data', 'public.users', endpoint='{moto_s3.endpoint}', "
        f"region='us-east-1', access_key_id='{moto_s3.access_key_id}', "
        f"secret_access_key='{moto_s3.secret_access_key}')\n"
        "print(reader.arrow().num_rows, *(name for name in sys.modules if name.split('.')[0].startswith('dagster')))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["6"]
