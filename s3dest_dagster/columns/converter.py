"""Converts batches of one stream's records to Arrow columns, and counts the values that did not land as declared.

JSON records are converted by the cheapest of four tiers that can handle them:

1. *strict*: pyarrow's JSON reader, which refuses everything but the declared types;
2. *planned*: the same reader, and one typed decode per record, which returns the texts of the dirt that a plan expects;
3. *by texts*: a split of every record into names and texts, for records with unexpected dirt;
4. *by rules*: the rules of the kinds, value by value, for a few such records and for what no column operation covers.

Every tier makes the same columns, those of the rules; only the cost differs. See
docs/design/decoding.md. Must not know: how columns are written.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.batch import Batch, JsonBatch, Tally
from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.arrow_types import refuse_invalid_utf8
from s3dest_dagster.columns.binary_columns import NO_ROWS, Rows
from s3dest_dagster.columns.conversion_log import ConversionLog, Entry, Misfit, Outcome, tally_of
from s3dest_dagster.columns.json_losses import (
    DuplicateNameCheck,
    rows_at_risk,
    rows_beyond_doubles,
    rows_with_repeated_names,
)
from s3dest_dagster.columns.kinds import Column, Kind, Layout
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.number import LONG
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.level_plans import COMMON_SHARE, OPEN_SHARE, LevelPlan
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.schemas import arrow_schema
from s3dest_dagster.columns.typed_columns import Row, TypedLevel, read_objects
from s3dest_dagster.errors import RecordError

_SAMPLE = 128
"""The number of records from which a plan is learnt."""
_RETRY_STRICT_EVERY = 32
"""After so many batches of a dirty stream, the strict tier is tried again and a new plan is learnt: dirt may end."""
_TOO_MANY_REFUSED = 0.05
"""If a larger share of the records is refused, the plan is extended."""
_MOST_READS = 3
"""How often pyarrow reads the records of one batch before the whole batch is converted by texts."""
_FEW = 24
"""The most records that cost less value by value than as columns."""
_LARGEST_EXACT = 2**53
"""Doubles hold all integers up to this one exactly."""
_SHOWN = 200
"""The most characters of a value that an error shows."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A batch as columns."""

    data: pa.RecordBatch
    """The records in their order, without the envelope."""
    tally: Tally
    """The values that did not land as declared."""
    big_integers: frozenset[int]
    """The ids of the integer fields with values that a double cannot hold."""
    record: Record
    """The record type of the columns."""


@dataclass(frozen=True, slots=True)
class _Learnt:
    """The knowledge from the stream's records so far. It is replaced as a whole, so that threads need no lock."""

    plan: LevelPlan
    level: TypedLevel | None
    """None if the plan is open: nothing can be read by type."""
    is_dirty: bool
    """Whether the strict tier is not worth trying."""
    clean: LevelPlan
    """The plan of the strict tier, and of what is learnt anew. It expects the declared fields seen so far."""
    strict: TypedLevel | None
    """None if the strict tier cannot read the stream."""


