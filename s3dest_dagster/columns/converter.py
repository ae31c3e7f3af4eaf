"""From batches of records to Arrow columns in a layout's shape, and the tally of what did not land as declared.

JSON takes the cheapest of three tiers that holds: *strict* (pyarrow's reader with the declared types, anything else
being refused), *planned* (the same reader beside one typed decode per record, which hands out the text of the dirt that
the stream has taught to expect), and *by texts* (records whose dirt was not expected, taken apart name by name). What
comes out is the same on every tier, and what `values` says; only the cost differs. It must not know file formats.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa

from s3dest_dagster.batch import Batch, JsonBatch, Tally
from s3dest_dagster.columns.arrow_columns import record_of_arrow
from s3dest_dagster.columns.arrow_json_texts import refuse_invalid_utf8, texts_of_column
from s3dest_dagster.columns.arrow_types import Layout, arrow_schema
from s3dest_dagster.columns.conversion_log import ConversionLog, Event, Misfit, Outcome, tally_of
from s3dest_dagster.columns.duplicate_names import NameCensus
from s3dest_dagster.columns.inexact_numbers import rows_at_risk
from s3dest_dagster.columns.json_texts import NO_ROWS, Rows
from s3dest_dagster.columns.level_plan import (
    COMMON_SHARE,
    OPEN_SHARE,
    LevelPlan,
    first_plan,
    has_numbers,
    is_all_typed,
    learn,
    with_numbers_as_texts,
)
from s3dest_dagster.columns.members import repeating
from s3dest_dagster.columns.nested_columns import RecordDecoder
from s3dest_dagster.columns.scalar_columns import Column
from s3dest_dagster.columns.typed_columns import Row, TypedLevel, read_objects
from s3dest_dagster.columns.types import OVERFLOW, Record
from s3dest_dagster.columns.values import RecordRule
from s3dest_dagster.errors import RecordError

_SAMPLE = 128
"""Records that are looked at to learn what a stream's dirt is."""
_LEARN_ANEW_EVERY = 32
"""Batches of a dirty stream after which the strict tier is tried again, and the plan learnt anew: dirt may end."""
_REFUSED_TOO_MANY = 0.05
"""Share of refused records from which on the plan is learnt anew."""
_GIVEN_UP_AT_MOST = 2
"""Records that are taken out of a batch one by one before all of it goes by texts."""
_FEW = 24
"""Records that are cheaper by the rules than by columns."""
_SHOWN = 200
"""Characters of a value that an error shows."""
_ROW_NAMED = re.compile(r"in row (\d+)")
_SAYS_TWICE = "specified twice"


@dataclass(frozen=True, slots=True)
class Converted:
    """A batch in columns, row for row, without the envelope; and what happened to its values."""

    data: pa.RecordBatch
    tally: Tally


@dataclass(frozen=True, slots=True)
class _Learnt:
    """What the stream has taught so far; replaced as a whole, so that threads need no lock."""

    plan: LevelPlan
    level: TypedLevel | None
    dirty: bool


