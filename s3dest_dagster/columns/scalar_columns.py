"""JSON texts of one field to a column of a scalar kind: ordinary texts by Arrow, the odd ones by the rules.

What a decoder gives equals, value by value and count by count, what `values` says. It must not know records or plans.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3dest_dagster.columns.arrow_types import Layout, arrow_type
from s3dest_dagster.columns.conversion_log import ConversionLog, Event, Outcome
from s3dest_dagster.columns.json_texts import ABSENT, NO_ROWS, OTHER, TEXT, Rows, json_texts
from s3dest_dagster.columns.temporal_columns import temporal_column
from s3dest_dagster.columns.types import Scalar
from s3dest_dagster.columns.values import UNFIT, Rule

_NONE = pa.scalar(None, pa.string())
_PLAIN_INTEGER = r"^(?:0|-?[1-9]\d{0,17})$"
_SHORT_NUMBER = r"^-?(?:[1-9]\d{0,7}|0)(?:\.\d{1,7})?$"
"""At most 15 digits: its double gives it back."""
_SHORT_FLOAT = r"^-?(?:[1-9]\d{0,2}|0)(?:\.\d{1,3})?$"
"""At most 6 digits: its 32-bit float gives it back."""
_NUMBER = r"^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$"


@dataclass(slots=True)
class Column:
    """A column, row for row. `unfit` rows are null because their value does not fit; `inexact` rows hold the nearest
    value; the texts of both belong into the overflow. `counts`: what happened to the values that landed."""

    data: pa.Array
    unfit: Rows = field(default_factory=lambda: NO_ROWS)
    inexact: Rows = field(default_factory=lambda: NO_ROWS)
    counts: Counter[Event] = field(default_factory=Counter)


class ColumnDecoder(ABC):
    """Makes one position's column. `type` is the Arrow type; `rule` says what is right, and takes the odd texts."""

    def __init__(self, rule: Rule, type_: pa.DataType) -> None:
        self.rule = rule
        self.type = type_

    @abstractmethod
    def decode(self, raws: Sequence[Any]) -> Column:
        """The column of these JSON texts, empty or null ones being null."""


class RuleDecoder(ColumnDecoder):
    """Any kind, value by value."""

    def decode(self, raws: Sequence[Any]) -> Column:
        odd = np.array([row for row, raw in enumerate(raws) if raw and bytes(raw) != b"null"], np.int64)
        return with_odd_rows(Column(pa.nulls(len(raws), self.type)), self, raws, odd)


class StringDecoder(ColumnDecoder):
    """Texts as they are, everything else as its JSON text, counted as coerced."""

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        return Column(texts.strings, counts=_coerced(self.rule, int((texts.kinds == OTHER).sum())))


class BooleanDecoder(ColumnDecoder):
    """True and false, nothing else."""

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        values = texts.of_kind(OTHER)
        fits = pc.is_in(values, pa.array(["true", "false"]))
        column = pc.equal(pc.if_else(fits, values, _NONE), "true")
        return Column(column, unfit=np.flatnonzero((texts.kinds != ABSENT) & ~mask_of(fits)))


class NumberDecoder(ColumnDecoder):
    """Numbers, and texts that are exactly a number: the plain ones by Arrow."""

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        plain = self.plain(texts.strings)
        column = Column(strings_where(texts.strings, plain).cast(self.type))
        column.counts.update(_coerced(self.rule, int((plain & (texts.kinds == TEXT)).sum())))
        return with_odd_rows(column, self, raws, np.flatnonzero(~plain & (texts.kinds != ABSENT)))

    @abstractmethod
    def plain(self, strings: pa.Array) -> NDArray[np.bool_]:
        """The rows whose text Arrow's cast gives back exactly."""


class LongDecoder(NumberDecoder):
    """Integers of up to 18 digits are plain."""

    def plain(self, strings: pa.Array) -> NDArray[np.bool_]:
        return mask_of(pc.match_substring_regex(strings, _PLAIN_INTEGER))


class DoubleDecoder(NumberDecoder):
    """Doubles and 32-bit floats. Plain is a number of so few digits that it is exact, or that Arrow spells alike."""

    def plain(self, strings: pa.Array) -> NDArray[np.bool_]:
        short = _SHORT_NUMBER if self.type == pa.float64() else _SHORT_FLOAT
        plain = mask_of(pc.match_substring_regex(strings, short))
        return plain if plain.all() else plain | self._spelled_alike(strings)

    def _spelled_alike(self, strings: pa.Array) -> NDArray[np.bool_]:
        numbers = pc.if_else(pc.match_substring_regex(strings, _NUMBER), strings, _NONE)
        return mask_of(pc.equal(numbers.cast(self.type).cast(pa.string()), numbers))


