"""Arrow extension types land by their meaning, and like the same values in dicts, or are refused."""

import json
import uuid
from io import BytesIO
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch, JsonBatch
from s3dest_dagster.columns.arrow_extensions import by_meaning
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import encoder, read_table
from s3dest_dagster.settings.formats import (
    AvroFormat,
    CsvFormat,
    Flattening,
    FormatSettings,
    JsonlFormat,
    ParquetFormat,
    TypeRules,
)
from s3dest_dagster.sources.python import batches
from s3dest_dagster.stream import Stream

IDS = [uuid.UUID(int=7), uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")]
PERIODS = [pd.Period("2024-01", "M"), pd.Period("1969-12", "M")]
FORMATS = pytest.mark.parametrize(
    "settings",
    [AvroFormat(), ParquetFormat(), JsonlFormat(), CsvFormat(flattening=Flattening.ROOT)],
    ids=["avro", "parquet", "jsonl", "csv"],
)


def one(column: pa.Array, name: str = "f") -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([column], [name])


def plain(column: pa.Array) -> pa.Array:
    return by_meaning(one(column)).column(0)


def uuids(values: list[uuid.UUID | None]) -> pa.Array:
    return pa.ExtensionArray.from_storage(pa.uuid(), pa.array([v and v.bytes for v in values], pa.binary(16)))


def content_of(settings: FormatSettings, records: Any, schema: dict[str, Any]) -> bytes:
    made = encoder(settings, Stream(name="s", json_schema=schema), rules=TypeRules(open_objects="text"))
    pieces: list[bytes] = []
    writer = made.open(pieces.append, b"m" * 16)
    for batch in batches(records, emitted_at=lambda: 7):
        writer.append(made.encode(batch, bytes(16 * batch.num_rows)))
    writer.close()
    return b"".join(pieces)


def landed(settings: FormatSettings, records: Any, schema: dict[str, Any]) -> list[Any]:
    content = content_of(settings, records, schema)
    return read_table(settings, Stream(name="s", json_schema=schema), content)["f"].to_pylist()


@FORMATS
@pytest.mark.parametrize(
    ("values", "column"),
    [
        (IDS, uuids(IDS)),
        (PERIODS, pa.array(pd.Series(PERIODS))),
        ([True, False], pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))),
        ([{"a": 1}, {"a": "1"}], pa.array(['{"a":1}', '{"a":"1"}'], pa.json_())),
    ],
    ids=["uuid", "period", "bool8", "json"],
)
def test_a_value_lands_alike_from_dicts_and_frames(settings: FormatSettings, values: Any, column: pa.Array) -> None:
    types = {"uuid": "string", "period": "string", "bool8": "boolean"}
    name = getattr(column.type, "extension_name", "").partition(".")[2]
    schema = {"properties": {"f": {"type": types[name]}}} if name in types else {"properties": {"f": {}}}
    dicts = landed(settings, [{"f": value} for value in values], schema)
    assert landed(settings, one(column), schema) == dicts
    assert None not in dicts


def test_the_texts_of_uuids() -> None:
    column = uuids([*IDS, None])
    assert plain(column).to_pylist() == [*map(str, IDS), None]
    assert plain(column.slice(1)).to_pylist() == [str(IDS[1]), None]
    assert plain(column).type == pa.string()


@given(st.lists(st.uuids() | st.none(), min_size=1))
def test_every_uuid_becomes_its_text(values: list[uuid.UUID | None]) -> None:
    assert plain(uuids(values)).to_pylist() == [value and str(value) for value in values]


@pytest.mark.parametrize("freq", ["M", "D", "Q", "Y", "W", "h", "min", "s"])
def test_the_texts_of_periods_are_those_of_pandas(freq: str) -> None:
    values = [pd.Period("2024-02-03 04:05:06", freq), None, pd.Period("1950-01-01", freq)]
    series = pd.Series(pd.PeriodIndex(values, freq=freq))
    assert plain(pa.array(series)).to_pylist() == [value and str(value) for value in values]


def test_a_type_that_pyarrow_does_not_know_is_recognised_by_its_metadata() -> None:
    period = {b"ARROW:extension:name": b"pandas.period", b"ARROW:extension:metadata": b'{"freq": "M"}'}
    id_ = {b"ARROW:extension:name": b"arrow.uuid"}
    other = {b"ARROW:extension:name": b"acme.money"}
    schema = pa.schema([pa.field("p", pa.int64(), metadata=period), pa.field("u", pa.binary(16), metadata=id_)])
    batch = pa.RecordBatch.from_arrays([pa.array([648]), pa.array([IDS[0].bytes], pa.binary(16))], schema=schema)
    assert by_meaning(batch).to_pylist() == [{"p": "2024-01", "u": str(IDS[0])}]
    with pytest.raises(RecordError, match=r"Column 'p'.*'acme\.money', stored as int64"):
        by_meaning(batch.cast(pa.schema([pa.field("p", pa.int64(), metadata=other), pa.field("u", pa.binary(16))])))
    text = pa.RecordBatch.from_arrays([pa.array(["x"])], schema=pa.schema([pa.field("t", pa.string(), metadata=other)]))
    assert by_meaning(text).to_pylist() == [{"t": "x"}]


