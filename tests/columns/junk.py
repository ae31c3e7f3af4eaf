"""Schemas and records generated from a seed: clean, dirty, and with every known trap. For tests only."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

import pyarrow as pa

PLAIN_NAMES = ["a", "b", "c", "id", "d", "e"]
NAMES = [
    *PLAIN_NAMES[:4],
    "na me",
    "ünï",
    "5x",
    "_airbyte_additional_properties",
    "a-b",
    "a_b",
    'quo"te',
    "back\\slash",
    "_airbyte_ab_id",
    "x.y",
    "",
]
PLAIN_TYPES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "time"},
    {"type": "string", "format": "date-time"},
]
TYPES = [
    *PLAIN_TYPES,
    {"type": "null"},
    {"type": "number", "airbyte_type": "float"},
    {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
    {},
]
DIRT = [
    *('"12"', "12", "1.50", "1e3", "30.0", "-0", "-0.0", '"-0"', '"007"', '"1e5"', '"1.50"', "true", "false"),
    *('"x"', '""', '"null"', '"é€😀"', '"a\\"b\\\\"', '"\\u001e\\u0000\\n"', '"aGVsbG8="'),
    *("[]", "{}", "[null]", "[1, 2.50]", '[{"a":1}]', '[[1],["x"]]', '{"a": "\\u00e9", "b":1e2}', '{"id":{"a":"1"}}'),
    *("9223372036854775807", "9223372036854775808", "-9223372036854775808", '"9223372036854775807"'),
    *("12345678901234567890", "0.1000000000000000055", "0.30000000000000004", "16777217", "0.1", "123456789.123"),
    *("1e400", "1e-400", "-1e-999999999999999999999", "1e999999999999999999999", "1.1e38", "3.5e38", "5e-324"),
    *('"2020-01-02"', '"2020-02-29T00:00:00Z"', '"2020-02-30T00:00:00Z"', '"2020-03-01 12:00:00"', '"2020-01-02T03Z"'),
    *('"12:00:00"', '"12:00:00+01:00"', '"2020-01-02T03:04"', '"0000-03-04T05:06:07Z"', '"1 Jan 2020"'),
]
UNDECLARED = ["score2", "plan", "Ünï", 'k"q', "", "a", "_airbyte_ab_id", "_ab_additional_properties"]
OWN_OVERFLOW = ["_airbyte_additional_properties", "_ab_additional_properties"]


@dataclass
class Taste:
    """How clean records are. `dirt`: share of values of another type. `extra`: share of objects with undeclared
    names. `names`: number of different undeclared names. `long_numbers`: numbers beyond 15 digits. `odd_dates`: rare
    spellings."""

    dirt: float = 0
    extra: float = 0
    names: int = 2
    long_numbers: bool = False
    odd_dates: bool = False


def taste(r: Random) -> Taste:
    dirt = r.choice([0, 0, 0.002, 0.02, 0.2])
    return Taste(dirt, r.choice([0, 0, 0.02, 0.3, 0.9]), r.choice([2, 3, 48]), r.random() < 0.3, r.random() < 0.5)


def json_schema(r: Random, *, plain: bool) -> dict[str, Any]:
    """A stream's schema. A plain one contains only what the typed tiers read."""
    names = PLAIN_NAMES if plain else NAMES
    return {"properties": {name: _type(r, 0, plain) for name in r.sample(names, r.randrange(1, 7))}}


def _type(r: Random, depth: int, plain: bool) -> dict[str, Any]:
    chance = r.random() if depth < 3 else 1
    if chance < 0.25:
        names = r.sample(PLAIN_NAMES[:4] if plain else NAMES, r.randrange(4))
        return {"type": ["object", "null"], "properties": {name: _type(r, depth + 1, plain) for name in names}}
    if chance < 0.45:
        return {"type": "array", "items": _type(r, depth + 1, plain)}
    if not plain and chance < 0.55:
        return {"anyOf": [_type(r, depth + 1, plain) for _ in range(r.randrange(1, 4))]}
    if not plain and chance < 0.6:
        names = r.sample(["string", "integer", "number", "boolean", "object", "array"], r.randrange(1, 4))
        return {"type": names, "items": r.choice(TYPES)}
    if not plain and chance < 0.64:
        return {"type": "array", "items": [_type(r, depth + 1, plain) for _ in range(r.randrange(1, 4))]}
    return r.choice(PLAIN_TYPES if plain else TYPES)


def record(r: Random, schema: dict[str, Any], how: Taste) -> bytes:
    """One record of this schema, as clean as `how` specifies."""
    return _object(r, schema, how).encode()


