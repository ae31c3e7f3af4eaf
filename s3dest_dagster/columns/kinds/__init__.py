"""What a field or an item of a list can be. Each module here holds all that the library knows of one kind of value, or
of one family of kinds.

A kind answers for itself: the Arrow and Avro types of its columns, the rule that converts one JSON text, the decoder
that converts a column of JSON texts or of Arrow values, the types under which pyarrow's JSON reader reads it, and its
name in words. To add a kind, add a module here, and name the kind in `json_schema`.

A value of any kind may also be null. Must not know: record batches, file formats.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.binary_columns import NO_ROWS, TEXT, JsonTexts, Mask, Rows
from s3dest_dagster.columns.conversion_log import ConversionLog, Entry, Outcome

UNFIT: Final = object()
"""What a rule returns when the value is not of its kind."""


class Layout(StrEnum):
    """How a column of several kinds looks. It is always a struct of which one member is set."""

    AVRO = "avro"
    """member0, member1, … in the order of Avro's branches, the string beside a temporal kind included."""
    NAMED = "named"
    """Members named after their kind. Temporal kinds have no string beside them: a text that does not parse goes to
    the overflow."""
    MEMBER = "member"
    """The same shape as AVRO, which is what the connector's Parquet files have."""


class Rule:
    """Converts one JSON text to a value of one kind.

    `raw` is a JSON text without blanks around it, and never null. A method that returns UNFIT leaves the log as it was.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        """The field's dotted name as the source spells it."""

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        """The value if its JSON type is this kind's and the kind holds it exactly, else UNFIT."""
        return UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        """The value if the text is another spelling of a value of this kind, else UNFIT."""
        return UNFIT

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        """The nearest value to a number that this kind cannot hold exactly, else UNFIT."""
        return UNFIT

    def convert(self, raw: bytes, log: ConversionLog) -> Any:
        """The first result of `exact`, `coerced`, `nearest` that is not UNFIT."""
        value = self.exact(raw, log)
        if value is UNFIT and (value := self.coerced(raw, log)) is UNFIT:
            return self.nearest(raw, log)
        return value

    def _log_coerced(self, value: Any, log: ConversionLog) -> Any:
        """The value, logged as coerced; UNFIT for None."""
        if value is None:
            return UNFIT
        log.entries.append((Outcome.COERCED, self.path))
        return value


@dataclass(slots=True)
class Column:
    """A converted column, row for row."""

    data: pa.Array
    unfit: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that are null because their value does not fit. Its text belongs into the overflow."""
    inexact: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that hold the nearest value to a number. Its text belongs into the overflow too."""
    counts: Counter[Entry] = field(default_factory=Counter)
    """What happened to the values that have a place in `data`."""


class BranchClaim(NamedTuple):
    """What one branch of a union makes of the rows that no earlier branch has claimed."""

    data: pa.Array
    """The branch's member of the union's struct."""
    rows: Mask
    """The rows whose value this branch holds exactly."""
    unsure: Mask
    """Rows that only the rule can decide, since it may give them to this branch. No later branch may claim them."""
    inexact: Rows = NO_ROWS
    """Claimed rows that hold the nearest value to a number."""
    counts: Counter[Entry] = Counter()  # noqa: RUF012  # nobody changes it
    """What happened to the claimed values."""


class ColumnDecoder(ABC):
    """Converts the column of one field or item. Its results equal, value by value, those of its rule."""

    def __init__(self, rule: Rule, type_: pa.DataType) -> None:
        self.rule = rule
        """Decides what is right; converts the texts that no faster way covers."""
        self.type = type_
        """The Arrow type of the column."""

    @abstractmethod
    def decode(self, raws: Sequence[Any]) -> Column:
        """The column of these JSON texts (bytes-like). Empty texts and "null" give null."""

    def decode_arrow(self, data: pa.Array) -> Column:
        """The column of Arrow values of any type."""
        return self.decode(texts_of_column(data))

    def decode_read(self, data: pa.Array) -> Column:
        """The column of values that pyarrow's JSON reader has read under the kind's `ReaderTypes`."""
        return Column(data)

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        """The rows that this kind claims as a branch of a union, among those that are `left`."""
        nothing = np.zeros_like(left)
        return BranchClaim(pa.nulls(len(raws), self.type), nothing, left & (texts.kinds == TEXT))

    def _convert_rows(self, column: Column, raws: Sequence[Any], rows: Rows) -> Column:
        """The column with these rows converted by the rule, value by value."""
        if not rows.size:
            return column
        log, values, unfit, inexact = ConversionLog(), [], [], []
        for row in rows.tolist():
            value = self.rule.convert(bytes(raws[row]), log)
            values.append(None if value is UNFIT else value)
            if value is UNFIT:
                unfit.append(row)
            elif log.is_inexact:
                inexact.append(row)
            log.is_inexact = False
        column.counts.update(log.entries)
        column.unfit = np.append(column.unfit, np.array(unfit, np.int64))
        column.inexact = np.append(column.inexact, np.array(inexact, np.int64))
        column.data = _with_values(column.data, rows, pa.array(values, self.type))
        return column

    def _coerced(self, count: int) -> Counter[Entry]:
        """The counts of a column in which so many values were coerced."""
        return Counter({(Outcome.COERCED, self.rule.path): count}) if count else Counter()


