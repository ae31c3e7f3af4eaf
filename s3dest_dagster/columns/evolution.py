"""Compares the schema that a source brings with the columns that the stream remembers, and decides what lands.

`evolve` is the only function that gives a stream's columns their names, ids and types:

- A name or an id, once given, stays with its source name at its level. New columns come last.
- A column keeps its type, or a wider one in which the objects with the old type can be read (`Kind.widened`).
- If there is no such type, the type changes in place where no live Avro or Parquet object has the old one. Otherwise
  the new values get a column of their own next to the old (`amount_string`), which is remembered, too.

Must not know: where the memory is kept, data, formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from s3dest_dagster.columns.column_names import NameRequest
from s3dest_dagster.columns.kinds import Kind, Widening
from s3dest_dagster.columns.kinds.record import Field, Record, outline
from s3dest_dagster.columns.kinds.scalar import NULL
from s3dest_dagster.columns.kinds.union import Union
from s3dest_dagster.columns.schema_comparison import Comparison, IsLive
from s3dest_dagster.columns.schema_differences import (
    Difference,
    Evolution,
    EvolutionRules,
    frozen_error,
)
from s3dest_dagster.columns.stream_columns import Steps, StreamColumns, all_fields
from s3dest_dagster.settings.schema_contract import Verdict


def evolve(
    known: StreamColumns,
    proposed: Record,
    rules: EvolutionRules | None = None,
    *,
    is_live: IsLive = lambda column: True,
) -> Evolution:
    """Decides which columns the schema `proposed` has in a stream with the columns `known`.

    The names do not depend on the order of new properties. Evolving again with the same schema changes nothing.

    Args:
        known: The stream's columns; `StreamColumns()` for a stream that has none.
        proposed: The record type of the schema that the source brings (see `record_type`).
        rules: The circumstances.
        is_live: See `IsLive`.

    Raises:
        SchemaContractError: The contract freezes a difference. The message names all of them.
        SettingsError: `rename` gives a field a name that another field has, or a column has a name that the format
            does not allow.
    """
    comparison = Comparison(known, proposed, rules or EvolutionRules(), is_live)
    if known.fields:
        fields = _Level(comparison, known.fields, ()).evolved(proposed.fields)
    else:
        fields = comparison.new_fields(proposed.fields, ())
    comparison.compare_envelopes()
    if comparison.frozen:
        raise frozen_error(comparison.rules.stream, comparison.frozen)
    return comparison.outcome(fields)


class _Level:
    """The columns of one record level, while they are compared with a schema."""

    def __init__(self, comparison: Comparison, known: Sequence[Field], path: Steps) -> None:
        self._comparison = comparison
        self._known = known
        self._path = path
        self._columns = {column.id: column for column in known}
        self._current = {column.source: column for column in known if column.id not in comparison.retired}
        self._new: dict[NameRequest, Field] = {}

    def evolved(self, proposed: Iterable[Field]) -> tuple[Field, ...]:
        """All columns of the level: the known ones in their order, then the new ones."""
        proposed = [field.with_kind(self._comparison.normalised(field.kind)) for field in proposed]
        for field in proposed:
            if (column := self._current.get(field.source)) is None:
                self._add(field)
            else:
                self._compare(column, field)
        if self._comparison.rules.is_declared:
            self._note_missing({field.source for field in proposed})
        return (*self._columns.values(), *self._comparison.named(self._new, self._known, self._path))

    def _add(self, field: Field) -> None:
        path = (*self._path, field.source)
        if self._comparison.verdict(Difference.NEW_COLUMN, path, None, field.kind) is Verdict.DISCARD:
            self._comparison.discarded.add(".".join(step for step in path if step is not None))
        else:
            self._new[self._comparison.request(field, self._path)] = field

    def _note_missing(self, proposed: set[str]) -> None:
        for source, column in self._current.items():
            if source not in proposed and column.id not in self._comparison.absent:
                verdict = self._comparison.verdict(Difference.MISSING_COLUMN, (*self._path, source), column.kind, None)
                if verdict is Verdict.DISCARD:
                    self._keep(column)
                else:
                    self._comparison.absent.add(column.id)

    def _compare(self, column: Field, field: Field) -> None:
        """Decides which column the values of a known source name get."""
        self._comparison.absent.discard(column.id)
        path = (*self._path, field.source)
        family = self._family(column, path)
        fitting = self._fitting(family, field.kind, path)
        if column not in family:
            self._comparison.verdict(Difference.RENAMED, path, column.kind, field.kind)
        elif self._is_discarded(column, fitting, field.kind, path):
            self._keep(column)
            return
        if fitting is not None:
            self._widen(column, fitting, field.kind, path)
        elif family:
            self._replace(column, family, field, path)
        else:
            self._comparison.retired.add(column.id)
            self._new[self._comparison.request(field, self._path)] = field

    def _family(self, column: Field, path: Steps) -> list[Field]:
        """The columns that the source name can have, the current one first: those of the name that the user gives."""
        given = self._comparison.rules.rename.get(path)
        others = [each for each in self._known if each.source == column.source and each.id != column.id]
        return [
            each for each in (column, *others) if not given or each.name == given or each.name.startswith(f"{given}_")
        ]

    def _fitting(self, family: Iterable[Field], kind: Kind, path: Steps) -> Field | None:
        """The column that can hold values of this kind; best one that need not change its type for them."""
        fitting = [each for each in family if self._widened(each, kind, path, _keep_first) is not None]
        return next((each for each in fitting if not self._retypes(each, kind, path)), next(iter(fitting), None))

    def _retypes(self, column: Field, kind: Kind, path: Steps) -> bool:
        """Whether the column's type, apart from the fields of records in it, changes or cannot hold the kind."""
        wider = self._widened(column, kind, path, _keep_first)
        return wider is None or outline(wider) != outline(column.kind)

    def _is_discarded(self, column: Field, fitting: Field | None, kind: Kind, path: Steps) -> bool:
        """Whether the contract discards values because their type is new. A new type is noted."""
        if fitting is column and not self._retypes(column, kind, path):
            return False
        return self._comparison.verdict(Difference.NEW_TYPE, path, column.kind, kind) is Verdict.DISCARD

    def _widened(self, column: Field, kind: Kind, path: Steps, merge: Callable[..., Record]) -> Kind | None:
        rules = self._comparison.rules
        if not self._comparison.has_type(column.kind):
            return column.kind if kind == NULL else kind
        holds = column.id not in self._comparison.big_integers
        return column.kind.widened(kind, Widening(merge, path, not rules.is_declared, holds))

    def _widen(self, column: Field, fitting: Field, kind: Kind, path: Steps) -> None:
        """Lands the values in a column that holds them, in place of the current one."""
        if fitting.id != column.id:
            self._comparison.retired.add(column.id)
            self._comparison.retired.discard(fitting.id)
        wider = self._widened(fitting, kind, path, self._merge)
        assert wider is not None
        self._columns[fitting.id] = fitting.with_kind(self._comparison.with_ids(wider, path))
        self._comparison.landing.add(fitting.id)

    def _merge(self, known: Record, proposed: Record, path: Steps) -> Record:
        return known.with_fields(_Level(self._comparison, known.fields, path).evolved(proposed.fields))

    def _replace(self, column: Field, family: Sequence[Field], field: Field, path: Steps) -> None:
        """Lands values that no column holds: in place if that harms no object, else in a new column next to the old."""
        comparison = self._comparison
        field = field.with_kind(column.kind.beside(field.kind))
        stays = comparison.known.is_typed and comparison.is_live(column)
        if stays and not comparison.rules.is_typed:
            comparison.kinds_of_sync[column.id] = field.kind
            comparison.landing.add(column.id)
        elif column in family and not stays:
            self._columns[column.id] = column.with_kind(comparison.with_ids(field.kind, path))
            comparison.landing.add(column.id)
        else:
            comparison.retired.add(column.id)
            base = comparison.rules.rename.get(path) or min(family, key=lambda each: each.id).name
            self._new[NameRequest(field.source, base, _type_word(field.kind))] = field

    def _keep(self, column: Field) -> None:
        """Lands the column as it is."""
        kept = {each.id for each in all_fields([column])} - self._comparison.absent
        self._comparison.landing |= kept


def _keep_first(known: Record, proposed: Record, path: Steps) -> Record:
    """Stands for the merged record where only the outline matters."""
    return known


def _type_word(kind: Kind) -> str:
    return "mixed" if isinstance(kind, Union) else kind.word