def _object(r: Random, schema: dict[str, Any], how: Taste) -> str:
    fields = [(name, _value(r, t, how)) for name, t in schema.get("properties", {}).items() if r.random() < 0.9]
    if r.random() < how.extra:
        numbered = [f"zzz{r.randrange(40)}", *UNDECLARED]
        known = (numbered + OWN_OVERFLOW if how.names > 40 else numbered)[: how.names]
        fields += [(r.choice(known), r.choice(DIRT)) for _ in range(r.randrange(4))]
    if how.dirt > 0.1 and fields and r.random() < 0.01:
        fields.append(r.choice(fields))
    if r.random() < 0.2:
        r.shuffle(fields)
    gap = r.choice(["", "", "", " "])
    spell = r.random() < 0.5
    return "{" + f",{gap}".join(f"{json.dumps(k, ensure_ascii=spell)}:{gap}{v}" for k, v in fields) + "}"


def _value(r: Random, schema: dict[str, Any], how: Taste) -> str:
    if r.random() < 0.08:
        return "null"
    if r.random() < how.dirt:
        return r.choice(DIRT)
    if "anyOf" in schema:
        return _value(r, r.choice(schema["anyOf"]), how)
    named = schema.get("type", "bytes" if "$ref" in schema else "string")
    return _typed(r, r.choice(named) if isinstance(named, list) else named, schema, how)


def _typed(r: Random, name: str, schema: dict[str, Any], how: Taste) -> str:
    if name == "object":
        return _object(r, schema, how)
    if name == "array":
        items = schema.get("items", {})
        inside = Taste(how.dirt / 3, how.extra, how.names, how.long_numbers, how.odd_dates)
        kinds = items if isinstance(items, list) else [items]
        return "[" + ",".join(_value(r, r.choice(kinds), inside) for _ in range(r.randrange(4))) + "]"
    if name == "string":
        return _text(r, schema.get("format"), how)
    if name == "number":
        rare = ["2.2250738585072014e-308", "9007199254740993", "0.30000000000000004", "-33.86881234567891"]
        return r.choice(["1.5", "0", "-0.0", "3", "12345.678", "1e5", "0.1", *rare * how.long_numbers])
    if name == "integer":
        return str(r.randrange(-(10 ** r.randrange(1, 18)), 10**15))
    return {"null": "null", "boolean": r.choice(["true", "false"]), "bytes": '"aGVsbG8="'}[name]


def _text(r: Random, named_format: str | None, how: Taste) -> str:
    if named_format is None:
        return r.choice(['"plain"', '"O\'Neil é"', '"tab\\t\\u00e9\\"q\\""', '""', '"4111111111111111"'])
    odd = how.odd_dates
    year = r.choice([1999, 2024, *[1, 9999, 0] * odd])
    day = f"{year:04}-{r.randrange(1, 13):02}-{r.randrange(1, 32 if odd else 29):02}"
    clock = r.choice(["03:04:05", "23:59:59", "00:00", *["24:00:00", "12:00:60", "00:00:00"] * odd])
    clock += r.choice(["", ".1", ".123456", *[".123456700", ".1234567", ".000"] * odd]) if clock.count(":") > 1 else ""
    zone = r.choice(["Z", *["", "+01:00", "-0530", "+02", "+24:00", " ", " UTC", " Europe/Berlin", " BC"] * odd])
    if odd and r.random() < 0.2:
        day = day.replace("-", r.choice("/. "))
    if named_format == "date":
        return json.dumps(r.choice([day, day, *[f"{day}T00:00:00Z", f"{day} {clock}"] * odd]))
    if named_format == "time":
        return json.dumps(clock + r.choice(["", "Z", *["+01:00"] * odd]))
    return json.dumps(day + r.choice("T ") + clock + zone)


def comparable(column: pa.Array) -> list[Any]:
    """The values of a column as texts (-0.0 is distinct), temporal ones as integers (years can exceed Python's
    range)."""
    kind = column.type
    if pa.types.is_struct(kind):
        members = {kind.field(i).name: comparable(column.field(i)) for i in range(kind.num_fields)}
        valid = column.is_valid().to_pylist()
        return [{name: m[row] for name, m in members.items()} if valid[row] else None for row in range(len(column))]
    if pa.types.is_list(kind):
        items = iter(comparable(column.flatten()))
        return [n if n is None else [next(items) for _ in range(n)] for n in column.value_lengths().to_pylist()]
    if pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        return column.cast(pa.int64()).to_pylist()
    if pa.types.is_date32(kind):
        return column.cast(pa.int32()).to_pylist()
    return list(map(repr, column.to_pylist()))
