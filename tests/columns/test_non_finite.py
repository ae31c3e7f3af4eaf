"""NaN and infinities are found wherever they are, and nothing else is taken for them."""

from __future__ import annotations

import json
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.columns.arrow_json_texts import Refused, column_texts
from s3dest_dagster.columns.arrow_types import as_list_column
from s3dest_dagster.columns.non_finite import field_of, finite_batch, finite_text, split_batch

NAN, INFINITY = math.nan, math.inf
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("NaN"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


def _nulled(value, path=()):
    """The value with None in place of non-finite numbers, and their paths."""
    if isinstance(value, float) and not math.isfinite(value):
        return None, [path]
    if isinstance(value, list):
        found = [_nulled(item, (*path, "[]")) for item in value]
        return [item for item, _ in found], [each for _, paths in found for each in paths]
    if isinstance(value, dict):
        members = {name: _nulled(item, (*path, name)) for name, item in value.items()}
        return {name: item for name, (item, _) in members.items()}, [p for _, paths in members.values() for p in paths]
    return value, []


@given(st.dictionaries(st.text(), VALUES), st.booleans())
def test_the_text_of_any_object_becomes_json_with_nulls(value, ascii):
    text, paths = finite_text(json.dumps(value, ensure_ascii=ascii).encode("utf-8", "surrogatepass"))
    expected, where = _nulled(value)
    assert json.loads(text) == expected
    assert list(paths) == where


def test_fields_are_named_by_their_path():
    _, paths = finite_text(b'{"a":{"b":[1,{"c":NaN}],"\\u0064":-Infinity},"x":["NaN",[Infinity]]}')
    assert [field_of(path) for path in paths] == ["a.b[].c", "a.d", "x[][]"]


def _batch(columns: dict[str, pa.Array]) -> ArrowBatch:
    data = pa.RecordBatch.from_pydict(columns)
    return ArrowBatch(data, np.arange(data.num_rows))


CODES = pa.array([0, 1, 0, 1, 0], pa.int8())
SPARSE = pa.UnionArray.from_sparse(
    CODES, [pa.array([1.0, NAN, NAN, 2.0, None]), pa.array([[{"y": 1.0}], None, None, [{"y": INFINITY}], []])]
)
DENSE = pa.UnionArray.from_dense(
    CODES,
    pa.array([1, 0, 0, 1, 1], pa.int32()),
    [pa.array([NAN, 1.0, INFINITY]), pa.array([[{"y": 1.0}], [{"y": NAN}, {"y": -INFINITY}]])],
)
ODD = {
    "f": pa.array([1.0, NAN, None, INFINITY, 2.0]),
    "h": pa.array([1, 2, 3, 4, -INFINITY], pa.float16()),
    "s": pa.array([{"x": NAN, "t": "a"}, None, {"x": 1.0}, {"x": None}, {"x": 2.0}]),
    "l": pa.array([[1.0], None, [], [NAN, 2.0, NAN], [3.0]]),
    "big": pa.array([[1.0], None, [], [2.0], [INFINITY]], pa.large_list(pa.float32())),
    "fixed": pa.array([[1.0, 2.0], None, [3.0, 4.0], [5.0, NAN], [6.0, 7.0]], pa.list_(pa.float64(), 2)),
    "m": pa.array([[("k", NAN)], None, [], [("a", 1.0)], [("b", 2.0)]], pa.map_(pa.string(), pa.float64())),
    "d": pa.DictionaryArray.from_arrays(pa.array([0, 1, None, 0, 1]), pa.array([1.5, NAN])),
    "n": pa.array([[{"y": [NAN]}], [], None, [{"y": None}, {"y": [1.0]}], [{"y": []}]]),
    "i": pa.array([1, 2, 3, 4, 5]),
    "sparse": SPARSE,
    "dense": DENSE,
    "unions": pa.ListArray.from_arrays([0, 1, 1, 3, 4, 5], DENSE),
    "runs": pa.RunEndEncodedArray.from_arrays(pa.array([1, 3, 5]), pa.array([1.0, NAN, None])),
    "views": pa.array([[1.0], None, [], [NAN, 2.0, NAN], [3.0]], pa.list_view(pa.float64())),
    "big views": pa.array([None, [1.0], None, [NAN], [3.0]], pa.large_list_view(pa.float64())),
}


@pytest.mark.parametrize("start", [0, 1, 3])
@pytest.mark.parametrize("name", ODD)
def test_arrow_columns_of_every_shape_lose_these_numbers_alone(name, start):
    batch = _batch({name: ODD[name].slice(start)})
    finite, counts = finite_batch(batch)
    expected = [_nulled(value) for value in ODD[name].slice(start).to_pylist(maps_as_pydicts=None)]

    def plain(value):
        return json.loads(json.dumps(value))

    assert plain(finite.data.column(0).to_pylist()) == plain([_tuples_nulled(value) for value, _ in expected])
    assert counts.total() == sum(_count(value) for value in ODD[name].slice(start).to_pylist())
    split = split_batch(batch)
    assert split.finite.num_rows + len(split.bad) == batch.num_rows
    assert finite_batch(split.finite)[1].total() == 0
    assert [bad.finite.emitted_at for bad in split.bad if bad.finite] == [
        row for row, value in enumerate(batch.data.column(0).to_pylist()) if _count(value)
    ]
    assert all(bad.finite and bad.finite.fields and b"NaN" not in bad.finite.raw for bad in split.bad)


def _tuples_nulled(value):
    if isinstance(value, list):
        return [_tuples_nulled(item) for item in value]
    if isinstance(value, tuple):
        return [_nulled(item)[0] for item in value]
    return value


def _count(value) -> int:
    if isinstance(value, dict):
        return sum(map(_count, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_count, value))
    return isinstance(value, float) and not math.isfinite(value)


@pytest.mark.parametrize("union", [SPARSE, DENSE], ids=["sparse", "dense"])
def test_a_union_is_written_as_json_although_values_that_no_row_holds_are_infinite(union):
    split = split_batch(_batch({"u": union}))
    texts = column_texts(split.finite.data["u"], Refused(), "u").to_pylist()
    assert [json.loads(text) for text in texts] == [value for value in union.to_pylist() if not _count(value)]


@pytest.mark.parametrize("type_", [pa.list_view(pa.int8()), pa.large_list_view(pa.int8())], ids=str)
def test_views_of_lists_keep_their_values_beside_null_lists(type_):
    values = [None, [1, 2], None, [], [3, None], None]
    for start in range(3):
        assert as_list_column(pa.array(values, type_).slice(start)).to_pylist() == values[start:]
    overlapping = pa.ListViewArray.from_arrays(pa.array([1, 0, 1]), pa.array([2, 3, 0]), pa.array([1, 2, 3], pa.int8()))
    assert as_list_column(overlapping).to_pylist() == [[2, 3], [1, 2, 3], []]


def test_json_documents_lose_these_numbers_and_are_quarantined_as_they_were():
    texts = ['{"x":[1.50,NaN],"t":"NaN"}', None, "-Infinity", '{"x":"Infinity"}', "[NaN]"]
    documents = pa.ExtensionArray.from_storage(pa.json_(), pa.array(texts))
    nested = pa.StructArray.from_arrays([documents], names=["d"])
    batch = _batch({"j": documents, "s": nested})
    finite, counts = finite_batch(batch)
    expected = ['{"x":[1.50,null],"t":"NaN"}', None, "null", '{"x":"Infinity"}', "[null]"]
    assert finite.data["j"].to_pylist() == expected
    assert finite.data["j"].type == pa.json_()
    assert [row["d"] for row in finite.data["s"].to_pylist()] == expected
    assert counts == {"j.x[]": 1, "j": 1, "j[]": 1, "s.d.x[]": 1, "s.d": 1, "s.d[]": 1}
    split = split_batch(batch)
    assert split.finite.data["j"].to_pylist() == [None, '{"x":"Infinity"}']
    assert [json.loads(bad.raw)["j"] for bad in split.bad] == [texts[0], texts[2], texts[4]]
    assert [json.loads(bad.finite.raw)["j"] for bad in split.bad if bad.finite] == [
        {"x": [1.5, None], "t": "NaN"},
        None,
        [None],
    ]


def test_columns_without_such_numbers_are_not_copied():
    batch = _batch({"f": pa.array([1.0, None]), "l": pa.array([[1.0], None])})
    assert finite_batch(batch)[0] is batch
    assert split_batch(batch).finite is batch
