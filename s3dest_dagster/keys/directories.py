"""Directories for the values of fields: how a value is spelled in a key, and which values a key cannot spell.

Hive's rules: `name=value`, with "%" and two hex digits for every character of `FileUtils.escapePathName`. Readers undo
exactly this escaping. Must not know: records, templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from s3dest_dagster.keys.overlap import NON_ASCII, Choice, KeyPattern, Run, numbers
from s3dest_dagster.settings.partition_fields import DateUnit, FieldsStyle, FieldValues, PartitionField, PartitionRule

NULL_DIRECTORY = "__HIVE_DEFAULT_PARTITION__"
"""The value of a record that has none. Readers take it for null."""
LONGEST_VALUE = 200
"""The most bytes of an escaped value."""

_CONTROLS = "".join(map(chr, (*range(0x20), 0x7F)))
_ESCAPED = _CONTROLS + "\"#%'*/:=?\\{[]^"
"""The characters that Hive escapes (`FileUtils.escapePathName`)."""
_ESCAPES = str.maketrans({char: f"%{ord(char):02X}" for char in _ESCAPED})
_UNSPEAKABLE = re.compile("[\ud800-\udfff\ufffe\uffff]")
"""Characters that a key, or the XML in which S3 lists keys, cannot hold."""
_VALUE_CHARACTERS = frozenset(map(chr, range(0x20, 0x7F))) - frozenset(_ESCAPED) | {"%", NON_ASCII}
_ANY_VALUE: KeyPattern = (Run(_VALUE_CHARACTERS, 1, None),)
_ANY_DIRECTORIES: KeyPattern = (Run(_VALUE_CHARACTERS | {"/", "="}, 1, None),)
ANY_DIRECTORIES: dict[FieldsStyle, KeyPattern] = {
    "hive": (Choice(((), (Run(_VALUE_CHARACTERS, 1, None), "=", *_ANY_DIRECTORIES))),),
    "plain": (Choice(((), _ANY_DIRECTORIES)),),
}
"""The patterns of all directories that a rule could make, and of none."""
_YEAR = numbers(0, 9999, width=4)
_MONTH: KeyPattern = (*_YEAR, "-", *numbers(1, 12, width=2))
_DAY: KeyPattern = (*_MONTH, "-", *numbers(1, 31, width=2))
_UNITS: dict[DateUnit, KeyPattern] = {
    "year": _YEAR,
    "month": _MONTH,
    "day": _DAY,
    "hour": (*_DAY, "-", *numbers(0, 23, width=2)),
}
_EXAMPLES: dict[DateUnit | None, str] = {
    "year": "2021",
    "month": "2021-05",
    "day": "2021-05-27",
    "hour": "2021-05-27-17",
    None: "DE",
}


def escaped(text: str) -> str:
    """A name or value as Hive spells it in a path."""
    return text.translate(_ESCAPES)


def is_spelled(text: str) -> bool:
    """Whether a value can be a directory. An empty, too long or unprintable one, and null's own text, cannot."""
    if not text or text == NULL_DIRECTORY or _UNSPEAKABLE.search(text):
        return False
    return len(text) <= LONGEST_VALUE and len(_plain(text).encode()) <= LONGEST_VALUE


def directory_value(value: str | None, style: FieldsStyle) -> str:
    """The value of a directory: what follows "=" in a Hive directory, or the whole name of a plain one."""
    text = NULL_DIRECTORY if value is None else value
    return escaped(text) if style == "hive" else _plain(text)


def directory(field: PartitionField, value: str | None, style: FieldsStyle) -> str:
    """The directory of a value."""
    return directory_name(field, style) + directory_value(value, style)


def directory_name(field: PartitionField, style: FieldsStyle) -> str:
    """What precedes the value in a directory's name."""
    return f"{escaped(field.name)}=" if style == "hive" else ""


def directories_text(fields: Sequence[PartitionField], values: FieldValues) -> str:
    """The directories of an object for messages, as Hive spells them."""
    return "/".join(directory(field, value, "hive") for field, value in zip(fields, values, strict=True))


def example_values(rule: PartitionRule | None) -> FieldValues:
    """Values that the directories of a rule could have."""
    return tuple(_EXAMPLES[each.unit] for each in rule or ())


def value_pattern(field: PartitionField, style: FieldsStyle) -> KeyPattern:
    """The pattern of all values of a field's directory."""
    if field.unit is None:
        return _ANY_VALUE
    return (Choice((_UNITS[field.unit], (directory_value(None, style),))),)


def _plain(text: str) -> str:
    """The value as the whole name of a directory. Spark hides names that begin with "_" or ".", and "." and ".." lead
    elsewhere."""
    spelled = escaped(text)
    if not spelled.strip("."):
        return spelled.replace(".", "%2E")
    return f"%{ord(spelled[0]):02X}{spelled[1:]}" if spelled[0] in "._" else spelled
