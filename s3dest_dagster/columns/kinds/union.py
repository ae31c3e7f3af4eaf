"""Fields and items that may hold several kinds of values.

A *position* is the place of a value: a field of a record, or an item of a list. It holds one kind, or the branches of a
union. In Avro, a temporal kind is never alone: it has an additional plain string for texts that do not parse.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from s3dest_dagster.columns.binary_columns import ABSENT, NO_ROWS, QUOTE, as_text, json_texts
from s3dest_dagster.columns.conversion_log import ConversionLog, Entry
from s3dest_dagster.columns.kinds import UNFIT, Column, ColumnDecoder, Kind, Layout, Rule, Widening
from s3dest_dagster.columns.kinds.scalar import STRING
from s3dest_dagster.columns.kinds.temporal import Temporal, TemporalBesideTextDecoder


class Position(NamedTuple):
    """A field or an item."""

    kind: Kind
    has_text: bool = True
    """Whether Avro has a string in addition to a temporal kind here. The connector's tuples have none."""

    def branches(self) -> tuple[Kind, ...]:
        """Avro's branches in order, without null."""
        own = self.kind.as_branches()
        return (*own, STRING) if self.has_text and needs_text(own) else own

    def members(self, layout: Layout) -> tuple[tuple[str, Kind], ...]:
        """The names and kinds of the members if its column is a struct of several kinds; () if it has one kind."""
        parts = self.kind.as_branches() if layout is Layout.NAMED else self.branches()
        if len(parts) < 2:
            return ()
        if layout is Layout.NAMED:
            return tuple((part.word, part) for part in parts)
        return tuple((f"member{number}", part) for number, part in enumerate(parts))

    def arrow_type(self, layout: Layout) -> pa.DataType:
        """The Arrow type of its column."""
        if members := self.members(layout):
            return pa.struct([pa.field(name, part.arrow_type(layout)) for name, part in members])
        return self.kind.arrow_type(layout)

    def avro_type(self, enclosing: str | None) -> Any:
        """Its nullable Avro type as JSON values. `enclosing` is the enclosing namespace."""
        branches = self.branches()
        return ["null", *(branch.avro_type(enclosing) for branch in branches)] if branches else "null"

    def rule(self, layout: Layout, path: str) -> Rule:
        """The rule for one of its values. `path` is the field's dotted original name."""
        members = self.members(layout)
        if not members:
            return self.kind.rule(layout, path)
        declared = len(self.kind.as_branches())
        rules = [(name, part.rule(layout, path)) for name, part in members[:declared]]
        return UnionRule(path, rules, members[declared][0] if len(members) > declared else None)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        """The decoder of its column. `path` is the field's dotted original name."""
        if not self.members(layout):
            return self.kind.decoder(layout, path)
        rule, type_ = self.rule(layout, path), self.arrow_type(layout)
        if isinstance(self.kind, Temporal):
            return TemporalBesideTextDecoder(rule, self.kind, type_)
        return UnionDecoder(rule, type_, [part.decoder(layout, path) for part in self.kind.as_branches()])

    def levels(self) -> int:
        """The number of levels in a Parquet schema in the connector's layout."""
        branches = self.branches()
        return 1 + max(branch.levels() for branch in branches) if len(branches) > 1 else self.kind.levels()

    def within_levels(self, levels: int) -> Kind:
        """Its kind with text in place of parts deeper than this many levels, including its own."""
        return self.kind if self.levels() <= levels else self.kind.within_levels(levels) or STRING


def needs_text(branches: Iterable[Any]) -> bool:
    """Whether Avro needs a string in addition to these branches: they include a temporal kind but no string."""
    branches = list(branches)
    return any(isinstance(branch, Temporal) for branch in branches) and STRING not in branches


