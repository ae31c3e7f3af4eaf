"""Arrow data becomes the lines that its records as JSON become, though it takes a faster way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from arrow_batches import record_batches, scalar_columns
from encoded import EMITTED_AT, entropy_of
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch, JsonBatch
from s3dest_dagster.columns.inference import json_schema_of_arrow
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import Encoded, Encoder, encoder
from s3dest_dagster.formats.text import json_texts
from s3dest_dagster.settings.formats import CsvFormat, Flattening, FormatSettings, JsonlFormat
from s3dest_dagster.stream import Stream

ROOT = Flattening.ROOT
SETTINGS = [
    JsonlFormat(),
    JsonlFormat(flattening=ROOT, emitted_at="number"),
    CsvFormat(),
    CsvFormat(flattening=ROOT),
    CsvFormat(flattening=ROOT, quoting="minimal", null_text="NULL", delimiter=";"),
    CsvFormat(flattening=ROOT, quoting="all", null_text="\\N", column_order="source"),
    CsvFormat(flattening=ROOT, quoting="nonnumeric", additional_properties_column=False),
]


def arrow_batch(data: pa.RecordBatch) -> ArrowBatch:
    return ArrowBatch(data, EMITTED_AT + np.arange(data.num_rows))


def encoder_for(settings: FormatSettings, data: pa.RecordBatch, declared: int | None = None) -> Encoder:
    """The encoder of a stream that declares the first columns."""
    properties = dict(list(json_schema_of_arrow(data.schema)["properties"].items())[:declared])
    return encoder(settings, Stream(name="rows", json_schema={"properties": properties}))


def encoded_or_refused(encode: Any) -> Encoded | str:
    try:
        return encode()
    except RecordError as error:
        return str(error)


@given(record_batches(), st.sampled_from(SETTINGS), st.sampled_from([None, None, 1]))
def test_arrow_data_has_the_lines_of_its_records_as_json(data, settings, declared):
    batch = arrow_batch(data)
    by = encoder_for(settings, data, declared)
    entropy = entropy_of(batch)

    def through_json() -> Encoded:
        return by.encode(JsonBatch(json_texts(batch), batch.emitted_at, batch.nbytes), entropy)

    assert encoded_or_refused(lambda: by.encode(batch, entropy)) == encoded_or_refused(through_json)


@pytest.mark.parametrize("settings", SETTINGS[:5], ids=lambda each: f"{each.format_type}-{each.flattening}")
def test_no_text_is_made_for_a_record_of_plain_columns(settings, monkeypatch):
    data = pa.RecordBatch.from_pydict({"a": [1, None], "b": ["x", 'y"'], "c": [{"d": [1.5]}, None]})
    by = encoder_for(settings, data)
    monkeypatch.setattr(type(by), "lines", lambda *_: pytest.fail("the records became JSON texts"))
    assert by.encode(arrow_batch(data), entropy_of(arrow_batch(data))).rows == 2


# ---------------------------------------------------------------------- the text of one value

MICROS = [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.timestamp("us", "Asia/Kathmandu"), pa.time64("us")]
MOMENTS = [pa.date32(), *MICROS, pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.time32("s"), pa.time32("ms")]


@given(scalar_columns(40).filter(lambda column: column.type in MOMENTS))
def test_dates_and_times_are_spelled_as_python_spells_them(column):
    texts = json_texts(arrow_batch(pa.RecordBatch.from_arrays([column], names=["x"])))
    # Python has no zones at the ends of its calendar, so its values come without one.
    has_zone = pa.types.is_timestamp(column.type) and column.type.tz is not None
    values = (column.cast(pa.timestamp(column.type.unit)) if has_zone else column).to_pylist()
    expected = ["null" if each is None else f'"{each.isoformat()}{"Z" if has_zone else ""}"' for each in values]
    assert [text.decode() for text in texts] == [f'{{"x":{text}}}' for text in expected]
