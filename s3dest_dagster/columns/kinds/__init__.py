"""The kinds of values that a field or an item of a list can have. Each module defines one kind or one family of kinds.

A kind defines everything about itself: the Arrow and Avro types of its columns, the rule that converts one JSON text,
the decoder that converts a column of JSON texts or of Arrow values, the types for pyarrow's JSON reader, and its name
in words. To add a kind, add a module here, and name the kind in `json_schema`.

A value of any kind may also be null. Must not know: record batches, file formats.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.binary_columns import NO_ROWS, TEXT, JsonTexts, Mask, Rows
from s3dest_dagster.columns.conversion_log import ConversionLog, Entry, Outcome

UNFIT: Final = object()
"""The result of a rule if the value is not of its kind."""


class Layout(StrEnum):
    """The layout of a column of several kinds. It is always a struct with one member set."""

    AVRO = "avro"
    """member0, member1, … in the order of Avro's branches, including the additional string of a temporal kind."""
    NAMED = "named"
    """Members named after their kind. A temporal kind has no additional string: a text that does not parse goes to the
    overflow."""
    MEMBER = "member"
    """The same shape as AVRO. The connector's Parquet files have it."""


class Rule:
    """Converts one JSON text to a value of one kind.

    `raw` is a JSON text without surrounding blanks, and never null. A method that returns UNFIT leaves the log
    unchanged.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        """The field's dotted name as the source spells it."""

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        """The value if it has the JSON type of this kind and the kind holds it exactly, else UNFIT."""
        return UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        """The value if the text is another spelling of a value of this kind, else UNFIT."""
        return UNFIT

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        """The nearest value to a number that this kind cannot hold exactly, else UNFIT."""
        return UNFIT

    def convert(self, raw: bytes, log: ConversionLog) -> Any:
        """The first result of `exact`, `coerced` and `nearest` that is not UNFIT, else UNFIT."""
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
    """Rows that are null because their value does not fit. Its text belongs in the overflow."""
    inexact: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that hold the nearest value to a number. The number's text also belongs in the overflow."""
    counts: Counter[Entry] = field(default_factory=Counter)
    """The outcomes for the values that are in `data`."""


class BranchClaim(NamedTuple):
    """The claim of one branch of a union to rows that no earlier branch has claimed."""

    data: pa.Array
    """The branch's member of the union's struct."""
    rows: Mask
    """The rows whose value this branch holds exactly."""
    unsure: Mask
    """The rows that only the rule can decide: it may assign them to this branch. No later branch may claim them."""
    inexact: Rows = NO_ROWS
    """Claimed rows that hold the nearest value to a number."""
    counts: Counter[Entry] = Counter()  # noqa: RUF012  # it is never changed
    """The outcomes for the claimed values."""


class ColumnDecoder(ABC):
    """Converts the column of one field or item. Every value equals the result of its rule."""

    def __init__(self, rule: Rule, type_: pa.DataType) -> None:
        self.rule = rule
        """Defines the correct result, and converts the texts that no faster way covers."""
        self.type = type_
        """The Arrow type of the column."""

    @abstractmethod
    def decode(self, raws: Sequence[Any]) -> Column:
        """The column of these JSON texts (bytes-like). Empty texts and "null" give null."""

    def decode_arrow(self, data: pa.Array) -> Column:
        """The column of Arrow values of any type."""
        return self.decode(texts_of_column(data))

    def decode_read(self, data: pa.Array) -> Column:
        """The column of values that pyarrow's JSON reader has read with the kind's `ReaderTypes`."""
        return Column(data)

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        """The claim of this kind, as a branch of a union, to rows among those that are `left`."""
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
        """The counts of a column in which this many values were coerced."""
        return Counter({(Outcome.COERCED, self.rule.path): count}) if count else Counter()


class ReaderTypes(NamedTuple):
    """The types by which the typed tiers read a kind: with pyarrow's JSON reader, and msgspec's decoder as a check."""

    arrow: pa.DataType
    """The type to read as. If it differs from the kind's own, `ColumnDecoder.decode_read` converts the column."""
    python: Any
    """The type that msgspec checks values by."""
    typical: re.Pattern[bytes]
    """Matches the JSON text of a value that is read exactly."""
    is_listable: bool = False
    """Whether lists of this kind are also read by type."""
    may_round: bool = False
    """Whether reading rounds numbers that are too long for the type, so that such numbers must be found beforehand."""


@dataclass(frozen=True)
class Widening:
    """The circumstances in which the kind of an existing column meets the kind of new values."""

    merge: Callable[[Any, Any, tuple[str | None, ...]], Any]
    """Merges two records at a path: all fields of the first, then the new ones of the second."""
    path: tuple[str | None, ...] = ()
    """The source's names from the root to the column, and None for the items of a list."""
    is_inferred: bool = False
    """Whether the new kind comes from data, not from a declaration: a column then stays as long as it holds some of the
    values, and the others overflow."""
    doubles_hold_integers: bool = True
    """Whether a double holds every integer that has landed in the column."""

    def of_items(self) -> Widening:
        """The same for the items of a list."""
        return replace(self, path=(*self.path, None))


