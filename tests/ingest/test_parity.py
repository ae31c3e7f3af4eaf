"""With `parity="1"`, columns have the types of the connector's version 1, and no value is lost."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from land_and_read import batch_of, data_keys, destination, sync, target
from servers import S3Server

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.ingest.landing import land
from s3dest_dagster.ingest.receipt import Receipt
from s3dest_dagster.inspection.plan import plan
from s3dest_dagster.inspection.read import read_scope
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, ParquetFormat
from s3dest_dagster.stream import Scope, Stream, SyncMode

OVERFLOW = "_airbyte_additional_properties"
SCOPE = Scope(Stream(name="users", namespace="public").id)
TYPED = [AvroFormat(), ParquetFormat()]


def _place(server: S3Server, format_: Any, **settings: Any) -> S3Destination:
    return destination(server.new_bucket(), format=format_, **{"parity": "1", "envelope": "airbyte_1", **settings})


def _land(server: S3Server, place: S3Destination, definition: Any, *values: Any, sync_id: str = "1") -> Receipt:
    """Lands a record with each of these values in the field `f`."""
    schema = {"properties": {"f": definition}}
    stream = Stream(name="users", namespace="public", json_schema=schema, sync_mode=SyncMode.APPEND)
    with target(server, place) as opened:
        return land([batch_of([{"f": value} for value in values])], opened, stream, sync(sync_id))


def _file(server: S3Server, place: S3Destination) -> list[dict[str, Any]]:
    """The rows of the newest object, as readers of its format find them."""
    found = server.open(place).get(data_keys(server, place.s3_bucket_name)[-1])
    assert found is not None
    if isinstance(place.format, AvroFormat):
        return list(fastavro.reader(io.BytesIO(found[0])))  # type: ignore[arg-type]
    return pq.read_table(io.BytesIO(found[0])).to_pylist(maps_as_pydicts="strict")


def _changes(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["change"], each["reason"]) for each in row["_airbyte_meta"]["changes"]]


@pytest.mark.parametrize("settings", TYPED, ids=["avro", "parquet"])
@pytest.mark.parametrize(
    ("definition", "value"),
    [
        ({"type": "object"}, {"a": 1, "b": None}),
        ({"type": "array"}, [1, "a", {"b": None}]),
        ({"type": "array", "items": {}}, []),
    ],
    ids=["object", "array", "items"],
)
def test_objects_and_lists_without_a_schema_are_json_texts(
    moto_s3: S3Server, settings: Any, definition: Any, value: Any
) -> None:
    place = _place(moto_s3, settings)
    for number in ("1", "2"):
        receipt = _land(moto_s3, place, definition, value, None, sync_id=number)
        assert not receipt.counts.tally
        assert receipt.schema_changes is None
    first, second = _file(moto_s3, place)
    assert (first["f"], second["f"], first[OVERFLOW], _changes(first)) == (json.dumps(value), None, None, [])
    table = read_scope(moto_s3.open(place), place.template, SCOPE)
    assert table is not None
    assert table["f"].to_pylist() == [json.dumps(value), None] * 2


@pytest.mark.parametrize("settings", TYPED, ids=["avro", "parquet"])
def test_another_value_of_a_list_without_a_schema_is_its_json_text(moto_s3: S3Server, settings: Any) -> None:
    place = _place(moto_s3, settings)
    receipt = _land(moto_s3, place, {"type": "array"}, "a", {"b": 1}, 2)
    assert [row["f"] for row in _file(moto_s3, place)] == ['"a"', '{"b": 1}', "2"]
    assert dict(receipt.counts.tally.coerced) == {"f": 3}


@pytest.mark.parametrize("settings", TYPED, ids=["avro", "parquet"])
def test_integers_have_64_bits_and_longer_ones_are_null_and_kept_as_text(moto_s3: S3Server, settings: Any) -> None:
    place = _place(moto_s3, settings)
    _land(moto_s3, place, {"type": "integer"}, 2**63 - 1, 2**63)
    fits, too_large = _file(moto_s3, place)
    assert (fits["f"], fits[OVERFLOW], _changes(fits)) == (2**63 - 1, None, [])
    assert (too_large["f"], dict(too_large[OVERFLOW])) == (None, {"f": str(2**63)})
    assert _changes(too_large) == [("NULLED", "DESTINATION_FIELD_SIZE_LIMITATION")]


@pytest.mark.parametrize("settings", TYPED, ids=["avro", "parquet"])
@pytest.mark.parametrize(
    "definition",
    [{"type": "number"}, {"type": "number", "multipleOf": 0.01}, {"type": "number", "airbyte_type": "big_number"}],
    ids=["number", "multipleOf", "big_number"],
)
def test_numbers_are_doubles_that_round_and_the_exact_text_is_kept(
    moto_s3: S3Server, settings: Any, definition: Any
) -> None:
    place = _place(moto_s3, settings)
    _land(moto_s3, place, definition, 1.5, 12345678901234567891)
    fits, rounded = _file(moto_s3, place)
    assert (fits["f"], fits[OVERFLOW]) == (1.5, None)
    assert (rounded["f"], dict(rounded[OVERFLOW])) == (12345678901234567891.0, {"f": "12345678901234567891"})


def test_fields_of_several_types_in_parquet_name_the_type_of_their_value(moto_s3: S3Server) -> None:
    place = _place(moto_s3, ParquetFormat())
    _land(moto_s3, place, {"type": ["integer", "string"]}, 1, "a", None)
    values = [row["f"] for row in _file(moto_s3, place)]
    assert values == [
        {"type": "integer", "integer": 1, "string": None},
        {"type": "string", "integer": None, "string": "a"},
        None,
    ]
    table = read_scope(moto_s3.open(place), place.template, SCOPE)
    assert table is not None
    assert table["f"].to_pylist() == [{"integer": 1, "string": None}, {"integer": None, "string": "a"}, None]


def test_objects_of_both_versions_are_read_together(moto_s3: S3Server) -> None:
    newer = _place(moto_s3, ParquetFormat())
    older = destination(newer.s3_bucket_name, format=ParquetFormat())
    for number, place in enumerate([older, newer, older, newer]):
        _land(moto_s3, place, {"type": ["integer", "string"]}, number, f"{number}", sync_id=f"{number}")
    table = read_scope(moto_s3.open(newer), newer.template, SCOPE)
    assert table is not None
    expected = [({"integer": n, "string": None}, {"integer": None, "string": f"{n}"}) for n in range(4)]
    assert table["f"].to_pylist() == [value for pair in expected for value in pair]
    assert table["f"].type == pa.struct([("integer", pa.int64()), ("string", pa.string())])


def test_the_plan_says_what_lists_become(moto_s3: S3Server) -> None:
    place = _place(moto_s3, ParquetFormat())
    stream = Stream(name="users", json_schema={"properties": {"f": {"type": "array"}}})
    with target(moto_s3, place) as opened:
        (planned,) = plan(opened, [stream], sync("plan")).streams
    (found,) = (each for each in planned.diagnostics if each.field == "f")
    reason = "a list without a declared type of items: its exact JSON text"
    assert (str(found.effect), found.reason) == ("as text", reason)


# ---------------------------------------------------------------------- the setting


@pytest.mark.parametrize(
    ("settings", "problem"),
    [({"open_objects": "map"}, "open_objects"), ({"format": ParquetFormat(union_layout="member")}, "union_layout")],
    ids=["open_objects", "union_layout"],
)
def test_a_setting_of_the_other_version_beside_it_is_refused(settings: Any, problem: str) -> None:
    with pytest.raises(SettingsError, match=f"parity is '1' and {problem} is .*Leave one of the two out") as refused:
        destination("bucket", **{"parity": "1", **settings})
    assert refused.value.setting == "parity"


def test_a_configuration_of_the_connector_has_the_defaults_of_the_version_that_it_names() -> None:
    config = {
        "s3_bucket_name": "b",
        "s3_bucket_path": "",
        "s3_bucket_region": "eu-central-1",
        "format": {"format_type": "CSV", "flattening": "Root level flattening"},
    }
    older, newer = (from_connector_config(config | {"s3dest": own}).destination for own in ({}, {"parity": "1"}))
    assert (older.open_objects, newer.open_objects) == ("map", "text")
    assert isinstance(older.format, CsvFormat)
    assert isinstance(newer.format, CsvFormat)
    assert (older.format.column_order, newer.format.column_order) == ("sorted", "source")