def test_extension_types_within_other_types() -> None:
    ids = uuids([*IDS, IDS[0]])
    struct = pa.StructArray.from_arrays([ids, pa.array([1, 2, 3])], ["u", "n"], mask=pa.array([False, True, False]))
    assert plain(struct.slice(1)).to_pylist() == [None, {"u": str(IDS[0]), "n": 3}]
    lists = pa.ListArray.from_arrays(pa.array([0, 2, None, 3]), ids)
    assert plain(lists.slice(1)).to_pylist() == [[str(IDS[0])], None]
    assert plain(pa.LargeListArray.from_arrays([0, 1, 3], ids)).to_pylist() == [
        [str(IDS[0])],
        [str(IDS[1]), str(IDS[0])],
    ]
    pairs = pa.MapArray.from_arrays(pa.array([0, 2, None, 3]), pa.array(["a", "b", "c"]), ids)
    assert plain(pairs.slice(1)).to_pylist() == [[("c", str(IDS[0]))], None]
    assert pa.types.is_map(plain(pairs).type)
    assert plain(pa.array([0, 1, 0]).dictionary_encode()).to_pylist() == [0, 1, 0]


class Money(pa.ExtensionType):
    """A type of a user, in cents."""

    def __init__(self) -> None:
        super().__init__(pa.int64(), "acme.money")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> "Money":
        return cls()


HUGE = pa.opaque(pa.binary(16), "hugeint", "DuckDB")
MATRIX = pa.fixed_shape_tensor(pa.int8(), [2, 2])
VECTOR = pa.fixed_shape_tensor(pa.int8(), [2])
REFUSED = {
    "a user's type": pa.ExtensionArray.from_storage(Money(), pa.array([1])),
    "opaque bytes": pa.ExtensionArray.from_storage(HUGE, pa.array([bytes(16)], pa.binary(16))),
    "interval": pa.array(pd.Series(pd.IntervalIndex.from_tuples([(0, 1)]))),
    "matrix": pa.ExtensionArray.from_storage(MATRIX, pa.array([[1, 2, 3, 4]], pa.list_(pa.int8(), 4))),
}


@pytest.mark.parametrize("column", REFUSED.values(), ids=REFUSED)
def test_a_type_of_unknown_meaning_is_refused_with_its_column(column: pa.Array) -> None:
    with pytest.raises(RecordError, match="Column 'f'"):
        plain(column)
    with pytest.raises(RecordError, match=r"Column 's\.f'"):
        by_meaning(one(pa.StructArray.from_arrays([column], ["f"]), "s"))
    with pytest.raises(RecordError, match="Column 'f'"):
        list(batches(one(column), emitted_at=lambda: 7))


def test_types_that_are_stored_as_what_they_mean() -> None:
    vectors = pa.ExtensionArray.from_storage(VECTOR, pa.array([[1, 2]], pa.list_(pa.int8(), 2)))
    assert plain(vectors).to_pylist() == [[1, 2]]
    opaque = pa.opaque(pa.string(), "inet", "PostgreSQL")
    assert plain(pa.ExtensionArray.from_storage(opaque, pa.array(["::1"]))).to_pylist() == ["::1"]
    wkb = pa.schema([pa.field("g", pa.binary(), metadata={b"ARROW:extension:name": b"geoarrow.wkb"})])
    assert by_meaning(pa.RecordBatch.from_arrays([pa.array([b"x"])], schema=wkb)).to_pylist() == [{"g": b"x"}]


# ---------------------------------------------------------------------- JSON


def test_json_is_its_value() -> None:
    spelled = ['{"a": 1.10}', "[1, 2]", '"x"', None, "null", ' {\n"b":\n1} ']
    batch = one(pa.array(spelled, pa.json_()))
    schema = json_schema_of_arrow(batch.schema)
    read = pq.read_table(BytesIO(content_of(ParquetFormat(), batch, schema)))
    assert read["f"].to_pylist() == ['{"a": 1.10}', "[1, 2]", '"x"', None, None, '{"b":1}']
    content = content_of(JsonlFormat(compression="No Compression"), batch, schema)
    values = [json.loads(line)["_airbyte_data"]["f"] for line in content.splitlines()]
    assert values == [{"a": 1.1}, [1, 2], "x", None, None, {"b": 1}]


def test_a_text_that_is_no_json_is_refused_with_field_and_record() -> None:
    batch = next(batches(one(pa.array(["1", "{"], pa.json_())), emitted_at=lambda: 7))
    assert isinstance(batch, ArrowBatch)
    for settings in (ParquetFormat(), JsonlFormat()):
        made = encoder(settings, Stream(name="s", json_schema={"properties": {"f": {}}}))
        with pytest.raises(RecordError, match="record 2"):
            made.encode(batch, bytes(32))


# ---------------------------------------------------------------------- dicts


def test_a_period_in_a_dict_is_its_text() -> None:
    (batch,) = batches([{"f": PERIODS[0]}, {"f": [PERIODS[1]]}], emitted_at=lambda: 7)
    assert isinstance(batch, JsonBatch)
    assert batch.raws == [b'{"f":"2024-01"}', b'{"f":["1969-12"]}']


def test_an_interval_in_a_dict_is_refused() -> None:
    with pytest.raises(RecordError, match="field f: a Interval"):
        list(batches([{"f": pd.Interval(0, 1)}], emitted_at=lambda: 7))
