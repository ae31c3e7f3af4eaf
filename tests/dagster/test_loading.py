"""What downstream assets receive: by annotation, by partition, by column."""

from __future__ import annotations

import collections.abc
from collections.abc import Generator, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, NewType, Optional, TypedDict, Union

import dagster as dg
import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from land_and_read import batch_of, data_keys, sync, target
from schema_versions import FOUND, VERSIONS, values

from s3dest_dagster import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat, stream_asset
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats import read_table
from s3dest_dagster.formats.row_filter import RowFilter
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.stream import Stream, SyncMode

SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}}
DAILY = dg.DailyPartitionsDefinition("2026-01-01")
ENVELOPE = ["_airbyte_ab_id", "_airbyte_emitted_at"]
TYPES = [
    Any,
    pa.Table,
    pa.RecordBatchReader,
    ds.Dataset,
    list,
    list[dict],
    collections.abc.Iterator,
    collections.abc.Iterable,
    pl.DataFrame,
    pl.LazyFrame,
    duckdb.DuckDBPyRelation,
]


@stream_asset(json_schema=SCHEMA)
def people():
    return [{"id": number, "name": f"person {number}"} for number in (1, 2, 3)]


def ids_of(value: Any) -> list[int]:
    """The ids of any loaded value."""
    if isinstance(value, pa.RecordBatchReader):
        value = value.read_all()
    if isinstance(value, ds.Dataset):
        value = value.to_table()
    if isinstance(value, pa.Table):
        return value.column("id").to_pylist()
    if isinstance(value, duckdb.DuckDBPyRelation):
        return [number for (number,) in value.project("id").fetchall()]
    if isinstance(value, pl.LazyFrame):
        value = value.collect()
    if isinstance(value, pl.DataFrame):
        return value["id"].to_list()
    return [row["id"] for row in value]


def loaded(lake, upstream, annotation, *, ids=False, metadata=None, io=None, **options) -> Any:
    """The value that an asset downstream of `upstream` receives for a parameter with this annotation, or the ids in
    it."""
    got = []

    def downstream(value):
        got.append(ids_of(value) if ids else value)

    downstream.__annotations__ = {"value": annotation}
    partitions = options.pop("down_partitions", None)
    made = dg.asset(ins={"value": dg.AssetIn(upstream.key, metadata=metadata)}, partitions_def=partitions)(downstream)
    lake.materialize(upstream, made, io=io, selection=[made], **options)
    return got[0]


@pytest.fixture(scope="module")
def landed(moto_s3, lake_on):
    """A lake in which `people` has landed."""
    lake = lake_on(moto_s3)
    lake.materialize(people)
    return lake


@pytest.mark.parametrize("annotation", TYPES, ids=str)
def test_each_annotation_gets_the_records(landed, annotation):
    assert loaded(landed, people, annotation, ids=True) == [1, 2, 3]


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [(pa.Table, pa.Table), (Any, pa.Table), (list, list), (pl.DataFrame, pl.DataFrame), (dict, dict)],
    ids=str,
)
def test_the_value_has_the_requested_type(landed, annotation, kind):
    assert isinstance(loaded(landed, people, annotation), kind)


@pytest.mark.parametrize(
    "format", [AvroFormat(), CsvFormat(), JsonlFormat(), ParquetFormat()], ids=lambda each: type(each).__name__
)
def test_every_format_loads_the_same_values(lake, format):
    io = lake.io(format=format)
    lake.materialize(people, io=io)
    table = loaded(lake, people, pa.Table, io=io)
    assert table.column_names == [*ENVELOPE, "id", "name", "_airbyte_additional_properties"]
    assert table.select(["id", "name"]).to_pylist() == people_rows()


def people_rows() -> list[dict[str, Any]]:
    return [{"id": number, "name": f"person {number}"} for number in (1, 2, 3)]


def test_the_metadata_of_the_input_selects_columns(landed):
    table = loaded(landed, people, pa.Table, metadata={"columns": ["name", "id"]})
    assert table.column_names == ["name", "id"]