class RecordConverter:
    """Converts the records of one stream to columns.

    Several threads may call `convert` at the same time. Its results depend only on the batch, never on what was learnt
    from other batches.

    Args:
        record: The record type.
        layout: The layout of columns of several kinds.
        on_mismatch: With "fail", a value that does not fit its declared type raises RecordError.
    """

    def __init__(
        self, record: Record, *, layout: Layout, on_mismatch: Literal["overflow", "fail"] = "overflow"
    ) -> None:
        self.record = record
        self.layout = layout
        self.on_mismatch = on_mismatch
        self.schema = arrow_schema(record, layout=layout)
        self._rule = record.rule(layout, "")
        self._decoder = record.decoder(layout, "")
        plan = LevelPlan.first(record)
        strict = self._strict_level(plan)
        self._learnt = _Learnt(plan, strict, is_dirty=False, clean=plan, strict=strict)
        self._batches = itertools.count(1)

    def convert(self, batch: Batch) -> Converted:
        """The records of a batch as columns, in their order."""
        try:
            column = self._column(batch)
        except RecursionError:
            raise _too_deep(self.record.name, batch.num_rows) from None
        if self.on_mismatch == "fail" and any(outcome is Outcome.OVERFLOWED for outcome, _ in column.counts):
            raise self._first_mismatch(batch)
        data = pa.RecordBatch.from_arrays(column.data.flatten(), schema=self.schema)
        return Converted(data, tally_of(column.counts), _big_integers(self.record, data.columns), self.record)

    def _column(self, batch: Batch) -> Column:
        if isinstance(batch, JsonBatch):
            return self._convert_json(batch.raws)
        refuse_invalid_utf8(batch.data)
        return self._decoder.decode_arrow(batch.data.to_struct_array())

    def _convert_json(self, raws: Sequence[Any]) -> Column:
        if not raws:
            return self._by_rules(raws)
        learnt = self._learnt
        starts_clean = not learnt.is_dirty or next(self._batches) % _RETRY_STRICT_EVERY == 0
        block = b"\n".join(raws)
        at_risk = self._rows_at_risk(block, raws, learnt.clean if starts_clean else learnt.plan)
        if starts_clean:
            if not at_risk.size and (column := self._strict(learnt.strict, block, len(raws))):
                self._learnt = replace(learnt, plan=learnt.clean, level=learnt.strict, is_dirty=False)
                return column
            learnt = self._learn(learnt.clean, raws[:: max(1, len(raws) // _SAMPLE)])
        if at_risk.size > COMMON_SHARE * len(raws):
            learnt = self._keep(learnt.plan.with_numbers_as_texts(self.record))
            at_risk = NO_ROWS
        return self._planned(raws, block, learnt, at_risk)

    def _rows_at_risk(self, block: bytes, raws: Sequence[Any], plan: LevelPlan) -> Rows:
        """The rows with numbers that this plan, or one learnt from it, would round."""
        return rows_at_risk(block, raws) if plan.may_round(self.record) else NO_ROWS

    def _strict_level(self, plan: LevelPlan) -> TypedLevel | None:
        """The level for the strict tier; None if it cannot read by this plan, or would read nothing."""
        return TypedLevel(self._decoder, plan) if plan.is_all_typed() and plan.expects_fields(self.record) else None

    def _strict(self, level: TypedLevel | None, block: bytes, length: int) -> Column | None:
        """The batch converted by one read; None if anything in it differs from the plan of the level."""
        if level is None:
            return None
        try:
            read = read_objects(block, level.fields, strict=True)
        except pa.ArrowInvalid:
            return None
        return level.column(read, None, length, DuplicateNameCheck())

    def _planned(
        self, raws: Sequence[Any], block: bytes, learnt: _Learnt, at_risk: Rows, *, may_learn: bool = True
    ) -> Column:
        """The batch converted under a plan. Unexpected records are converted by texts, or by rules if they are few."""
        level = learnt.level
        if level is None:
            return self._by_texts(raws)
        accepted, rows = _accepted(level, raws, at_risk)
        refused = len(raws) - len(accepted) - len(at_risk)
        if may_learn and refused:
            others = np.setdiff1d(np.arange(len(raws)), np.append(accepted, at_risk))[: 2 * _SAMPLE]
            relearnt = self._relearnt(learnt, [raws[row] for row in others.tolist()], refused / len(raws))
            if relearnt.plan != learnt.plan:
                return self._planned(raws, block, relearnt, at_risk, may_learn=False)
        if refused > OPEN_SHARE * len(raws):
            self._keep(replace(learnt.plan, open=True))
        return self._read_accepted(raws, block, level, accepted, rows)

    def _relearnt(self, learnt: _Learnt, refused: Sequence[Any], share: float) -> _Learnt:
        """The plan extended from refused records, which are this share of a batch.

        A few of them extend it by declared fields that were absent so far, and by nothing else.
        """
        if share > _TOO_MANY_REFUSED:
            return self._learn(learnt.plan, refused, share=OPEN_SHARE)
        return self._learn(learnt.plan, refused, share=None) if learnt.plan.has_absent() else learnt

    def _read_accepted(
        self, raws: Sequence[Any], block: bytes, level: TypedLevel, accepted: list[int], rows: list[Row] | None
    ) -> Column:
        """The batch with the accepted rows read by type, and the other rows in their places.

        Two things pass the typed decode although pyarrow refuses them or drops a value: repeated names, and numbers
        beyond the range of doubles. pyarrow reports their rows only in its messages, which may change. So this method
        searches for these rows, and reads the rest again.
        """
        for _ in range(_MOST_READS):
            if not accepted:
                break
            records = raws if len(accepted) == len(raws) else [raws[row] for row in accepted]
            texts = block if records is raws else b"\n".join(records)
            duplicates = DuplicateNameCheck()
            column = _read(level, texts, rows, len(accepted), duplicates)
            if column and (rows is None or duplicates.passes(texts)):
                return self._merged(raws, column, accepted)
            odd = rows_with_repeated_names(records)
            if column and not odd:
                return self._merged(raws, column, accepted)
            if not (odd := odd or set(rows_beyond_doubles(texts, records).tolist())):
                break
            accepted = [row for position, row in enumerate(accepted) if position not in odd]
            rows = rows and [row for position, row in enumerate(rows) if position not in odd]
        return self._by_texts(raws)

    def _merged(self, raws: Sequence[Any], typed: Column, accepted: list[int]) -> Column:
        """The accepted rows, which were read by type, and the other rows, in the batch's order."""
        if len(accepted) == len(raws):
            return typed
        others = np.setdiff1d(np.arange(len(raws)), accepted)
        rest = [raws[row] for row in others.tolist()]
        slow = self._by_rules(rest) if len(rest) <= _FEW else self._by_texts(rest)
        order = np.argsort(np.append(accepted, others), kind="stable")
        data = pa.concat_arrays([typed.data, slow.data]).take(pa.array(order))
        return Column(data, counts=typed.counts + slow.counts)

    def _by_texts(self, raws: Sequence[Any]) -> Column:
        return self._decoder.decode(raws)

    def _by_rules(self, raws: Sequence[Any]) -> Column:
        log = ConversionLog()
        values = [self._rule.exact(bytes(raw), log) for raw in raws]
        return Column(pa.array(values, self._decoder.type), counts=Counter[Entry](log.entries))

    def _learn(self, plan: LevelPlan, sample: Sequence[Any], share: float | None = COMMON_SHARE) -> _Learnt:
        return self._keep(plan.learn(self.record, [bytes(raw) for raw in sample], share))

    def _keep(self, plan: LevelPlan) -> _Learnt:
        """Keeps this plan for later batches, and the declared fields that it expects for the strict tier."""
        before = self._learnt
        if plan == before.plan and before.is_dirty:
            return before
        clean, strict = before.clean, before.strict
        if clean.has_absent() and (expecting := plan.expecting(self.record)) != clean:
            clean, strict = expecting, self._strict_level(expecting)
        level = strict if plan == clean and strict else None if plan.open else TypedLevel(self._decoder, plan)
        # A plan that only expects more declared fields makes the strict tier worth trying again.
        is_dirty = strict is None or plan != clean or clean is before.clean
        self._learnt = learnt = _Learnt(plan, level, is_dirty, clean, strict)
        return learnt

    def _first_mismatch(self, batch: Batch) -> RecordError:
        """The error that names the first value that does not fit, which the rules find."""
        raws = batch.raws if isinstance(batch, JsonBatch) else texts_of_column(batch.data.to_struct_array())
        log = ConversionLog()
        for number, raw in enumerate(raws, 1):
            self._rule.exact(bytes(raw), log)
            if log.misfits:
                return _mismatch(self.record.name, log.misfits[0], number, len(raws))
        raise AssertionError("the columns and the rules disagree about what fits")


def convert_record(record: Record, raw: bytes, *, layout: Layout = Layout.NAMED) -> tuple[dict[str, Any], list[Entry]]:
    """One JSON object converted by the rules: a dict by the fields' written names, and the log of its values."""
    log = ConversionLog()
    return record.rule(layout, "").exact(raw, log), log.entries


def _big_integers(record: Record, columns: Sequence[pa.Array]) -> frozenset[int]:
    """The ids of the fields whose integers are not all exact as doubles, at every level.

    Args:
        record: The record type.
        columns: The columns of its fields, in their order. The overflow may follow them.
    """
    return frozenset(_big_in_record(record, columns))


def _big_in_record(record: Record, columns: Sequence[pa.Array]) -> Iterator[int]:
    """Yields the ids of the record's own fields and of those within them."""
    for field, column in zip(record.fields, columns, strict=False):
        yield from _big_in(field.kind, field.id, column)


def _big_in(kind: Kind, field_id: int, column: pa.Array) -> Iterator[int]:
    if column.null_count == len(column):
        return
    if kind == LONG:
        bounds = pc.min_max(column)
        if bounds["max"].is_valid and max(-bounds["min"].as_py(), bounds["max"].as_py()) > _LARGEST_EXACT:
            yield field_id
    elif isinstance(kind, Array):
        yield from _big_in(kind.item, field_id, column.flatten())
    elif isinstance(kind, Record):
        yield from _big_in_record(kind, [column.field(number) for number in range(len(kind.fields))])


def _accepted(level: TypedLevel, raws: Sequence[Any], left_out: Rows) -> tuple[list[int], list[Row] | None]:
    """The rows that hold only what the plan expects, without those `left_out`, and their values not read by type.

    The second value is None if all values are read by type.
    """
    decode, pick = level.decode, level.pick or _nothing
    candidates = range(len(raws)) if not left_out.size else np.setdiff1d(np.arange(len(raws)), left_out).tolist()
    rows: list[Row] = []
    refused = set()
    for number in candidates:
        try:
            rows.append(pick(decode(raws[number])))
        except msgspec.ValidationError:
            refused.add(number)
    accepted = [number for number in candidates if number not in refused] if refused else list(candidates)
    return accepted, rows if level.pick else None


def _nothing(_: Any) -> Row:
    return ()


def _read(
    level: TypedLevel, texts: bytes, rows: list[Row] | None, length: int, duplicates: DuplicateNameCheck
) -> Column | None:
    """The level's column; None if pyarrow refuses the texts."""
    try:
        read = read_objects(texts, level.fields, strict=False)
    except pa.ArrowInvalid:
        return None
    return level.column(read, rows, length, duplicates)


def _too_deep(stream: str, total: int) -> RecordError:
    return RecordError(
        f"Stream {stream!r}: one of {total} records holds objects or lists within each other, too deep to be read. "
        "Have the source give that value as a text.",
        stream=stream,
    )


def _mismatch(stream: str, misfit: Misfit, number: int, total: int) -> RecordError:
    shown = misfit.text if len(misfit.text) <= _SHOWN else f"{misfit.text[:_SHOWN]}…"
    what = "is repeated, but has only one column" if misfit.is_repeated else "does not fit its declared type"
    return RecordError(
        f"Stream {stream!r}: field {misfit.path!r} {what}; its value is {shown} (record {number} of {total} that were "
        "read together). "
        "Correct the source or the stream's JSON schema, or set on_type_mismatch to 'overflow', which keeps such "
        f"values as text in {OVERFLOW}.",
        stream=stream,
        setting="on_type_mismatch",
    )
