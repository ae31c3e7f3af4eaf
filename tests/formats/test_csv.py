"""CSV cells hold the source's values in its own spelling."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import replace

import duckdb
import polars as pl
import pytest
from encoded import EMITTED_AT, batch_of, entropy_of, stream_of, user, written
from hypothesis import given
from hypothesis import strategies as st
from strategies import streams

from s3dest_dagster.batch import Tally
from s3dest_dagster.columns.schemas import record_ids
from s3dest_dagster.errors import RecordError
from s3dest_dagster.formats import encoder, format_of
from s3dest_dagster.formats.protocol import contents_of
from s3dest_dagster.settings.formats import CsvFormat, Flattening, TextCompression

NONE = TextCompression.NONE
PLAIN = CsvFormat(compression=NONE)
FLAT = CsvFormat(compression=NONE, flattening=Flattening.ROOT)
KEPT = CsvFormat(compression=NONE, flattening=Flattening.ROOT, additional_properties_column=True)
A = {"a": {"type": "string"}}


def _cells(raw: bytes, properties=A, chosen=FLAT) -> bytes:
    """The cells after the envelope in the line of a record."""
    text = written(chosen, stream_of(properties), [batch_of([raw])])
    assert text.endswith(b"\r\n")
    return text[:-2].split(b"\r\n", 1)[1].split(b",", 2)[2]


def _tally(records, chosen=FLAT, properties=A) -> Tally:
    batch = batch_of(records)
    return encoder(chosen, stream_of(properties)).encode(batch, entropy_of(batch)).tally


def test_without_flattening_the_last_column_is_the_compact_record():
    batch = batch_of([b'{"b": 1.50, "a" :"x \\" , y","c":[ ]}'])
    identity = bytes(record_ids(entropy_of(batch))[0])
    assert written(PLAIN, stream_of(), [batch]) == (
        b'"_airbyte_ab_id","_airbyte_emitted_at","_airbyte_data"\r\n'
        b'"%b",%d,"{""b"":1.50,""a"":""x \\"" , y"",""c"":[]}"\r\n' % (identity, EMITTED_AT)
    )


def test_every_object_has_a_header_even_without_records():
    assert written(FLAT, stream_of(A), []) == b'"_airbyte_ab_id","_airbyte_emitted_at","a"\r\n'


def test_columns_can_be_sorted_by_code_unit():
    names = ["b", "a", "B", "é", "_", "A", "\uff5e", "\U0001f600", 'q"']
    chosen = CsvFormat(compression=NONE, flattening=Flattening.ROOT, column_order="sorted")
    header = written(chosen, stream_of({name: {} for name in names}), []).decode()
    found = next(csv.reader(io.StringIO(header)))
    assert found[2:] == ["A", "B", "_", "a", "b", 'q"', "é", "\U0001f600", "\uff5e"]


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (b"1.50", b"1.50"),
        (b"1e400", b"1e400"),
        (b"-0", b"-0"),
        (b"12345678901234567890", b"12345678901234567890"),
        (b"true", b"true"),
        (b"null", b""),
        (b'""', b'""'),
        (b'"null"', b'"null"'),
        (b'"a,b"', b'"a,b"'),
        (b'"{"', b'"{"'),
        (rb'"say \"hi\""', b'"say ""hi"""'),
        (rb'"a\r\nb\u001e\\"', b'"a\r\nb\x1e\\"'),
        (rb'"\u00e9"', '"é"'.encode()),
        (b'{"x": [1.50, null] }', b'"{""x"":[1.50,null]}"'),
        (b"[ ]", b'"[]"'),
        (b'["a, b"]', b'"[""a, b""]"'),
    ],
)
def test_a_cell_is_the_value_in_its_own_spelling(value, cell):
    assert _cells(b'{"a":%b}' % value) == cell


def test_a_missing_field_is_an_empty_cell():
    assert _cells(b"{}") == b""


@pytest.mark.parametrize("rest", [b'{"a":"x"}', b'{"a": "x", "b": 1}', b'{"b":[1]}', b"{}", rb'{"\u0061":1}'], ids=repr)
def test_the_last_value_of_a_repeated_key_is_the_cell_and_the_others_are_counted_or_kept(rest):
    raw = b'{"a":1,"b":2,"a":null,"b":3,"a":4}'
    assert _cells(raw) == b"4"
    assert _cells(raw, chosen=KEPT) == b'4,"{""_airbyte_additional_properties.b"":2,""a"":1,""b"":3}"'
    rows = [rest] * 30
    others = _tally(rows)
    for chosen in (FLAT, KEPT):
        tally = _tally([*rows, raw], chosen)
        assert tally.overflowed == {"a": 1}
        assert tally.undeclared.get("b", 0) == others.undeclared.get("b", 0) + 2


