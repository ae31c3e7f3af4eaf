"""Every dialect of CSV is read back by the library and by independent readers, or it is refused."""

from __future__ import annotations

import csv
import io
import string
from dataclasses import replace
from itertools import product

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.csv
import pytest
from encoded import USERS, batch_of, entropy_of, stream_of, user, written
from hypothesis import given
from hypothesis import strategies as st
from strategies import streams

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.formats import encoder, read_table
from s3dest_dagster.settings.connector_config import from_connector_config
from s3dest_dagster.settings.formats import CsvFormat, Flattening, TextCompression, TypeRules

FLAT = CsvFormat(flattening=Flattening.ROOT, compression=TextCompression.NONE)
DIALECTS = [
    replace(FLAT, delimiter=delimiter, quoting=quoting, null_text=null_text, header=header)
    for delimiter, quoting, null_text, header in [
        (";", "strings", "", True),
        ("\t", "strings", "\\N", False),
        ("|", "minimal", "", True),
        ("\x01", "minimal", "NULL", True),
        (",", "minimal", "true story", False),
        (";", "nonnumeric", "", True),
        (" ", "nonnumeric", "", True),
        (",", "all", "", True),
        ("#", "all", "NULL", False),
        ("'", "all", "-", True),
    ]
]
COLUMNS = {"i": {"type": "integer"}, "n": {"type": "number"}, "t": {"type": "string"}, "b": {"type": "boolean"}}
TEXTS = [
    "plain",
    "",
    "12",
    "true",
    "null",
    " blank",
    "blank ",
    'say "hi"',
    "a;b|c\td,e'f#g\x01h i",
    "a\r\nb",
    "Zoë",
    "né",
]
ROWS = [{"i": n, "n": n / 4, "t": text, "b": n % 2 == 0} for n, text in enumerate(TEXTS)] + [{}, {"i": 1, "t": "x"}]
VALUES = [tuple(row.get(name) for name in COLUMNS) for row in ROWS]


def _columns(chosen: CsvFormat) -> list[str]:
    return ["_airbyte_ab_id", "_airbyte_emitted_at", *COLUMNS]


def _data(chosen: CsvFormat, rows=ROWS) -> bytes:
    return written(chosen, stream_of(COLUMNS), [batch_of(rows)])


def _null_texts(chosen: CsvFormat) -> list[dict[str, str]]:
    """Rows with the very text that stands for null."""
    return [{"t": chosen.null_text}, {}] if chosen.null_text else []


# ---------------------------------------------------------------------- the library's own reader


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_values_nulls_and_texts_like_them_are_read_back(chosen):
    rows = [*ROWS, *_null_texts(chosen)]
    table = read_table(chosen, stream_of(COLUMNS), _data(chosen, rows))
    assert table.select(list(COLUMNS)).to_pylist() == [{name: row.get(name) for name in COLUMNS} for row in rows]
    assert not any(table["_airbyte_additional_properties"].to_pylist())


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_every_kind_of_field_is_read_back(chosen):
    expected = read_table(FLAT, stream_of(), written(FLAT, stream_of(), [batch_of(map(user, range(9)))]))
    kept = replace(chosen, additional_properties_column=True)
    found = read_table(kept, stream_of(), written(kept, stream_of(), [batch_of(map(user, range(9)))]))
    # With quotes around everything, a number beside texts is a text.
    names = [name for name in USERS if name != "code" or chosen.quoting != "all"]
    assert found.select(names).equals(expected.select(names))
    assert ("beyond", '{"deep":[1.5,null]}') in found["_airbyte_additional_properties"].to_pylist()[0]


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_records_without_flattening_are_read_back(chosen):
    whole = replace(chosen, flattening=Flattening.NONE)
    table = read_table(whole, stream_of(COLUMNS), _data(whole))
    assert table["t"].to_pylist() == [row.get("t") for row in ROWS]


@given(streams(), st.sampled_from([each for each in DIALECTS if each.quoting in ("strings", "minimal")]))
def test_any_record_reads_like_that_of_the_default_dialect(generated, chosen):
    properties, records = generated
    stream, batch = stream_of(properties), batch_of(records)
    assert read_table(chosen, stream, written(chosen, stream, [batch])).equals(
        read_table(FLAT, stream, written(FLAT, stream, [batch]))
    )


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1), st.sampled_from(DIALECTS))
def test_any_text_is_read_back(texts, chosen):
    rows = [{"t": text} for text in texts]
    table = read_table(chosen, stream_of(COLUMNS), _data(chosen, rows))
    assert table["t"].to_pylist() == texts


