"""JSON texts of one field to a column of several types: each branch takes what it holds exactly, column by column.

What no branch takes at sight (numbers in rare spellings, coercions, misfits) is left to the rule, value by value. It
must not know plans or batches.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from s3dest_dagster.columns.conversion_log import Event
from s3dest_dagster.columns.json_texts import ABSENT, NO_ROWS, NOTHING, OTHER, TEXT, JsonTexts, Rows, json_texts
from s3dest_dagster.columns.scalar_columns import (
    Column,
    ColumnDecoder,
    DoubleDecoder,
    LongDecoder,
    TemporalDecoder,
    mask_of,
    strings_where,
    with_odd_rows,
)
from s3dest_dagster.columns.types import Array, Kind, Record, Scalar
from s3dest_dagster.columns.values import Rule

Mask = NDArray[np.bool_]

_INTEGER = r"^-?\d+$"


class _Taken(NamedTuple):
    """What one branch makes of the rows that are left: its member's data, the rows it takes, those that no later
    branch may take at sight because the rule might give them to this one, and those it takes inexactly."""

    data: pa.Array
    rows: Mask
    unsure: Mask
    inexact: Rows = NO_ROWS


class UnionDecoder(ColumnDecoder):
    """Several kinds, tried in their order. `branches` are the declared ones; `type` may have one more member, for texts
    of no branch."""

    def __init__(self, rule: Rule, type_: pa.DataType, branches: Sequence[tuple[Kind, ColumnDecoder]]) -> None:
        super().__init__(rule, type_)
        self._branches = branches

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        present = texts.kinds != ABSENT
        left, taken = present.copy(), np.zeros(len(raws), np.bool_)
        members, inexact, counts = [], NO_ROWS, Counter[Event]()
        for kind, decoder in self._branches:
            part = _taken(kind, decoder, raws, texts, left, counts)
            members.append(part.data)
            inexact = np.append(inexact, part.inexact)
            taken |= part.rows
            left &= ~part.rows & ~part.unsure
        members += [pa.nulls(len(raws), self.type.field(i).type) for i in range(len(members), self.type.num_fields)]
        data = pa.StructArray.from_arrays(members, fields=list(self.type), mask=pa.array(~taken))
        return with_odd_rows(Column(data, inexact=inexact, counts=counts), self, raws, np.flatnonzero(present & ~taken))


def _taken(
    kind: Kind, decoder: ColumnDecoder, raws: Sequence[Any], texts: JsonTexts, left: Mask, counts: Counter[Event]
) -> _Taken:
    if isinstance(kind, Record | Array):
        return _nested(decoder, b"{" if isinstance(kind, Record) else b"[", raws, left, counts)
    quoted, others = left & (texts.kinds == TEXT), left & (texts.kinds == OTHER)
    if kind is Scalar.STRING:
        return _Taken(strings_where(texts.strings, quoted), quoted, np.zeros_like(left))
    if kind is Scalar.BOOLEAN:
        words = others & mask_of(pc.is_in(texts.strings, pa.array(["true", "false"])))
        return _Taken(pc.equal(strings_where(texts.strings, words), "true"), words, np.zeros_like(left))
    if isinstance(decoder, TemporalDecoder):
        data = decoder.of_strings(strings_where(texts.strings, quoted)).data
        return _Taken(data, mask_of(data.is_valid()), np.zeros_like(left))
    if isinstance(decoder, LongDecoder | DoubleDecoder):
        return _numbers(decoder, texts, others)
    return _Taken(pa.nulls(len(raws), decoder.type), np.zeros_like(left), quoted)


def _numbers(decoder: LongDecoder | DoubleDecoder, texts: JsonTexts, others: Mask) -> _Taken:
    plain = others & decoder.plain(texts.strings)
    alike = mask_of(
        pc.match_substring_regex(texts.strings, _INTEGER if isinstance(decoder, LongDecoder) else r"^[-\d]")
    )
    return _Taken(strings_where(texts.strings, plain).cast(decoder.type), plain, others & alike & ~plain)


def _nested(decoder: ColumnDecoder, opening: bytes, raws: Sequence[Any], left: Mask, counts: Counter[Event]) -> _Taken:
    rows = left & np.array([bytes(raw)[:1] == opening for raw in raws], np.bool_)
    column = decoder.decode([raw if row else NOTHING for raw, row in zip(raws, rows.tolist(), strict=True)])
    counts.update(column.counts)
    rows[column.unfit] = False
    return _Taken(column.data, rows, np.zeros_like(left), column.inexact)