@pytest.fixture(scope="module")
def by_name(moto_s3, lake_on):
    """A lake in which `parted` has landed, and its IO manager."""
    lake = lake_on(moto_s3)
    io = lake.io(s3_path_format="${STREAM_NAME}/${FIELDS}/")
    lake.materialize(parted, io=io)
    return lake, io


class TestDirectories:
    @pytest.mark.parametrize(
        ("where", "ids"),
        [({"name": "person 2"}, [2]), ({"name": ["person 1", "person 3"]}, [1, 3]), ({"name": None}, [4])],
    )
    def test_the_metadata_of_the_input_selects_directories(self, by_name, where, ids):
        lake, io = by_name
        assert sorted(loaded(lake, parted, pa.Table, ids=True, io=io, metadata={"where": where})) == ids

    def test_no_object_of_another_directory_is_read(self, by_name):
        lake, io = by_name
        (broken,) = [key for key in data_keys(lake.server, lake.bucket) if "/name=person 1/" in key]
        before = lake.server.client().get_object(Bucket=lake.bucket, Key=broken)["Body"].read()
        lake.server.client().delete_object(Bucket=lake.bucket, Key=broken)
        try:
            assert loaded(lake, parted, pa.Table, ids=True, io=io, metadata={"where": {"name": "person 2"}}) == [2]
        finally:
            lake.server.client().put_object(Bucket=lake.bucket, Key=broken, Body=before)

    def test_a_directory_that_the_stream_does_not_have_is_named(self, by_name):
        lake, io = by_name
        with pytest.raises(dg.Failure, match="where names 'nam', which is no directory of parted"):
            loaded(lake, parted, pa.Table, io=io, metadata={"where": {"nam": "x"}})


@stream_asset(json_schema=SCHEMA, partition_by=["name"])
def parted():
    return [*people_rows(), {"id": 4, "name": ""}]


def test_an_unknown_column_is_named(landed):
    with pytest.raises(dg.Failure, match=r"no column 'surname'.*name"):
        loaded(landed, people, pa.Table, metadata={"columns": ["surname"]})


def test_an_unknown_annotation_is_refused_with_the_known_ones(landed):
    with pytest.raises(dg.Failure, match=r"pyarrow\.Table"):
        loaded(landed, people, bytes)


def test_a_stream_with_a_name_prefix_is_found(lake):
    io = lake.io(stream_prefix="raw_")
    lake.materialize(people, io=io)
    assert loaded(lake, people, pa.Table, io=io, ids=True) == [1, 2, 3]


DAYS_SCHEMA = {"type": "object", "properties": {"id": {"type": "string"}}}


@stream_asset(json_schema=DAYS_SCHEMA, partitions_def=DAILY)
def days(context: dg.AssetExecutionContext):
    return [{"id": context.partition_key}]


@pytest.fixture(scope="module")
def three_days(moto_s3, lake_on):
    """A lake in which three days of `days` have landed."""
    lake = lake_on(moto_s3)
    for day in (1, 2, 3):
        lake.materialize(days, partition_key=f"2026-01-0{day}")
    return lake