# ---------------------------------------------------------------------- independent readers


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_python_reads_the_cells(chosen):
    text = _data(chosen).decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=chosen.delimiter, strict=True))
    assert not chosen.header or rows.pop(0) == _columns(chosen)
    assert [row[4] for row in rows] == [row.get("t", chosen.null_text) for row in ROWS]
    assert [row[2] for row in rows] == [str(row.get("i", chosen.null_text)) for row in ROWS]


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_arrow_tells_null_from_the_same_text(chosen):
    rows = [*ROWS, *_null_texts(chosen)]
    table = pa.csv.read_csv(
        io.BytesIO(_data(chosen, rows)),
        pa.csv.ReadOptions(column_names=None if chosen.header else _columns(chosen)),
        pa.csv.ParseOptions(delimiter=chosen.delimiter, newlines_in_values=True),
        pa.csv.ConvertOptions(
            null_values=[chosen.null_text],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            column_types={"i": pa.int64(), "n": pa.float64(), "t": pa.string(), "b": pa.bool_()},
        ),
    )
    assert table.select(list(COLUMNS)).to_pylist() == [{name: row.get(name) for name in COLUMNS} for row in rows]


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_duckdb_tells_null_from_the_same_text(chosen, tmp_path):
    rows = [*ROWS, *_null_texts(chosen)]
    path = tmp_path / "rows.csv"
    path.write_bytes(_data(chosen, rows))
    types = dict(zip(_columns(chosen), ["VARCHAR", "BIGINT", "BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN"], strict=True))
    options = {"header": chosen.header, "quotechar": '"', "escapechar": '"', "allow_quoted_nulls": False}
    with duckdb.connect() as connection:
        table = connection.read_csv(
            str(path), sep=chosen.delimiter, na_values=chosen.null_text, dtype=types, names=list(types), **options
        )
        found = table.select("i, n, t, b").fetchall()
    assert found == [tuple(row.get(name) for name in COLUMNS) for row in rows]


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_polars_reads_the_values(chosen):
    frame = pl.read_csv(
        io.BytesIO(_data(chosen)),
        separator=chosen.delimiter,
        has_header=chosen.header,
        new_columns=_columns(chosen),
        null_values=chosen.null_text or None,
        schema_overrides=[pl.String, pl.Int64, pl.Int64, pl.Float64, pl.String, pl.Boolean],
    )
    assert frame.select(list(COLUMNS)).rows() == VALUES


@pytest.mark.parametrize("chosen", DIALECTS, ids=repr)
def test_pandas_reads_the_values(chosen):
    frame = pd.read_csv(
        io.BytesIO(_data(chosen)),
        sep=chosen.delimiter,
        header=0 if chosen.header else None,
        names=_columns(chosen),
        na_values=[chosen.null_text],
        keep_default_na=False,
        dtype={"i": "Int64", "n": "Float64", "t": "string", "b": "boolean"},
    )
    found = [
        tuple(None if value is pd.NA else value for value in row) for row in frame[[*COLUMNS]].itertuples(index=False)
    ]
    # pandas does not tell a text in quotes from null.
    assert found == [tuple(None if value == chosen.null_text else value for value in row) for row in VALUES]


# ---------------------------------------------------------------------- quoting


@pytest.mark.parametrize(
    ("quoting", "cells"),
    [
        ("strings", b'1,"x","12","a,b","",,true,"[1]"'),
        ("minimal", b'1,x,"12","a,b","",,true,"[1]"'),
        ("nonnumeric", b'1,"x","12","a,b","",,"true","[1]"'),
        ("all", b'"1","x","12","a,b","",,"true","[1]"'),
    ],
)
def test_quoting_says_which_cells_have_quotes(quoting, cells):
    stream = stream_of({name: {} for name in "abcdefgh"})
    row = {"a": 1, "b": "x", "c": "12", "d": "a,b", "e": "", "f": None, "g": True, "h": [1]}
    line = written(replace(FLAT, quoting=quoting), stream, [batch_of([row])]).splitlines()[1]
    assert line.split(b",", 2)[2] == cells
    quotes = {"strings": b'"%b",%b', "minimal": b"%b,%b", "nonnumeric": b'"%b",%b', "all": b'"%b","%b"'}[quoting]
    assert line.startswith(quotes % (line.strip(b'"')[:36], b"1622135805000"))


def test_python_reads_numbers_where_only_numbers_have_no_quotes():
    text = _data(replace(FLAT, quoting="nonnumeric"), [{"i": 1, "n": 2.5, "t": "3", "b": True}]).decode()
    rows = list(csv.reader(io.StringIO(text, newline=""), quoting=csv.QUOTE_NONNUMERIC))
    assert rows[1][2:] == [1, 2.5, "3", "true"]


