"""The differences between a source's schema and the columns of its stream, and the rules that say what they mean.

Values only. Must not know: how a difference is found, where columns are remembered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from s3dest_dagster.columns.column_names import is_connectors_name
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.stream_columns import Steps, StreamColumns
from s3dest_dagster.errors import SchemaContractError
from s3dest_dagster.settings.destination import NameStyle
from s3dest_dagster.settings.field_paths import FieldPath
from s3dest_dagster.settings.schema_contract import SchemaContract, Verdict

ENVELOPE = "envelope"
"""The type, in words, of a column of the envelope."""
UNKNOWN = "unknown"
"""The type, in words, of a column of which only nulls or empty lists have been seen."""
_MOST_SHOWN = 5
_STYLES_OF_TEXTS = (NameStyle.SNAKE, NameStyle.LOWER, NameStyle.KEEP)
"""The styles whose names are in text formats, too."""


class Difference(StrEnum):
    """What differs from the stream's columns."""

    NEW_COLUMN = "new_column"
    """The stream never had the property."""
    NEW_TYPE = "new_type"
    """The column's type changes, or its values get another column because their type has changed."""
    MISSING_COLUMN = "missing_column"
    """The declared schema no longer has the property."""
    RENAMED = "renamed"
    """The user has given the column another name: values get another column from now on. No contract applies."""


