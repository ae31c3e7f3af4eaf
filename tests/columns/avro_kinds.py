"""The kind that an Avro schema in JSON represents, as far as the connector's tables need it. For tests only."""

from __future__ import annotations

from typing import Any

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import DOUBLE, FLOAT, LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, BYTES, NULL, STRING
from s3dest_dagster.columns.kinds.temporal import DATE, TIME, TIMESTAMP, Temporal
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.names import OVERFLOW

_PLAIN = {kind.avro_name: kind for kind in (NULL, STRING, BOOLEAN, LONG, DOUBLE, FLOAT, BYTES)}
_LOGICAL = {"date": DATE, "time-micros": TIME, "timestamp-micros": TIMESTAMP}


def kind_of_avro(schema: Any) -> Kind:
    """The kind. A string behind temporal branches counts as the fallback. Raises KeyError for int, which no schema
    produces."""
    if isinstance(schema, list):
        kinds = [kind_of_avro(branch) for branch in schema if branch != "null"]
        if kinds[-1] is STRING and any(isinstance(kind, Temporal) for kind in kinds):
            kinds.pop()
        return kinds[0] if len(kinds) == 1 else Union(tuple(kinds))
    if isinstance(schema, str):
        return _PLAIN[schema]
    if "logicalType" in schema:
        return _LOGICAL[schema["logicalType"]]
    if schema["type"] == "array":
        return Array(kind_of_avro(schema["items"]))
    fields = [field for field in schema["fields"] if field["name"] != OVERFLOW]
    return Record(schema["name"], None, tuple(Field(f["name"], f["name"], kind_of_avro(f["type"])) for f in fields))


def unwrapped(value: Any) -> Any:
    """A converted value without the names of union members, with overflow maps as dicts, and without absent members
    of unions."""
    if isinstance(value, dict) and value and all(name.startswith("member") for name in value):
        return next((unwrapped(inner) for inner in value.values() if inner is not None), None)
    if isinstance(value, dict):
        return {k: dict(v) if k == OVERFLOW and v else unwrapped(v) for k, v in value.items()}
    return [unwrapped(item) for item in value] if isinstance(value, list) else value