class TestPartitions:
    def test_the_same_partition_is_loaded(self, three_days):
        got = loaded(three_days, days, pa.Table, ids=True, down_partitions=DAILY, partition_key="2026-01-02")
        assert got == ["2026-01-02"]

    def test_several_partitions_are_one_table(self, three_days):
        assert self.three(three_days, pa.Table, ids=True) == ["2026-01-01", "2026-01-02", "2026-01-03"]

    def test_several_partitions_are_one_stream(self, three_days):
        assert self.three(three_days, pa.RecordBatchReader, ids=True) == ["2026-01-01", "2026-01-02", "2026-01-03"]

    @pytest.mark.parametrize("annotation", [dict, dict[str, pa.Table]], ids=str)
    def test_a_dict_has_a_table_for_each_partition(self, three_days, annotation):
        tables = self.three(three_days, annotation)
        assert {key: ids_of(table) for key, table in tables.items()} == {
            "2026-01-01": ["2026-01-01"],
            "2026-01-02": ["2026-01-02"],
            "2026-01-03": ["2026-01-03"],
        }

    def test_a_partition_that_was_never_landed_is_named(self, three_days):
        with pytest.raises(dg.Failure, match=r"days \[2026-01-09\] has not landed"):
            loaded(three_days, days, pa.Table, down_partitions=DAILY, partition_key="2026-01-09")

    def test_missing_partitions_are_left_out_when_allowed(self, three_days):
        metadata = {"allow_missing_partitions": True}
        got = self.three(three_days, pa.Table, ids=True, key="2026-01-05", metadata=metadata)
        assert got == ["2026-01-03"]

    def test_missing_partitions_are_counted(self, three_days):
        with pytest.raises(dg.Failure, match=r"days \[2026-01-04\] \(and 1 more partition\) has not landed"):
            self.three(three_days, pa.Table, key="2026-01-05")

    def three(self, three_days, annotation, *, ids=False, key="2026-01-03", metadata=None):
        """The value that an asset receives if it depends on the three partitions up to its own."""
        got = []

        def downstream(value):
            got.append(ids_of(value) if ids else value)

        downstream.__annotations__ = {"value": annotation}
        mapping = dg.TimeWindowPartitionMapping(start_offset=-2)
        ins = {"value": dg.AssetIn(days.key, partition_mapping=mapping, metadata=metadata)}
        made = dg.asset(ins=ins, partitions_def=DAILY)(downstream)
        three_days.materialize(days, made, selection=[made], partition_key=key)
        return got[0]


def test_a_pandas_frame(landed):
    pandas = pytest.importorskip("pandas")
    frame = loaded(landed, people, pandas.DataFrame)
    assert frame["id"].tolist() == [1, 2, 3]


def test_a_relation_is_a_query_over_the_landed_records(landed):
    relation = loaded(landed, people, duckdb.DuckDBPyRelation)
    assert relation.filter("id > 1").aggregate("sum(id)").fetchall() == [(5,)]
    assert relation.order("id desc").limit(1).project("name").fetchall() == [("person 3",)]


def test_an_unpartitioned_asset_receives_all_partitions_or_those_of_a_mapping(three_days):
    for mapping, expected in (
        (dg.AllPartitionMapping(), ["2026-01-01", "2026-01-02", "2026-01-03"]),
        (dg.SpecificPartitionsPartitionMapping(["2026-01-02"]), ["2026-01-02"]),
    ):
        got: list[Any] = []

        @dg.asset(
            ins={"value": dg.AssetIn(days.key, partition_mapping=mapping, metadata={"allow_missing_partitions": True})}
        )
        def downstream(value: pa.Table) -> None:
            got.append(ids_of(value))  # noqa: B023  # it runs at once

        three_days.materialize(days, downstream, selection=[downstream])
        assert got == [expected]


def test_a_week_receives_its_days(three_days):
    """Dagster's mapping of time windows is used. Days that do not exist, or were never landed, are left out."""
    got: list[Any] = []
    mapping = dg.TimeWindowPartitionMapping(allow_nonexistent_upstream_partitions=True)
    metadata = {"allow_missing_partitions": True}

    @dg.asset(
        ins={"value": dg.AssetIn(days.key, partition_mapping=mapping, metadata=metadata)},
        partitions_def=dg.WeeklyPartitionsDefinition("2025-12-28"),
    )
    def downstream(value: dict):
        got.extend(value)

    three_days.materialize(days, downstream, selection=[downstream], partition_key="2025-12-28")
    assert got == ["2026-01-01", "2026-01-02", "2026-01-03"]


def test_a_stream_that_was_never_landed_is_named(lake):
    with pytest.raises(dg.Failure, match="people has not landed"):
        loaded(lake, people, pa.Table)


def test_an_empty_scope_is_an_empty_table(lake):
    @stream_asset(json_schema=SCHEMA)
    def nobody():
        return []

    lake.materialize(nobody)
    assert loaded(lake, nobody, pa.Table).num_rows == 0