class ReaderTypes(NamedTuple):
    """How the typed tiers read a kind: pyarrow's JSON reader, and msgspec's decoder that checks each record."""

    arrow: pa.DataType
    """The type to read as. If it differs from the kind's own, `ColumnDecoder.decode_read` converts the column."""
    python: Any
    """The type that msgspec checks values by."""
    typical: re.Pattern[bytes]
    """Matches the JSON text of a value that is read exactly."""
    is_listable: bool = False
    """Whether lists of this kind are read by type too."""
    may_round: bool = False
    """Whether reading rounds numbers that are too long for the type, so that long ones must be found beforehand."""


class Kind(ABC):
    """The type of a field or of a list's items."""

    word: ClassVar[str]
    """The kind in one word, as users read it. Also the name of its member in `Layout.NAMED`."""
    reader: ClassVar[ReaderTypes | None] = None
    """How the typed tiers read it; None if they cannot, so that its JSON texts are decoded."""
    avro_name: ClassVar[str]
    """The Avro type that values are encoded as, which no two branches of a union may share. Empty for types that are
    known by a name of their own."""
    python_type: ClassVar[type] = type(None)
    """The Python type of a value that is read from Avro without logical types."""
    avro_tag: ClassVar[str] = ""
    """The label that a value read from Avro must have, if its Python type is that of another kind too."""
    loses_offset: ClassVar[bool] = False
    """Whether the UTC offset that a value is written with is not kept."""
    has_structure: bool = False
    """Whether its values are objects or lists, or some of them."""

    @abstractmethod
    def arrow_type(self, layout: Layout) -> pa.DataType:
        """The Arrow type of its columns."""

    @abstractmethod
    def avro_type(self, enclosing: str | None) -> Any:
        """The Avro type as JSON values, not nullable. `enclosing` is the namespace in which it stands."""

    @abstractmethod
    def rule(self, layout: Layout, path: str) -> Rule:
        """The rule for one value. `path` is the field's dotted original name."""

    @abstractmethod
    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        """The decoder of a column. `path` is the field's dotted original name."""

    def words(self) -> str:
        """The kind in words, for display."""
        return self.word

    def paths(self, path: str) -> Iterator[tuple[str, str]]:
        """Dotted path and words of this field and every one within it; the items of a list stand under `path[]`."""
        yield path, self.words()

    def as_branches(self) -> tuple[Kind, ...]:
        """The kinds that a value may have besides null."""
        return (self,)

    def element(self) -> Kind:
        """The kind of a list's items; of any other kind, itself."""
        return self

    def map_records(self, change: Callable[[Any], Kind]) -> Kind:
        """The same kind with `change` applied to each record that it consists of."""
        return self

    def levels(self) -> int:
        """The levels that it takes in a Parquet schema, in the connector's layout, which never takes fewer."""
        return 1

    def within_levels(self, levels: int) -> Kind | None:
        """The same kind with text in place of what is too deep for so many levels; None if all of it must be text."""
        return None

    def avro_storage(self, column: pa.Array) -> pa.Array:
        """The column as the strings, bytes, booleans, int64 or floats that Avro encodes."""
        return column

    def is_read_as(self, value: Any) -> bool:
        """Whether a value read from Avro is of this kind."""
        if self.avro_tag:
            return isinstance(value, dict) and value.keys() == {self.avro_tag}
        return type(value) is self.python_type

    def from_avro(self, value: Any) -> Any:
        """A value read from Avro as `pyarrow.array` takes it."""
        return value[self.avro_tag] if self.avro_tag else value

    def json_value(self, value: Any) -> Any:
        """A value of a column as JSON has it."""
        return value


def _with_values(data: pa.Array, rows: Rows, values: pa.Array) -> pa.Array:
    """The column with `values` in these rows."""
    if len(values) == len(data):
        return values
    # Arrow replaces by mask in flat columns only.
    if not pa.types.is_nested(data.type) and not pa.types.is_null(data.type):
        mask = np.zeros(len(data), np.bool_)
        mask[rows] = True
        return pc.replace_with_mask(data, pa.array(mask), values)
    order = np.arange(len(data))
    order[rows] = len(data) + np.arange(len(rows))
    return pa.concat_arrays([data, values]).take(pa.array(order))