def test_a_text_with_a_byte_order_mark_stays_whole_at_the_beginning_of_a_file():
    chosen = replace(FLAT, quoting="minimal", header=False)
    stream = stream_of({"t": {"type": "string"}, "u": {"type": "string"}})
    formatted = encoder(chosen, stream, rules=TypeRules(envelope="none"))
    data = written(chosen, stream, [batch_of([{"t": "\ufeffx", "u": "y"}])], by=formatted)
    assert pl.read_csv(io.BytesIO(data), has_header=False).rows() == [("\ufeffx", "y")]
    table = pa.csv.read_csv(io.BytesIO(data), pa.csv.ReadOptions(autogenerate_column_names=True))
    assert table.to_pylist() == [{"f0": "\ufeffx", "f1": "y"}]


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("delimiter", ["", ";;", '"', "\r", "\n", "\0", "+", "-", ".", "§", *"e5tF"])
def test_a_delimiter_that_a_value_may_contain_without_quotes_is_refused(delimiter):
    with pytest.raises(SettingsError, match="delimiter is") as refused:
        CsvFormat(delimiter=delimiter)
    assert refused.value.setting == "delimiter"


def test_every_character_that_no_plain_value_contains_can_be_the_delimiter():
    plain = set('0123456789+-.eEtruefalse"\r\n')
    allowed = set(map(chr, range(1, 128))) - plain - set(string.ascii_letters)
    rows = [{"t": "".join(allowed), "i": -1, "n": 1.5e-7, "b": True}]
    for delimiter, quoting in product(sorted(allowed), ("strings", "minimal", "all")):
        chosen = replace(FLAT, delimiter=delimiter, quoting=quoting)
        (row,) = read_table(chosen, stream_of(COLUMNS), _data(chosen, rows)).select(list(COLUMNS)).to_pylist()
        assert row == rows[0], repr(delimiter)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        *(({"null_text": text}, "number or a boolean") for text in ("0", "-1", "1e5", "007", ".5", "true", "FALSE")),
        *(({"null_text": text}, "one cell") for text in ('"', "a,b", "a\n", "\0", "\ud800")),
        ({"null_text": "a;b", "delimiter": ";"}, "one cell"),
        ({"null_text": " "}, "blank"),
        ({"null_text": "NULL ", "quoting": "all"}, "blank"),
        ({"null_text": "NULL", "quoting": "nonnumeric"}, "every cell without quotes is a number"),
    ],
)
def test_a_null_text_that_could_be_another_value_is_refused(settings, reason):
    with pytest.raises(SettingsError, match=reason) as refused:
        CsvFormat(**settings)
    assert refused.value.setting == "null_text"


# ---------------------------------------------------------------------- the order of columns


def _header(chosen: CsvFormat, names) -> list[str]:
    header = written(chosen, stream_of({name: {} for name in names}), []).decode()
    return next(csv.reader(io.StringIO(header)))[2:]


def test_columns_are_in_the_order_of_the_source():
    names = ["b", "a", "B", "é", "_", "A", "\uff5e", "\U0001f600", 'q"']
    assert _header(FLAT, names) == names


def test_the_cells_follow_their_columns_in_either_order():
    for order, cells in (("source", b"1,2,3"), ("sorted", b"3,2,1")):
        chosen = replace(FLAT, column_order=order)
        stream, batch = stream_of({name: {} for name in "cba"}), batch_of([b'{"a":3,"b":2,"c":1}'])
        line = written(chosen, stream, [batch]).splitlines()[1]
        assert line.split(b",", 2)[2] == cells


def test_the_config_of_a_connector_keeps_the_connectors_order_unless_it_says_otherwise():
    required = {"s3_bucket_name": "b", "s3_bucket_path": "p", "s3_bucket_region": "us-east-1"}
    format_ = {"format_type": "CSV", "flattening": "Root level flattening"}
    assert from_connector_config({**required, "format": format_}).destination.format.column_order == "sorted"
    own = {"format": {"column_order": "source"}}
    read = from_connector_config({**required, "format": format_, "s3dest": own})
    assert read.destination.format.column_order == "source"


def test_the_output_of_a_dialect_does_not_depend_on_earlier_batches():
    for chosen in DIALECTS:
        formatted = encoder(chosen, stream_of(COLUMNS))
        batches = [batch_of(ROWS[:5]), batch_of(ROWS)]
        found = [formatted.encode(batch, entropy_of(batch)).payload for batch in batches]
        assert found[1] == encoder(chosen, stream_of(COLUMNS)).encode(batches[1], entropy_of(batches[1])).payload