def test_fields_that_older_syncs_lack_are_null(lake):
    fields = iter([{"id": 1}, {"id": 2, "name": "two"}])

    @stream_asset(sync_mode="append")
    def grows():
        return [next(fields)]

    lake.materialize(grows)
    lake.materialize(grows)
    for annotation in (pa.Table, pa.RecordBatchReader):
        got = loaded(lake, grows, annotation)
        table = got.read_all() if annotation is pa.RecordBatchReader else got
        assert table.select(["id", "name"]).to_pylist() == [{"id": 1, "name": None}, {"id": 2, "name": "two"}]


def test_syncs_of_other_types_are_one_table(lake):
    values = iter([1, "one"])

    @stream_asset(sync_mode="append")
    def turns():
        return [{"id": next(values)}]

    lake.materialize(turns)
    lake.materialize(turns)
    assert loaded(lake, turns, pa.Table)["id"].to_pylist() == ["1", "one"]


@pytest.mark.parametrize("format", [AvroFormat(), ParquetFormat()], ids=["avro", "parquet"])
def test_ten_versions_of_a_schema_are_one_table_in_every_form(lake, format):
    io: S3DestinationIOManager = lake.io(format=format)
    with target(lake.server, io.destination()) as opened:
        for number, (properties, record) in enumerate(VERSIONS, 1):
            stream = Stream(name="changes", json_schema={"properties": properties}, sync_mode=SyncMode.APPEND)
            land([batch_of([{"id": number, **record}])], opened, stream, sync(str(number)))

    def rows(type_: type) -> Any:
        context = dg.build_input_context(
            asset_key=dg.AssetKey("changes"), dagster_type=dg.PythonObjectDagsterType(type_)
        )
        return io.load_input(context)

    for found in (rows(pa.Table).to_pylist(), rows(pl.DataFrame).to_dicts(), rows(list)):
        assert [values(row) for row in sorted(found, key=lambda row: row["id"])] == FOUND


def test_a_value_is_loaded_outside_of_a_run(lake):
    with dg.DagsterInstance.ephemeral() as instance:
        io = lake.io()
        lake.materialize(people, io=io, instance=instance)
        definitions = dg.Definitions([people], resources={"io_manager": io})
        table = definitions.load_asset_value("people", python_type=pa.Table, instance=instance)
    assert ids_of(table) == [1, 2, 3]


def test_a_partition_is_loaded_outside_of_a_run(three_days):
    definitions = dg.Definitions([days], resources={"io_manager": three_days.io()})
    table = definitions.load_asset_value("days", partition_key="2026-01-02")
    assert ids_of(table) == ["2026-01-02"]


def test_the_loader_needs_no_step(landed):
    io: S3DestinationIOManager = landed.io()
    context = dg.build_input_context(asset_key=people.key)
    assert ids_of(io.load_input(context)) == [1, 2, 3]


# ---------------------------------------------------------------------- annotations in detail


Rows = NewType("Rows", list[dict])


class Person(TypedDict):
    id: int


@pytest.mark.parametrize(
    "annotation",
    [
        Optional[pa.Table],  # noqa: UP045
        pa.Table | None,
        None | pl.DataFrame,
        Union[bytes, pa.Table],  # noqa: UP007
        Annotated[pa.Table, "people"],
        Annotated[pa.Table | None, "people"],
        Optional[Annotated[list[dict], "people"]],  # noqa: UP045
        collections.abc.Iterable[dict],
        collections.abc.Iterator[dict[str, Any]],
        collections.abc.Generator[dict, None, None],
        Generator[dict],
        Iterable,
        collections.abc.Iterable[Person] | None,
        collections.abc.Sequence[collections.abc.Mapping[str, Any]],
        collections.abc.Collection[dict],
        collections.abc.MutableSequence[collections.abc.MutableMapping[str, Any]],
        list[Person],
        Rows,
        object,
    ],
    ids=str,
)
def test_generic_annotations_are_understood_for_a_stream_asset(landed, annotation):
    got = []

    def downstream(value):
        got.append(ids_of(value))
        return []

    downstream.__annotations__ = {"value": annotation}
    made = stream_asset(ins={"value": dg.AssetIn(people.key)})(downstream)
    landed.materialize(people, made, selection=[made])
    assert got == [[1, 2, 3]]