@dataclass(frozen=True, slots=True)
class ColumnChange:
    """One difference from the stream's columns."""

    difference: Difference
    path: Steps
    """The field."""
    before: str
    """The old type in words; empty for a new column."""
    now: str
    """The new type in words; empty for a missing column."""
    verdict: Verdict = Verdict.EVOLVE
    """What happens to it."""

    @property
    def field(self) -> str:
        """The path as settings and messages have it."""
        return path_text(self.path)

    @property
    def is_of_envelope(self) -> bool:
        """Whether it is a column that the settings give to every record, and not the source."""
        return ENVELOPE in (self.before, self.now)

    def __str__(self) -> str:
        if self.is_of_envelope:
            what = "new" if self.difference is Difference.NEW_COLUMN else "missing"
            return f"the column {self.field!r} of the envelope is {what}"
        if self.difference is Difference.NEW_COLUMN:
            return f"the field {self.field!r} ({self.now}) is new"
        if self.difference is Difference.MISSING_COLUMN:
            return f"the field {self.field!r} ({self.before}) is missing"
        if self.difference is Difference.RENAMED:
            return f"the field {self.field!r} has another column"
        return f"the field {self.field!r} is {self.now} and was {self.before}"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionRules:
    """The circumstances of a sync that decide what becomes of a difference."""

    stream: str = ""
    """The stream's name, for errors."""
    is_declared: bool = True
    """Whether the schema is declared. Otherwise it is inferred: all remembered columns stay, and a column stays as long
    as it holds some of its values."""
    is_typed: bool = True
    """Whether the format has types (Avro, Parquet)."""
    keeps_unknown: bool = False
    """Whether a column of unknown type lands as a column of nulls: a declared null in Avro."""
    keeps_missing: bool = False
    """Whether a column stays in new objects when its property is gone: CSV, whose columns keep their positions."""
    name_style: NameStyle = NameStyle.CONNECTOR
    """The style of new names."""
    rename: Mapping[Steps, str] = field(default_factory=dict)
    """The names that the user gives to columns."""
    allows_any_name: bool = True
    """Whether the format allows all characters in names. Otherwise: letters, digits and _ (Avro)."""
    contract: SchemaContract = field(default_factory=SchemaContract)
    """What each difference means. `evolve` applies `new_column`, `new_type` and `missing_column`."""

    @property
    def drops_undeclared(self) -> bool:
        """Whether undeclared fields are counted and dropped, instead of kept in the overflow."""
        return self.is_declared and self.contract.undeclared_field is Verdict.DISCARD

    @property
    def names_new_fields(self) -> bool:
        """Whether the objects of a text format may have another name than the source's for a field that is new."""
        return not self.is_typed and (self.name_style in _STYLES_OF_TEXTS or bool(self.rename))

    def has_title(self, path: Steps, name: str) -> bool:
        """Whether objects of a text format have a column's name in place of its source's.

        The connector's style is for formats that allow only some characters, so names of it are not in texts. A name
        that a user or another style once gave stays.
        """
        if self.is_typed or name == path[-1]:
            return False
        return (
            self.name_style in _STYLES_OF_TEXTS or path in self.rename or not is_connectors_name(name, path[-1] or "")
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Evolution:
    """The outcome of a comparison."""

    columns: StreamColumns
    """The stream's columns from now on. If they differ from those before, reserve them before an object uses them."""
    record: Record
    """The record type to encode with: remembered names, types and ids. Columns of unknown type are left out, so their
    values count as undeclared."""
    changes: tuple[ColumnChange, ...] = ()
    """The differences, to be reported. A stream's first columns are none."""
    discarded: frozenset[str] = frozenset()
    """The new fields that `new_column: discard` leaves out, as a `Tally` names them. Their values count as undeclared,
    and `undeclared_field: freeze` does not apply to them."""


def path_text(path: Steps) -> str:
    """A path as settings and messages have it."""
    return str(FieldPath(path))


def frozen_error(stream: str, changes: Sequence[ColumnChange]) -> SchemaContractError:
    """The error for differences that the contract freezes."""
    shown = "; ".join(map(str, changes[:_MOST_SHOWN]))
    more = f"; and {len(changes) - _MOST_SHOWN:,} more" if len(changes) > _MOST_SHOWN else ""
    words = sorted({str(change.difference) for change in changes})
    own = [change.is_of_envelope for change in changes]
    cures = [*(["take the former envelope back"] if any(own) else []), *([] if all(own) else ["correct the source"])]
    return SchemaContractError(
        f"Stream {stream!r}: its schema contract freezes {' and '.join(words)}, and what would land differs from the "
        f"stream's columns: {shown}{more}. Nothing with the difference was published. "
        f"{' and '.join(cures).capitalize()}, or set {' and '.join(words)} of the stream's schema_contract to "
        "'evolve'.",
        stream=stream or None,
        field=changes[0].field,
    )


def undiscardable_stream(stream: str, why: str) -> SchemaContractError:
    """The error for a stream that has never landed, and that the contract cannot discard."""
    return SchemaContractError(
        f"Stream {stream!r} has never landed, and its schema contract discards new_stream, but {why}. Nothing was "
        "written. Deselect the stream in the source, or set new_stream of its schema_contract to 'evolve' or 'freeze'.",
        stream=stream,
    )


def refuse_new_stream(stream: str, contract: SchemaContract) -> None:
    """Raises SchemaContractError if the contract freezes streams that have never landed."""
    if contract.new_stream is Verdict.FREEZE:
        raise SchemaContractError(
            f"Stream {stream!r} has never landed, and its schema contract freezes new_stream. Nothing was written. "
            "Deselect the stream in the source, or set new_stream of its schema_contract to 'evolve'.",
            stream=stream,
        )


def refuse_undeclared(
    stream: str, contract: SchemaContract, fields: Mapping[str, int], discarded: frozenset[str]
) -> None:
    """Raises SchemaContractError if the contract freezes undeclared fields and there are some.

    Args:
        stream: The stream's name.
        contract: The contract.
        fields: The number of undeclared values by field, from a `Tally`.
        discarded: `Evolution.discarded`.
    """
    found = [name for name in sorted(fields) if not _is_within(name, discarded)]
    if contract.undeclared_field is not Verdict.FREEZE or not found:
        return
    more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    raise SchemaContractError(
        f"Stream {stream!r}: its schema contract freezes undeclared_field, and records have the field {found[0]!r}"
        f"{more}, which the schema does not declare. Nothing with it was published. Declare the field, exclude it, or "
        "set undeclared_field of the stream's schema_contract to 'evolve' or 'discard'.",
        stream=stream,
        field=found[0],
    )


def _is_within(name: str, fields: frozenset[str]) -> bool:
    """Whether a dotted name is one of these fields, or within one."""
    return any(name == each or name.startswith(f"{each}.") for each in fields)
