"""Hypothesis strategies for streams and records: schemas of every kind, and values that fit, do not fit, are missing
or are undeclared."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_NAMES = st.one_of(
    st.sampled_from(["id", "name", "a-b", "a_b", "é", "9x", "Größe", "two words", "name ", "ß", "日本"]),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6),
)
_SCALARS: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "number", "airbyte_type": "float"},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "time"},
    {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
    {},
]
_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_DATES = st.dates().map(str)
_TIMES = st.times().map(str)
_TIMESTAMPS = st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False)
_NEAR_MISSES = {
    "integer": st.sampled_from([1.5, 30.0, -0.0, 2**63, -(2**63) - 1, 10**40, 1e308, "12", "007", "1.5", True, [1]]),
    "number": st.sampled_from([2**53 + 1, 2**63, 10**40, 16777217, 1e-320, "1.50", "1e5", "NaN", True, {}]),
    "string": st.sampled_from([5, 1.50, True, "2020-02-30", "2020-02-29T24:00", "12:00:00.1234567", "noon", ["x"], {}]),
    "boolean": st.sampled_from([0, 1, "true", "", []]),
}
"""By type: values that look like the type, or nearly fit."""


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    """The JSON schema of one field."""
    scalars = st.sampled_from(_SCALARS)
    return st.one_of(scalars, scalars, scalars, st.recursive(scalars, _nested, max_leaves=4))


def _nested(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    arrays = inner.map(lambda items: {"type": "array", "items": items})
    tuples = st.lists(inner, min_size=1, max_size=3).map(lambda items: {"type": "array", "items": items})
    objects = properties(inner).map(lambda fields: {"type": "object", "properties": fields})
    unions = st.lists(inner, min_size=2, max_size=4).map(lambda branches: {"anyOf": branches})
    return st.one_of(arrays, tuples, objects, unions)


def properties(inner: st.SearchStrategy[dict[str, Any]] | None = None) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(_NAMES, schemas() if inner is None else inner, max_size=5)


@st.composite
def records(draw: st.DrawFn, declared: dict[str, Any]) -> dict[str, Any]:
    """A record of a stream with these properties."""
    record = draw(st.fixed_dictionaries({}, optional={name: _value(schema) for name, schema in declared.items()}))
    if draw(st.integers(0, 3)) == 0:
        record |= draw(st.dictionaries(_NAMES, _anything(), max_size=2))
    return record


@st.composite
def streams(draw: st.DrawFn, most: int = 8) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The properties of a stream, and records of it."""
    declared = draw(st.dictionaries(_NAMES, schemas(), min_size=1, max_size=5))
    return declared, draw(st.lists(records(declared), max_size=most))


def _anything() -> st.SearchStrategy[Any]:
    scalars = st.one_of(st.none(), st.booleans(), st.integers(), _INTEGERS, _FLOATS, _TEXTS, _DATES)
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3))


def _value(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Usually a value that fits the schema. Sometimes null, a value that nearly fits, or any value."""
    near = _NEAR_MISSES.get(str(schema.get("type")), _anything())
    return st.one_of(_fitting(schema), _fitting(schema), near, st.none() | _anything())


def _fitting(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "anyOf" in schema:
        return st.one_of(*map(_fitting, schema["anyOf"]))
    if "$ref" in schema:
        return st.sampled_from(["", "AA==", "AAEC/w=="])
    if schema.get("type") == "array":
        items = schema["items"]
        inner = st.one_of(*map(_fitting, items)) if isinstance(items, list) else _fitting(items)
        return st.lists(st.one_of(inner, inner, st.none()), max_size=3)
    if schema.get("type") == "object":
        return records(schema["properties"])
    return _fitting_scalar(schema)


def _fitting_scalar(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    formats = {"date": _DATES, "date-time": _TIMESTAMPS, "time": _TIMES}
    if "format" in schema:
        return formats[schema["format"]]
    types = {"integer": _INTEGERS, "boolean": st.booleans(), "null": st.none()}
    if schema.get("type") == "number":
        return st.floats(width=32, allow_nan=False, allow_infinity=False) if "airbyte_type" in schema else _FLOATS
    return types.get(schema.get("type", ""), _TEXTS)