@pytest.mark.parametrize(
    "annotation",
    [
        bytes,
        list[int],
        list[pa.Table],
        set,
        tuple,
        dict[int, pa.Table],
        dict[str, bytes],
        dict[str, dict[str, pa.Table]],
        Optional[bytes],  # noqa: UP045
        Union[bytes, int],  # noqa: UP007
        collections.abc.Iterator[int],
    ],
    ids=str,
)
def test_an_unsupported_annotation_is_refused_with_the_supported_ones(landed, annotation):
    def downstream(value):
        return []

    downstream.__annotations__ = {"value": annotation}
    made = stream_asset(ins={"value": dg.AssetIn(people.key)})(downstream)
    with pytest.raises(dg.Failure, match=r"cannot be loaded as .*pyarrow\.Table.*dict\[str, X\].*Optional"):
        landed.materialize(people, made, selection=[made])


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (dict[str, Any], pa.Table),
        (dict[str, pa.Table], pa.Table),
        (dict[str, pl.DataFrame], pl.DataFrame),
        (collections.abc.Mapping[str, pl.LazyFrame], pl.LazyFrame),
        (dict[str, duckdb.DuckDBPyRelation], duckdb.DuckDBPyRelation),
        (dict[str, pa.RecordBatchReader], pa.RecordBatchReader),
        (dict[str, ds.Dataset], ds.Dataset),
        (dict[str, list[dict]], list),
        (dict[str, pa.Table | None], pa.Table),
        (dict[str, pa.Table] | None, pa.Table),
        (Annotated[dict[str, collections.abc.Iterator[dict]], "by day"], collections.abc.Iterator),
    ],
    ids=str,
)
def test_a_mapping_holds_the_annotated_type_for_each_partition(three_days, annotation, kind):
    got = {}

    def downstream(value):
        got.update({key: (isinstance(each, kind), ids_of(each)) for key, each in value.items()})
        return []

    downstream.__annotations__ = {"value": annotation}
    two = dg.SpecificPartitionsPartitionMapping(["2026-01-01", "2026-01-03"])
    made = stream_asset(ins={"value": dg.AssetIn(days.key, partition_mapping=two)})(downstream)
    three_days.materialize(days, made, selection=[made])
    assert got == {"2026-01-01": (True, ["2026-01-01"]), "2026-01-03": (True, ["2026-01-03"])}


def test_a_mapping_of_pandas_frames(three_days):
    pandas = pytest.importorskip("pandas")
    one = dg.SpecificPartitionsPartitionMapping(["2026-01-01"])

    def downstream(value):
        assert value["2026-01-01"]["id"].tolist() == ["2026-01-01"]

    downstream.__annotations__ = {"value": dict[str, pandas.DataFrame]}
    made = dg.asset(ins={"value": dg.AssetIn(days.key, partition_mapping=one)})(downstream)
    three_days.materialize(days, made, selection=[made])


def test_an_asset_without_partitions_cannot_be_loaded_as_a_mapping(landed):
    with pytest.raises(dg.Failure, match="people has no partitions"):
        loaded(landed, people, dict[str, pa.Table])


def test_two_assets_can_load_the_same_input_and_resources_stay_resources(landed):
    got = []

    @stream_asset(ins={"value": dg.AssetIn(people.key)})
    def first(value: collections.abc.Iterator[dict], offset: dg.ResourceParam[int]):
        got.append(sum(ids_of(value)) + offset)

    @stream_asset(ins={"value": dg.AssetIn(people.key)})
    def second(value: collections.abc.Iterator[dict]):
        got.append(sum(ids_of(value)))

    landed.materialize(people, first, second, selection=[first, second], resources={"offset": 10})
    assert sorted(got) == [6, 16]


def test_an_annotation_for_type_checkers_only_is_reported():
    def downstream(value: Nowhere):  # noqa: F821
        return []

    with pytest.raises(SettingsError, match=r"annotation of downstream's parameters .*Nowhere"):
        stream_asset(downstream)