def test_adjacent_nulls_are_all_empty():
    records = [b'{"a":null}'] * 5 + [b'{"a":"null"}']
    text = written(FLAT, stream_of(A), [batch_of(records)]).decode()
    assert [line.split(",")[2] for line in text.splitlines()[1:]] == ["", "", "", "", "", '"null"']


def test_undeclared_fields_are_counted_by_name_and_not_landed():
    records = [{"a": "x", "new": n, "old": None} for n in range(10)] + [{"a": "y"}]
    assert _tally(records) == Tally(undeclared={"new": 10})
    assert _cells(b'{"a":"x","new":1}') == b'"x"'


def test_undeclared_fields_are_kept_as_json_on_request():
    raw = b'{"a":"x","n":[ 1.50],"m":"q\\"","k":null}'
    header = written(KEPT, stream_of(A), []).strip()
    assert header.endswith(b',"a","_airbyte_additional_properties"')
    assert _cells(raw, chosen=KEPT) == rb'"x","{""k"":null,""m"":""q\"""",""n"":[1.50]}"'
    assert _tally([raw], KEPT) == Tally(undeclared={"m": 1, "n": 1})
    assert _cells(b'{"a":"x"}', chosen=KEPT) == b'"x",'


def test_a_field_named_like_an_envelope_column_is_undeclared():
    properties = {"_airbyte_ab_id": {"type": "string"}, **A}
    assert written(FLAT, stream_of(properties), []).count(b"_airbyte_ab_id") == 1
    assert _cells(b'{"_airbyte_ab_id":"mine","a":"x"}', properties, KEPT) == b'"x","{""_airbyte_ab_id"":""mine""}"'


@pytest.mark.parametrize("name", ['say "a"', "back\\slash", "tab\there"])
def test_names_that_json_escapes_are_columns_too(name):
    text = written(FLAT, stream_of({name: {}}), [batch_of([{name: 1}, {name: 2, "b": 3}])]).decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert [row[2] for row in rows] == [name, "1", "2"]


def test_a_stream_without_properties_has_only_the_envelope():
    text = written(FLAT, stream_of({}), [batch_of([b"{}", b"{}"])])
    assert [line.count(b",") for line in text.split(b"\r\n")] == [1, 1, 1, 0]


def test_a_stream_can_have_thousands_of_columns():
    properties = {f"field {n}": {"type": "integer"} for n in range(3000)}
    assert _cells(json.dumps({"field 2999": 7}).encode(), properties).count(b",") == 2999


def test_a_record_that_is_not_an_object_is_refused_with_its_number():
    with pytest.raises(RecordError, match=r"Record 2 of a batch is no JSON object .*\[1\]"):
        _tally([b'{"a":1}', b"[1]"])


@given(st.lists(streams(), min_size=1, max_size=3), st.randoms())
def test_the_output_does_not_depend_on_earlier_records_of_the_encoder(generated, random):
    properties = generated[0][0]
    records = [record for _, found in generated for record in found]
    formatted = encoder(KEPT, stream_of(properties))
    for _ in range(3):
        random.shuffle(records)
        batch = batch_of(records)
        fresh = encoder(KEPT, stream_of(properties)).encode(batch, entropy_of(batch))
        assert formatted.encode(batch, entropy_of(batch)) == fresh


def test_readers_find_the_rows_and_values(tmp_path):
    path = tmp_path / "users.csv.gz"
    chosen = CsvFormat(flattening=Flattening.ROOT)
    path.write_bytes(written(chosen, stream_of(), [batch_of(map(user, range(50)))]))
    names = duckdb.sql(f"select id, name from read_csv('{path}') order by id limit 2").fetchall()
    assert names == [(0, 'Zoë "0"\n'), (1, 'Zoë "1"\n')]
    assert pl.read_csv(io.BytesIO(gzip.decompress(path.read_bytes())))["id"].to_list() == list(range(50))


def test_compression_and_effort_reach_the_object():
    batches = [batch_of(map(user, range(400)))]
    plain = written(PLAIN, stream_of(), batches)
    packed = {
        each: written(CsvFormat(gzip_effort=each), stream_of(), batches) for each in ("fast", "balanced", "small")
    }
    assert all(gzip.decompress(data) == plain for data in packed.values())
    assert len(set(packed.values())) == 3


def test_undeclared_fields_that_a_contract_discards_are_in_no_cell():
    chosen, batch = KEPT, batch_of([b'{"a":"x","SECRET":1}', b'{"a":"first","a":"last","SECRET":1,"SECRET":2}'])
    contents = contents_of(stream_of(A))
    dropping = replace(contents, record=replace(contents.record, drops_undeclared=True))
    encoded = format_of(chosen).encoder(dropping, "overflow").encode(batch, entropy_of(batch))
    assert b"SECRET" not in bytes(encoded.payload)
    assert b"first" in bytes(encoded.payload)
    assert encoded.tally == _tally([b'{"a":"x","SECRET":1}', b'{"a":"first","a":"last","SECRET":1,"SECRET":2}'], KEPT)
