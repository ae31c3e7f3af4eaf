"""The types that a record's fields can have: what JSON schemas are translated into, and Avro and Arrow schemas from.

A small closed algebra. Every value of every kind may also be null. A record level always ends with the overflow map
(`OVERFLOW`), which is not listed among its fields. It must not know formats, Arrow or Avro.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

RECORD_ID = "_airbyte_ab_id"
EMITTED_AT = "_airbyte_emitted_at"
DATA = "_airbyte_data"
OVERFLOW = "_airbyte_additional_properties"
OVERFLOW_ALIAS = "_ab_additional_properties"


class Scalar(StrEnum):
    """A kind without inner structure; the value is its Avro name, or the logical type's."""

    NULL = "null"
    STRING = "string"
    BOOLEAN = "boolean"
    LONG = "long"
    DOUBLE = "double"
    FLOAT = "float"
    BYTES = "bytes"
    DATE = "date"
    TIME = "time-micros"
    TIMESTAMP = "timestamp-micros"


TEMPORAL = frozenset({Scalar.DATE, Scalar.TIME, Scalar.TIMESTAMP})
"""Kinds that arrive as texts and may fail to parse."""


@dataclass(frozen=True, slots=True)
class Array:
    """A list of one kind of item; items may be null.

    `fallback` False says that a temporal item has no plain string beside it in Avro, as in tuples.
    """

    item: Kind
    fallback: bool = True


@dataclass(frozen=True, slots=True)
class Union:
    """At least two kinds, tried in order; none of them NULL."""

    branches: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a record: `name` as written to Avro and Parquet, `source` as the source spells it.

    `doc` is the Avro field's; it tells an original name that was changed.
    """

    name: str
    source: str
    kind: Kind
    doc: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record level. `name` and `namespace` are the Avro record's; `doc` tells an original name that was changed."""

    name: str
    namespace: str | None
    fields: tuple[Field, ...]
    doc: str | None = None
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash((self.name, self.namespace, self.fields, self.doc)))

    def __hash__(self) -> int:
        """Made once: that of a record with many levels would otherwise be made anew for each level around it."""
        return self._hash


Kind = Scalar | Array | Union | Record
