"""JSON Lines: the bytes of the source between those of the envelope."""

from __future__ import annotations

import gzip
import io
import json

import polars as pl
import pytest
from encoded import EMITTED_AT, batch_of, entropy_of, stream_of, user, written
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.columns.schemas import record_ids
from s3dest_dagster.formats import encoder
from s3dest_dagster.settings.formats import Flattening, JsonlFormat, TextCompression

PLAIN = JsonlFormat(compression=TextCompression.NONE)
FLAT = JsonlFormat(compression=TextCompression.NONE, flattening=Flattening.ROOT)
STREAM = stream_of()


def _id(batch, number=0):
    return bytes(record_ids(entropy_of(batch))[number])


def test_a_line_is_the_envelope_around_the_bytes_of_the_source():
    raw = rb'{"id" :  1.50,"big":12345678901234567890,"text":"\u00e9\/","dup":1,"dup":2}'
    batch = batch_of([raw])
    line = b'{"_airbyte_ab_id":"%b","_airbyte_emitted_at":"%d","_airbyte_data":%b}\n' % (_id(batch), EMITTED_AT, raw)
    assert written(PLAIN, STREAM, [batch]) == line


def test_emission_times_are_texts_or_numbers_as_configured():
    batch = batch_of([b"{}"])
    numbered = JsonlFormat(compression=TextCompression.NONE, emitted_at="number")
    assert json.loads(written(PLAIN, STREAM, [batch]))["_airbyte_emitted_at"] == str(EMITTED_AT)
    assert json.loads(written(numbered, STREAM, [batch]))["_airbyte_emitted_at"] == EMITTED_AT


def test_flattened_lines_have_the_fields_in_the_order_of_the_source():
    raw = b'{"z": 1.50,"a":{"b" :[ ]},"undeclared":null}'
    batch = batch_of([raw])
    line = b'{"_airbyte_ab_id":"%b","_airbyte_emitted_at":"%d",%b\n' % (_id(batch), EMITTED_AT, raw[1:])
    assert written(FLAT, STREAM, [batch]) == line


@pytest.mark.parametrize("empty", [b"{}", b"{ }", b"{\t }"])
def test_a_flattened_empty_record_is_only_the_envelope(empty):
    lines = written(FLAT, STREAM, [batch_of([b'{"id":1}', empty, b'{ "id":2}'])]).splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [
        ["_airbyte_ab_id", "_airbyte_emitted_at", "id"],
        ["_airbyte_ab_id", "_airbyte_emitted_at"],
        ["_airbyte_ab_id", "_airbyte_emitted_at", "id"],
    ]


@pytest.mark.parametrize("key", ['"_airbyte_ab_id"', r'"_airbyte_\u0061b_id"', r'"\u005fairbyte_ab_id"'])
def test_a_field_named_like_the_envelope_is_moved_and_counted(key):
    batch = batch_of([b'{"id":1}', b'{"a":1,%b:{"x":[1.50]},"b":2}' % key.encode()])
    encoded = encoder(FLAT, STREAM).encode(batch, entropy_of(batch))
    line = encoded.payload.splitlines()[1]
    assert len(json.loads(line, object_pairs_hook=list)) == len(json.loads(line)) == 5
    assert json.loads(line)["_airbyte_ab_id"] == _id(batch, 1).decode()
    assert b'"_airbyte_additional_properties":{"_airbyte_ab_id":{"x":[1.50]}}' in line
    assert encoded.tally.undeclared == {"_airbyte_ab_id": 1}


def test_a_moved_field_joins_the_existing_additional_properties():
    record = {"_airbyte_ab_id": 1, "_airbyte_additional_properties": {"a": 2, "_airbyte_ab_id": 3}}
    line = json.loads(written(FLAT, STREAM, [batch_of([record])]))
    assert line["_airbyte_additional_properties"] == {
        "_airbyte_ab_id": 1,
        "a": 2,
        "_airbyte_additional_properties._airbyte_ab_id": 3,
    }


def test_repeated_names_stay_if_other_fields_are_moved():
    raw = b'{"a":1,"_airbyte_ab_id":2,"a":3,"_airbyte_ab_id":4,"_airbyte_additional_properties":{"x":5,"x":6}}'
    batch = batch_of([raw])
    encoded = encoder(FLAT, STREAM).encode(batch, entropy_of(batch))
    own = b'"_airbyte_ab_id":4,"_airbyte_additional_properties._airbyte_ab_id":2,"x":5'
    kept = b'"a":1,"a":3,"_airbyte_additional_properties":{%b,"_airbyte_additional_properties.x":6}}' % own
    assert encoded.payload.endswith(b'",%b\n' % kept)
    assert encoded.tally.undeclared == {"_airbyte_ab_id": 2}


def test_an_envelope_name_within_a_value_is_not_moved():
    raw = b'{"a":{"_airbyte_ab_id":1},"b":"\\"_airbyte_ab_id\\""}'
    batch = batch_of([raw])
    encoded = encoder(FLAT, STREAM).encode(batch, entropy_of(batch))
    assert encoded.payload.endswith(raw[1:] + b"\n")
    assert not encoded.tally


def test_without_flattening_nothing_is_moved():
    raw = b'{"_airbyte_ab_id":1}'
    assert raw in written(PLAIN, STREAM, [batch_of([raw])])


_KEYS = st.sampled_from(["_airbyte_ab_id", "_airbyte_emitted_at", "_airbyte_data", "_airbyte_additional_properties"])
_VALUES = st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(_KEYS, inner), max_leaves=3)


@given(st.lists(st.dictionaries(_KEYS | st.text(), _VALUES)), st.booleans())
def test_flattened_lines_lose_nothing_and_repeat_no_key(records, ascii_only):
    raws = [json.dumps(record, ensure_ascii=ascii_only).encode("utf-8", "replace") for record in records]
    lines = written(FLAT, STREAM, [batch_of(raws)]).split(b"\n")[:-1]
    for raw, line in zip(raws, lines, strict=True):
        pairs = json.loads(line, object_pairs_hook=lambda found: found)
        assert len(dict(pairs)) == len(pairs)
        record, found = json.loads(raw), json.loads(line)
        moved = {"_airbyte_ab_id", "_airbyte_emitted_at"} & record.keys()
        kept = {k: v for k, v in record.items() if k not in moved and (not moved or k != _OVERFLOW)}
        assert {k: found[k] for k in kept} == kept
        assert {k: found[_OVERFLOW][k] for k in moved} == {k: record[k] for k in moved}


_OVERFLOW = "_airbyte_additional_properties"


def test_compression_and_effort_reach_the_object():
    batches = [batch_of(map(user, range(400)))]
    plain = written(PLAIN, STREAM, batches)
    packed = {
        effort: written(JsonlFormat(gzip_effort=effort), STREAM, batches) for effort in ("fast", "balanced", "small")
    }
    assert all(gzip.decompress(data) == plain for data in packed.values())
    assert len(set(packed.values())) == 3


def test_polars_reads_the_lines():
    frame = pl.read_ndjson(io.BytesIO(gzip.decompress(written(JsonlFormat(), STREAM, [batch_of(map(user, range(9)))]))))
    assert frame["_airbyte_data"].struct.field("id").to_list() == list(range(9))