@dataclass(frozen=True)
class Union(Kind):
    """At least two kinds, none of which is null or a union. Their order matters."""

    branches: tuple[Kind, ...]

    def arrow_type(self, layout: Layout) -> pa.DataType:
        return Position(self).arrow_type(layout)

    def avro_type(self, enclosing: str | None) -> Any:
        raise AssertionError("a union has a nullable type only, that of its position")

    def rule(self, layout: Layout, path: str) -> Rule:
        return Position(self).rule(layout, path)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return Position(self).decoder(layout, path)

    def words(self) -> str:
        return " or ".join(branch.words() for branch in self.branches)

    def as_branches(self) -> tuple[Kind, ...]:
        return self.branches

    def map_records(self, change: Callable[[Any], Kind]) -> Kind:
        return Union(tuple(branch.map_records(change) for branch in self.branches))

    @property
    def is_known(self) -> bool:
        return any(branch.is_known for branch in self.branches)

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        """The union with the branch that takes the other kind, or with the other kind as its last branch.

        A branch never becomes another kind, since the column's members are named by their kinds. A new branch must not
        move the text that Avro has in addition to a temporal kind.
        """
        for number, branch in enumerate(self.branches):
            wider = branch.widened_by(other, widening)
            if wider is not None and wider.word == branch.word:
                return Union((*self.branches[:number], wider, *self.branches[number + 1 :]))
        if any(branch.avro_name == other.avro_name for branch in self.branches):
            return None
        extended, present = Union((*self.branches, other)), Position(self).branches()
        return extended if Position(extended).branches()[: len(present)] == present else None

    @property
    def has_structure(self) -> bool:  # type: ignore[override]
        return any(branch.has_structure for branch in self.branches)


class UnionRule(Rule):
    """Converts by the first branch, in order, that holds the value exactly, else coerced, else as the nearest number.

    `declared` has the members' rules. `rest` names the member for texts that no declared branch accepts.
    """

    def __init__(self, path: str, declared: Sequence[tuple[str, Rule]], rest: str | None) -> None:
        super().__init__(path)
        self._exact = [(name, rule.exact) for name, rule in declared]
        self._coerced = [(name, rule.coerced) for name, rule in declared]
        self._nearest = [(name, rule.nearest) for name, rule in declared]
        self._rest = rest

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return self._first(raw, log, self._exact)

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return self._first(raw, log, self._coerced)

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._first(raw, log, self._nearest)
        if value is UNFIT and self._rest is not None and raw[0] == QUOTE:
            return {self._rest: as_text(raw)}
        return value

    @staticmethod
    def _first(
        raw: bytes, log: ConversionLog, steps: Sequence[tuple[str, Callable[[bytes, ConversionLog], Any]]]
    ) -> Any:
        for name, step in steps:
            if (value := step(raw, log)) is not UNFIT:
                return {name: value}
        return UNFIT


class UnionDecoder(ColumnDecoder):
    """Decodes a union: each branch in turn claims the rows that it holds exactly, and the rule converts other values.

    `type` may have one more member than there are branches, for texts that no branch accepts.
    """

    def __init__(self, rule: Rule, type_: pa.DataType, branches: Sequence[ColumnDecoder]) -> None:
        super().__init__(rule, type_)
        self._branches = branches

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        present = texts.kinds != ABSENT
        left, claimed = present.copy(), np.zeros(len(raws), np.bool_)
        members, inexact, counts = [], NO_ROWS, Counter[Entry]()
        for branch in self._branches:
            claim = branch.claim(raws, texts, left)
            members.append(claim.data)
            inexact = np.append(inexact, claim.inexact)
            counts.update(claim.counts)
            claimed |= claim.rows
            left &= ~claim.rows & ~claim.unsure
        members += [pa.nulls(len(raws), self.type.field(i).type) for i in range(len(members), self.type.num_fields)]
        data = pa.StructArray.from_arrays(members, fields=list(self.type), mask=pa.array(~claimed))
        column = Column(data, inexact=inexact, counts=counts)
        return self._convert_rows(column, raws, np.flatnonzero(present & ~claimed))