# ---------------------------------------------------------------------- other code locations, and ops


@stream_asset(name="people", namespace="shop", key_prefix="eu", json_schema=SCHEMA)
def prefixed():
    return [{"id": 7}]


NAMED = {"s3dest/name": "people", "s3dest/namespace": "shop"}


@pytest.mark.parametrize(
    ("of_input", "of_asset"), [(NAMED, None), (None, NAMED)], ids=["the input says it", "the asset says it"]
)
def test_the_stream_of_another_code_location_can_be_named(lake, of_input, of_asset):
    lake.materialize(prefixed)
    elsewhere = dg.AssetSpec(prefixed.key, metadata=of_asset)
    got = []

    @dg.asset(ins={"value": dg.AssetIn(prefixed.key, metadata=of_input)})
    def downstream(value: pa.Table) -> None:
        got.append(ids_of(value))

    lake.materialize(downstream, elsewhere, selection=[downstream])
    assert got == [[7]]


def load_elsewhere(lake, key: dg.AssetKey) -> list[int]:
    """Loads the stream of an asset of another code location by its key alone."""
    got = []

    @dg.asset(ins={"value": dg.AssetIn(key)})
    def downstream(value: pa.Table) -> None:
        got.extend(ids_of(value))

    lake.materialize(downstream, dg.AssetSpec(key), selection=[downstream], io=lake.io(stream_prefix="x_"))
    return got


def test_the_stream_of_another_code_location_is_found_by_its_owner(lake):
    other = stream_asset(name="people", namespace="other", json_schema=SCHEMA)(lambda: [{"id": 8}])
    lake.materialize(other, prefixed, io=lake.io(stream_prefix="x_"))
    assert load_elsewhere(lake, prefixed.key) == [7]
    assert load_elsewhere(lake, other.key) == [8]


def test_several_streams_of_one_asset_must_be_named(lake):
    for name in ("one", "two"):
        made = stream_asset(name=name, namespace="shop", owner="eu/shop/people", json_schema=SCHEMA)(
            lambda: [{"id": 1}]
        )
        lake.materialize(made, io=lake.io(stream_prefix="x_"))
    with pytest.raises(dg.Failure, match=r"Several streams .*shop\.one, shop\.two.*s3dest/name"):
        load_elsewhere(lake, prefixed.key)


def test_the_error_for_an_unnamed_stream_says_how_to_name_it(lake):
    with pytest.raises(dg.Failure, match=r"has not landed.*\"s3dest/name\": \"people\", \"s3dest/namespace\""):
        load_elsewhere(lake, prefixed.key)


def test_an_op_can_return_none_and_another_can_wait_for_it(lake):
    done = []

    @dg.op
    def clean():
        done.append("clean")

    @dg.op
    def report(value):
        done.append(value)

    @dg.job(resource_defs={"io_manager": lake.io()})
    def nightly():
        report(clean())

    assert nightly.execute_in_process().success
    assert done == ["clean", None]
    assert lake.all_keys() == []


def test_another_output_of_an_op_is_refused_with_the_alternative(lake):
    @dg.op
    def count():
        return 5

    @dg.job(resource_defs={"io_manager": lake.io()})
    def nightly():
        count()

    with pytest.raises(dg.Failure, match=r"'result' is a int.*io_manager_key"):
        nightly.execute_in_process()


# ---------------------------------------------------------------------- which records


NUMBERS = {
    "type": "object",
    "properties": {"id": {"type": "integer"}, "at": {"type": "string", "format": "date"}, "name": {"type": "string"}},
}
RECORDS = [
    {"id": number, "at": f"2026-01-{number:02}", "name": "even" if number % 2 == 0 else None} for number in range(1, 10)
]


@stream_asset(json_schema=NUMBERS)
def numbers():
    return RECORDS


def loaded_ids(lake, asset: dg.AssetsDefinition, metadata: dict[str, Any], **options: Any) -> list[int]:
    got = []

    @dg.asset(ins={"value": dg.AssetIn(asset.key, metadata=metadata)})
    def downstream(value) -> None:
        got.extend(ids_of(value))

    lake.materialize(asset, downstream, selection=[downstream], **options)
    return got


