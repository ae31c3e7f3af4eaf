"""The types of the fields by which a stream is partitioned, and the refusal of fields that cannot name directories.

Must not know: records, keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.decimal import DECIMAL_TEXT, Decimal
from s3dest_dagster.columns.kinds.number import LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, NULL, STRING
from s3dest_dagster.columns.kinds.temporal import DATE, LOCAL_TIMESTAMP, TIMESTAMP
from s3dest_dagster.columns.names import OVERFLOW_NAMES
from s3dest_dagster.columns.schemas import DATA, ENVELOPE_NAMES
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.partition_fields import PartitionField, PartitionRule

_SPELLED = (STRING, LONG, BOOLEAN, DATE, NULL)
"""The kinds whose values are directories as they are."""
_DATED = (TIMESTAMP, LOCAL_TIMESTAMP, DATE, STRING, NULL)
"""The kinds of which a year, month, day or hour can be taken. A text must be a date, or a date and time."""
_OWN_NAMES = frozenset({*ENVELOPE_NAMES, DATA, *OVERFLOW_NAMES})


@dataclass(frozen=True, slots=True)
class TypedField:
    """A field of a rule with the type that it has in the records."""

    rule: PartitionField
    names: tuple[str, ...]
    """The source's names from the root to the field."""
    columns: tuple[str, ...]
    """The names that these have as columns."""
    kind: Kind


def typed_fields(rule: PartitionRule, record: Record, stream: str) -> tuple[TypedField, ...]:
    """The fields of a rule with their types.

    Args:
        rule: The stream's rule.
        record: The stream's columns.
        stream: The stream's name, for errors.

    Raises:
        SettingsError: A field is not known, its type cannot name directories, or a reader would take a directory for
            another column.
    """
    typed = tuple(_typed(each, record, stream) for each in rule)
    for each in typed:
        _check_kind(each, stream)
        _check_name(each.rule, record, stream)
    return typed


def _words(kind: Kind) -> str:
    """The type for messages. Readers of a message expect a number where its text is landed."""
    return "number with any number of digits" if kind == DECIMAL_TEXT else kind.words()


def is_whole_number(kind: Kind) -> bool:
    """Whether values are decimals without digits after the point."""
    return isinstance(kind, Decimal) and kind.is_known and kind.scale == 0


def _typed(rule: PartitionField, record: Record, stream: str) -> TypedField:
    names = tuple(str(step) for step in rule.field.steps)
    columns: list[str] = []
    level, kind = record, record  # type: Record, Kind
    for depth, name in enumerate(names):
        found = _field(level, name)
        if found is None:
            known = ", ".join(sorted(each.source for each in level.fields)[:20])
            _refuse(
                stream,
                rule,
                f"is not known there. Known are {known or 'no fields'}. A stream without a schema takes its fields "
                "from its first records: if those have no value, declare the field in a schema",
            )
        columns.append(found.name)
        kind = found.kind
        if depth < len(names) - 1:
            if not isinstance(kind, Record):
                _refuse(
                    stream,
                    rule,
                    f"leads into {name!r}, whose type is {kind.words()}. Name a field of an object, which has one "
                    "value in each record",
                )
            level = kind
    return TypedField(rule, names, tuple(columns), kind)


def _field(level: Record, name: str) -> Field | None:
    return next((each for each in level.fields if each.source == name), None)


def _check_kind(field: TypedField, stream: str) -> None:
    rule, branches = field.rule, field.kind.as_branches() or (NULL,)
    if rule.unit is not None:
        _check_unit(field, stream)
    elif any(branch in (TIMESTAMP, LOCAL_TIMESTAMP) for branch in branches):
        _refuse(stream, rule, f"is a {field.kind.words()}, with a directory for every moment. Give `as`: 'day'")
    elif not all(branch in _SPELLED or is_whole_number(branch) for branch in branches):
        _refuse(
            stream,
            rule,
            f"has the type {_words(field.kind)}, and such values cannot name directories. Choose a field of texts, "
            "whole numbers, booleans or dates",
        )


def _check_unit(field: TypedField, stream: str) -> None:
    rule, kind = field.rule, field.kind
    if kind not in _DATED:
        _refuse(stream, rule, f"has the type {kind.words()}, and `as` takes a part of a date or a timestamp")
    if kind == DATE and rule.unit == "hour":
        _refuse(stream, rule, "has the type date, without an hour. Take its day")
    if kind in (DATE, LOCAL_TIMESTAMP) and rule.tz != "UTC":
        _refuse(stream, rule, f"has the type {kind.words()}, without a time zone. Leave `tz` out")


def _check_name(rule: PartitionField, record: Record, stream: str) -> None:
    """Refuses a directory with the name of a column that has other values: readers take the directory's."""
    name = rule.name.casefold()
    is_own_value = rule.unit is None and len(rule.field.steps) == 1
    for column in record.fields:
        is_same = name in (column.name.casefold(), column.source.casefold())
        if is_same and not (is_own_value and column.source == rule.field.steps[0]):
            _refuse(
                stream,
                rule,
                f"would get directories with the name {rule.name!r}, which is also the name of the column "
                f"{column.name!r}: readers would show the directory's value in place of the column's. Give it another "
                "`name`",
            )
    if name in {each.casefold() for each in _OWN_NAMES}:
        _refuse(stream, rule, f"would get directories with the name {rule.name!r}, which is kept for a column of ours")


def _refuse(stream: str, rule: PartitionField, problem: str) -> NoReturn:
    raise SettingsError(
        f"Stream {stream!r}: partition_by names {rule.field}, which {problem}.", stream=stream, setting="partition_by"
    )