class Kind:
    """The type of a field or of a list's items.

    It is no ABC: `isinstance` is slower for these, and a large schema asks it a hundred thousand times. Type checkers
    find methods that a kind lacks all the same.
    """

    word: ClassVar[str]
    """The kind in one word, for users. It is also the name of its member in `Layout.NAMED`."""
    reader: ClassVar[ReaderTypes | None] = None
    """The types by which the typed tiers read it. If None, they cannot, and its JSON texts are decoded."""
    avro_name: ClassVar[str]
    """The Avro type of encoded values, which no two branches of a union may share. Empty for types that have their own
    name."""
    python_type: ClassVar[type] = type(None)
    """The Python type of a value that is read from Avro without logical types."""
    avro_tag: ClassVar[str] = ""
    """The label of a value that is read from Avro, if another kind has the same Python type; otherwise empty."""
    loses_offset: ClassVar[bool] = False
    """Whether the UTC offset of a value is lost."""
    has_structure: bool = False
    """Whether some or all of its values are objects or lists."""

    @abstractmethod
    def arrow_type(self, layout: Layout) -> pa.DataType:
        """The Arrow type of its columns."""

    @abstractmethod
    def avro_type(self, enclosing: str | None) -> Any:
        """The Avro type as JSON values, not nullable. `enclosing` is the enclosing namespace."""

    @abstractmethod
    def rule(self, layout: Layout, path: str) -> Rule:
        """The rule for one value. `path` is the field's dotted original name."""

    @abstractmethod
    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        """The decoder of a column. `path` is the field's dotted original name."""

    @property
    def code(self) -> str:
        """The kind as text in a manifest (see `record_json`). Kinds with other kinds in them have none."""
        return self.word

    def words(self) -> str:
        """The kind in words, for display."""
        return self.word

    def paths(self, path: str) -> Iterator[tuple[str, str]]:
        """Yields the dotted path and words of this field and of every field within it. Items are under `path[]`."""
        yield path, self.words()

    def as_branches(self) -> tuple[Kind, ...]:
        """The kinds that a value may have besides null."""
        return (self,)

    @property
    def is_known(self) -> bool:
        """Whether any value other than null, or an empty list, has or can have this kind."""
        return True

    @property
    def lacks_digits(self) -> bool:
        """Whether it is a decimal whose digits are not known, or a list of such decimals: it has no type yet."""
        return False

    def widened(self, other: Kind, widening: Widening) -> Kind | None:
        """The kind of a column of this kind once it also holds values of the other; None if it cannot.

        Objects that have the column with this kind, and objects that have it with the result, can be read as one table.
        Subclasses define `widened_by`.
        """
        if other == self:
            return self
        kind, fits = self, not other.as_branches()
        for branch in other.as_branches():
            wider = kind.widened_by(branch, widening)
            if wider is not None:
                kind, fits = wider, True
            elif not widening.is_inferred:
                return None
        return kind if fits else None

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        """The same as `widened` for a kind that is neither null nor a union."""
        return self if other == self else None

    def beside(self, other: Kind) -> Kind:
        """The kind of a new column for values of another kind, which a column of this kind cannot hold."""
        return other

    def element(self) -> Kind:
        """The kind of a list's items; for any other kind, the kind itself."""
        return self

    def map_records(self, change: Callable[[Any], Kind]) -> Kind:
        """The same kind with `change` applied to the records in it."""
        return self

    def levels(self) -> int:
        """The number of levels in a Parquet schema in the connector's layout. No other layout has more levels."""
        return 1

    def within_levels(self, levels: int) -> Kind | None:
        """The same kind with text in place of parts deeper than this many levels; None if all of it must be text."""
        return None

    def avro_storage(self, column: pa.Array) -> pa.Array:
        """The column as the strings, bytes, booleans, int64 or floats that Avro encodes."""
        return column

    def is_read_as(self, value: Any) -> bool:
        """Whether a value that was read from Avro is of this kind."""
        if self.avro_tag:
            return isinstance(value, dict) and value.keys() == {self.avro_tag}
        return type(value) is self.python_type

    def from_avro(self, value: Any) -> Any:
        """A value that was read from Avro, in the form that `pyarrow.array` accepts."""
        return value[self.avro_tag] if self.avro_tag else value

    def json_value(self, value: Any) -> Any:
        """A value of a column as a JSON value."""
        return value


def _with_values(data: pa.Array, rows: Rows, values: pa.Array) -> pa.Array:
    """The column with `values` in these rows."""
    if len(values) == len(data):
        return values
    # Arrow can replace by mask only in flat columns.
    if not pa.types.is_nested(data.type) and not pa.types.is_null(data.type):
        mask = np.zeros(len(data), np.bool_)
        mask[rows] = True
        return pc.replace_with_mask(data, pa.array(mask), values)
    order = np.arange(len(data))
    order[rows] = len(data) + np.arange(len(rows))
    return pa.concat_arrays([data, values]).take(pa.array(order))