FILTERS = [
    ([("id", ">", 7)], [8, 9]),
    ([("id", ">", 2), ("id", "<=", 4)], [3, 4]),
    ([["id", "==", 1]], [1]),
    ([[("id", "=", 1)], [("id", "=", 9)]], [1, 9]),
    ([("id", "in", [3, 5, 50])], [3, 5]),
    ([("id", "not in", [1, 2, 3, 4, 5, 6, 7])], [8, 9]),
    ([("at", ">=", "2026-01-08")], [8, 9]),
    ([("name", "=", "even")], [2, 4, 6, 8]),
    ([("id", ">", 70)], []),
]


@pytest.mark.parametrize(
    "format", [ParquetFormat(), AvroFormat(), CsvFormat(flattening="Root level flattening"), JsonlFormat()]
)
def test_a_filter_selects_records_in_every_format(lake, format):
    io = lake.io(format=format)
    lake.materialize(numbers, io=io)
    for given, expected in FILTERS:
        assert loaded_ids(lake, numbers, {"filter": given, "columns": ["id"]}, io=io) == expected


def test_row_groups_without_selected_records_are_not_read():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"id": range(100)}), sink, row_group_size=10)
    record = record_type({"type": "object", "properties": {"id": {"type": "integer"}}}, "s", None)
    rows = RowFilter.of([("id", ">", 83)], pa.schema([("id", pa.int64())]), "s")
    table = read_table(ParquetFormat(), record, sink.getvalue().to_pybytes(), rows=rows)
    assert table.column("id").to_pylist() == list(range(80, 100))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("id > 3", "Give a list"),
        ([("id", "~", 3)], "operator '~'"),
        ([("idd", "=", 3)], "'id'"),
        ([("id", "=", "x")], "which is int64"),
        ([("id", "in", 3)], "a list of values"),
        ([("id", "=")], "the condition"),
    ],
)
def test_a_wrong_filter_is_refused(lake, given, reason):
    lake.materialize(numbers)
    with pytest.raises(dg.Failure, match=reason):
        loaded_ids(lake, numbers, {"filter": given})


def test_partitions_can_be_chosen(lake):
    days = ["2026-01-01", "2026-01-02", "2026-01-03"]

    @stream_asset(partitions_def=dg.StaticPartitionsDefinition(days), json_schema=SCHEMA)
    def daily(context: dg.AssetExecutionContext):
        return [{"id": int(context.partition_key[-2:])}]

    for day in days:
        lake.materialize(daily, partition_key=day)
    assert loaded_ids(lake, daily, {"partitions": days[1:]}) == [2, 3]
    assert loaded_ids(lake, daily, {"partitions": days[0]}) == [1]
    with pytest.raises(dg.Failure, match="'2027-01-01', which is none of the 3 partitions"):
        loaded_ids(lake, daily, {"partitions": ["2027-01-01"]})


def test_an_append_can_be_loaded_as_it_was(lake):
    numbered = iter([1, 2])

    @stream_asset(sync_mode="append", json_schema=SCHEMA)
    def appended():
        return [{"id": next(numbered)}]

    lake.materialize(appended)
    between = datetime.now(UTC)
    lake.materialize(appended)
    assert loaded_ids(lake, appended, {}) == [1, 2]
    assert loaded_ids(lake, appended, {"as_of": dg.MetadataValue.timestamp(between)}) == [1]
    assert loaded_ids(lake, appended, {"as_of": between.isoformat()}) == [1]
    with pytest.raises(dg.Failure, match=r"nothing from as_of=.* landed later"):
        loaded_ids(lake, appended, {"as_of": "2026-01-01"})


def test_what_a_full_refresh_has_replaced_is_not_loaded_as_it_was(lake):
    lake.materialize(numbers)
    between = datetime.now(UTC)
    lake.materialize(numbers)
    with pytest.raises(dg.Failure, match="a full refresh has replaced"):
        loaded_ids(lake, numbers, {"as_of": between.isoformat()})