class TemporalDecoder(ColumnDecoder):
    """Dates, times, timestamps. With `fallback`, a text that does not parse stands beside them in a second member."""

    def __init__(self, rule: Rule, type_: pa.DataType, kind: Scalar, *, fallback: bool) -> None:
        super().__init__(rule, type_)
        self._kind = kind
        self._fallback = fallback

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        column = self.of_strings(texts.of_kind(TEXT))
        if (others := texts.rows_of(OTHER)).size:
            column.unfit = np.union1d(column.unfit, others)
        return column

    def of_strings(self, strings: pa.Array) -> Column:
        """The column of plain texts."""
        values = temporal_column(self._kind, strings)
        if values.null_count == strings.null_count:
            return self.of_values(values)
        if not self._fallback:
            return Column(values, unfit=np.flatnonzero(mask_of(pc.and_(values.is_null(), strings.is_valid()))))
        return Column(self._members(values, pc.if_else(values.is_null(), strings, _NONE), strings))

    def of_values(self, values: pa.Array) -> Column:
        """The column of dates, times or timestamps."""
        return Column(self._members(values, pa.nulls(len(values), pa.string()), values) if self._fallback else values)

    def _members(self, values: pa.Array, rest: pa.Array, present: pa.Array) -> pa.Array:
        mask = present.is_null() if present.null_count else None
        return pa.StructArray.from_arrays([values, rest], fields=list(self.type), mask=mask)


def scalar_decoder(kind: Scalar, rule: Rule) -> ColumnDecoder:
    """The decoder of a plain scalar kind that is not temporal."""
    decoders: dict[Scalar, Callable[[Rule, pa.DataType], ColumnDecoder]] = {
        Scalar.STRING: StringDecoder,
        Scalar.BOOLEAN: BooleanDecoder,
        Scalar.LONG: LongDecoder,
        Scalar.DOUBLE: DoubleDecoder,
        Scalar.FLOAT: DoubleDecoder,
    }
    return decoders.get(kind, RuleDecoder)(rule, arrow_type(kind, layout=Layout.NAMED))


def with_odd_rows(column: Column, decoder: ColumnDecoder, raws: Sequence[Any], odd: Rows) -> Column:
    """The column with these rows converted by the rule."""
    if not odd.size:
        return column
    log, values, unfit, inexact = ConversionLog(), [], [], []
    for row in odd.tolist():
        value = decoder.rule.convert(bytes(raws[row]), log)
        values.append(None if value is UNFIT else value)
        if value is UNFIT:
            unfit.append(row)
        elif log.inexact:
            inexact.append(row)
        log.inexact = False
    column.counts.update(log.events)
    column.unfit = np.append(column.unfit, np.array(unfit, np.int64))
    column.inexact = np.append(column.inexact, np.array(inexact, np.int64))
    column.data = _replaced(column.data, odd, pa.array(values, decoder.type))
    return column


def _replaced(data: pa.Array, rows: Rows, values: pa.Array) -> pa.Array:
    """The column with `values` in these rows; nested types have no masked replacement, so they are taken anew."""
    if len(values) == len(data):
        return values
    if not pa.types.is_nested(data.type) and not pa.types.is_null(data.type):
        mask = np.zeros(len(data), np.bool_)
        mask[rows] = True
        return pc.replace_with_mask(data, pa.array(mask), values)
    order = np.arange(len(data))
    order[rows] = len(data) + np.arange(len(rows))
    return pa.concat_arrays([data, values]).take(pa.array(order))


def _coerced(rule: Rule, count: int) -> Counter[Event]:
    return Counter({(Outcome.COERCED, rule.path): count}) if count else Counter()


def strings_where(strings: pa.Array, rows: NDArray[np.bool_]) -> pa.Array:
    """The strings of these rows, null elsewhere."""
    return strings if rows.all() else pc.if_else(pa.array(rows), strings, _NONE)


def mask_of(booleans: pa.Array) -> NDArray[np.bool_]:
    """A boolean column as a mask, null being false."""
    mask: NDArray[np.bool_] = pc.fill_null(booleans, False).to_numpy(zero_copy_only=False)
    return mask
