"""Selects records by the values of their columns, as pyarrow's `filters` do, with values of the columns' types.

Must not know: where records are stored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from s3dest_dagster.errors import SettingsError, did_you_mean

if TYPE_CHECKING:
    import pyarrow.compute as pc

_SETTING = "filter"
_LISTS = ("in", "not in")
_OPERATORS = ("=", "==", "!=", "<", ">", "<=", ">=", *_LISTS)

Condition = tuple[str, str, Any]


@dataclass(frozen=True, slots=True)
class RowFilter:
    """The records to read. A record whose value is null meets no condition except `not in`."""

    fields: pa.Schema
    """The columns that the conditions name."""
    expression: pc.Expression
    """All conditions."""

    @classmethod
    def of(cls, given: Any, schema: pa.Schema, stream: str) -> RowFilter | None:
        """The filter of conditions on columns. None selects every record.

        Args:
            given: Conditions as `(column, operator, value)`, all of which a record must meet; or a list of such lists,
                of which it must meet one. Values are converted to the type of the column.
            schema: The columns that there are.
            stream: The stream, for errors.

        Raises:
            SettingsError: It is no such list, names an unknown column, or has a value that its column cannot have.
        """
        if given is None:
            return None
        # Importing it takes time, and few inputs have a filter.
        import pyarrow.parquet as pq

        alternatives = [list(map(_condition, each)) for each in _alternatives(given)]
        names = list(dict.fromkeys(name for each in alternatives for name, _, _ in each))
        for name in names:
            if name not in schema.names:
                raise _error(f"names {name!r}, which is no column of {stream}. {did_you_mean(name, schema.names)}")
        typed = [
            [(name, operator, _value(schema.field(name), operator, value)) for name, operator, value in each]
            for each in alternatives
        ]
        return cls(pa.schema([schema.field(name) for name in names]), pq.filters_to_expression(typed))

    def fits(self, schema: pa.Schema) -> bool:
        """Whether an object has all of these columns with the same types, so that its statistics speak of them."""
        return all(each.name in schema.names and schema.field(each.name).type == each.type for each in self.fields)


def _alternatives(given: Any) -> Iterator[Sequence[Any]]:
    if not isinstance(given, list | tuple) or not given:
        raise _error(f"is {given!r}. Give a list of conditions, as [('id', '>', 5)]")
    if all(isinstance(each, list | tuple) and each and isinstance(each[0], str) for each in given):
        yield given
    else:
        yield from given


def _condition(given: Any) -> Condition:
    if not isinstance(given, list | tuple) or len(given) != 3 or not isinstance(given[0], str):
        raise _error(f"has the condition {given!r}. Write it as ('id', '>', 5)")
    name, operator, value = given
    if operator not in _OPERATORS:
        raise _error(f"has the operator {operator!r}. Use one of {', '.join(_OPERATORS)}")
    if operator in _LISTS and not isinstance(value, list | tuple | set | frozenset):
        raise _error(f"gives {name!r} {operator} {value!r}. Give a list of values")
    return name, operator, value


def _value(column: pa.Field, operator: str, value: Any) -> Any:
    """The value in the type of the column. Texts are read as times, and so on."""
    try:
        if operator in _LISTS:
            return pa.array(list(value)).cast(column.type)
        return pa.scalar(value).cast(column.type)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _error(f"compares {column.name!r}, which is {column.type}, with {value!r}: {error}") from None


def _error(problem: str) -> SettingsError:
    return SettingsError(f"{_SETTING} {problem.rstrip('. ')}.", setting=_SETTING)