class RecordConverter:
    """The way of one stream's records into columns.

    `convert` may be called from several threads at once; its results depend on the batch alone, never on what was
    learnt from others. `on_mismatch` "fail" raises RecordError where a value does not fit its declared type.
    """

    def __init__(
        self, record: Record, *, layout: Layout, on_mismatch: Literal["overflow", "fail"] = "overflow"
    ) -> None:
        self.record = record
        self.layout = layout
        self.on_mismatch = on_mismatch
        self.schema = arrow_schema(record, layout=layout)
        self._rule = RecordRule(record, layout, "")
        self._decoder = RecordDecoder(record, layout, "")
        plan = first_plan(record)
        self._strict = TypedLevel(self._decoder, plan) if is_all_typed(plan) and record.fields else None
        self._clean = _Learnt(plan, self._strict, dirty=False)
        self._learnt = self._clean
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
        return Converted(data, tally_of(column.counts))

    def _column(self, batch: Batch) -> Column:
        if isinstance(batch, JsonBatch):
            return self._of_json(batch.raws)
        refuse_invalid_utf8(batch.data)
        return record_of_arrow(self._decoder, batch.data.to_struct_array())

    def _of_json(self, raws: Sequence[Any]) -> Column:
        if not raws:
            return self._by_rules(raws)
        learnt = self._learnt
        anew = not learnt.dirty or next(self._batches) % _LEARN_ANEW_EVERY == 0
        strict = self._strict if anew else None
        block = b"\n".join(raws)
        risky = self._rows_at_risk(block, raws, self._clean.plan if anew else learnt.plan)
        if strict and not risky.size and (column := self._strictly(strict, block, len(raws))):
            self._learnt = self._clean
            return column
        if anew:
            learnt = self._learn(self._clean.plan, raws[:: max(1, len(raws) // _SAMPLE)])
        if risky.size > COMMON_SHARE * len(raws):
            learnt = self._lesson(with_numbers_as_texts(self.record, learnt.plan))
            risky = risky[:0]
        return self._planned(raws, block, learnt, risky)

    def _rows_at_risk(self, block: bytes, raws: Sequence[Any], plan: LevelPlan) -> Rows:
        """The rows with numbers that need their text, where this plan, or one learnt from it, reads numbers by type."""
        return rows_at_risk(block, raws) if has_numbers(self.record, plan) else NO_ROWS

    def _strictly(self, level: TypedLevel, block: bytes, length: int) -> Column | None:
        """The batch in one read; None when anything in it is not as declared."""
        try:
            read = read_objects(block, level.fields, strict=True)
        except pa.ArrowInvalid:
            return None
        return level.column(read, None, length, NameCensus())

    def _planned(
        self, raws: Sequence[Any], block: bytes, learnt: _Learnt, risky: Rows, *, again: bool = True
    ) -> Column:
        """The batch under a plan; what the plan did not foresee goes by texts, in its place."""
        level = learnt.level
        if level is None:
            return self._by_texts(raws)
        accepted, rows = _accepted(level, raws, risky)
        refused = len(raws) - len(accepted) - len(risky)
        if again and refused > _REFUSED_TOO_MANY * len(raws):
            others = np.setdiff1d(np.arange(len(raws)), np.append(accepted, risky))[: 2 * _SAMPLE]
            relearnt = self._learn(learnt.plan, [raws[row] for row in others.tolist()], share=OPEN_SHARE)
            if relearnt.plan != learnt.plan:
                return self._planned(raws, block, relearnt, risky, again=False)
        if refused > OPEN_SHARE * len(raws):
            self._lesson(replace(learnt.plan, open=True))
        return self._with_refused(raws, block, level, accepted, rows)

    def _with_refused(
        self, raws: Sequence[Any], block: bytes, level: TypedLevel, accepted: list[int], rows: list[Row] | None
    ) -> Column:
        """The accepted rows by type. What only pyarrow refuses (1e400, a name twice that it reads) it names by its row;
        that row is given up, like those with a name twice that it does not read, and the others are read again, at most
        twice, then all go by texts."""
        for _ in range(_GIVEN_UP_AT_MOST + 1):
            if not accepted:
                break
            records = raws if len(accepted) == len(raws) else [raws[row] for row in accepted]
            texts = block if records is raws else b"\n".join(records)
            try:
                read = read_objects(texts, level.fields, strict=False)
            except pa.ArrowInvalid as error:
                if not (named := _ROW_NAMED.search(str(error))):
                    break
                given_up = {int(named[1])} | (repeating(records) if _SAYS_TWICE in str(error) else set())
            else:
                duplicate_names = NameCensus()
                column = level.column(read, rows, len(accepted), duplicate_names)
                given_up = set() if rows is None or duplicate_names.is_complete(texts) else repeating(records)
                if not given_up:
                    return self._merged(raws, column, accepted)
            accepted = [row for place, row in enumerate(accepted) if place not in given_up]
            rows = rows and [row for place, row in enumerate(rows) if place not in given_up]
        return self._by_texts(raws)

    def _merged(self, raws: Sequence[Any], typed: Column, accepted: list[int]) -> Column:
        """The typed rows and the others, in the batch's order."""
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
        return Column(pa.array(values, self._decoder.type), counts=Counter[Event](log.events))

    def _learn(self, plan: LevelPlan, sample: Sequence[Any], share: float = COMMON_SHARE) -> _Learnt:
        return self._lesson(learn(self.record, plan, [bytes(raw) for raw in sample], share))

    def _lesson(self, plan: LevelPlan) -> _Learnt:
        """Takes this plan over for the batches to come."""
        learnt = _Learnt(plan, None if plan.open else TypedLevel(self._decoder, plan), dirty=True)
        self._learnt = learnt
        return learnt

    def _first_mismatch(self, batch: Batch) -> RecordError:
        """The error that names the first value which does not fit, as the rules find it."""
        raws = batch.raws if isinstance(batch, JsonBatch) else texts_of_column(batch.data.to_struct_array())
        log = ConversionLog()
        for number, raw in enumerate(raws, 1):
            self._rule.exact(bytes(raw), log)
            if log.misfits:
                return _mismatch(self.record.name, log.misfits[0], number, len(raws))
        raise AssertionError("the columns and the rules disagree about what fits")


def _accepted(level: TypedLevel, raws: Sequence[Any], left_out: Rows) -> tuple[list[int], list[Row] | None]:
    """The rows that hold nothing but what the plan foresees, and the parts of them that it distrusts."""
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


def _too_deep(stream: str, total: int) -> RecordError:
    return RecordError(
        f"Stream {stream!r}: one of {total} records holds objects or lists within each other, too deep to be read. "
        "Have the source give that value as a text.",
        stream=stream,
    )


def _mismatch(stream: str, misfit: Misfit, number: int, total: int) -> RecordError:
    shown = misfit.text if len(misfit.text) <= _SHOWN else f"{misfit.text[:_SHOWN]}…"
    what = "stands more than once, and has one place" if misfit.is_repeated else "does not fit its declared type"
    return RecordError(
        f"Stream {stream!r}: field {misfit.path!r} {what}; its value is {shown} (record {number} of {total} that were "
        "read together). "
        "Correct the source or the stream's JSON schema, or set on_type_mismatch to 'overflow', which keeps such "
        f"values as text in {OVERFLOW}.",
        stream=stream,
        setting="on_type_mismatch",
    )
