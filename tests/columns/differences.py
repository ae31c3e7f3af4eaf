"""Where a value lands otherwise than in the connector's files, on purpose, and why. Data for tests and documentation.

A case is an Avro type and a JSON text, as in the tables of what the connector's converter does. `ours` is what lands
(under `Layout.AVRO`); OVERFLOW means that the field is null and the text stands in the record's overflow map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


class Overflowed:
    """The field is null, and the text of the value is in the overflow map."""

    def __repr__(self) -> str:
        return "OVERFLOW"


OVERFLOW: Final = Overflowed()


@dataclass(frozen=True)
class Inexact:
    """The nearest value lands, and the exact text is in the overflow map."""

    value: float


@dataclass(frozen=True)
class Reason:
    """The reason for a difference, as `docs/compatibility.md` states it."""

    name: str
    text: str


NO_FAILED_SYNC = Reason(
    "no failed sync",
    "The connector fails the whole sync at a value that no branch takes; here it goes to the overflow map and is "
    "counted.",
)
STRINGS_TAKE_ALL = Reason(
    "strings take everything",
    "The connector fails the sync at a number, boolean, object or list in a string field; here its JSON text lands.",
)
NO_TRUNCATION = Reason(
    "no truncated fraction", "The connector cuts the fraction of a number in an integer field; here it overflows."
)
NO_WRAP = Reason("no wrapped integer", "The connector wraps integers beyond 64 bits; here they overflow.")
EXACT_NUMBERS = Reason(
    "exact numbers",
    "The connector rounds a number to the nearest double; here its exact text is also kept in the overflow map.",
)
JSON_NUMBERS_ONLY = Reason(
    "only JSON's numbers",
    "The connector takes what Java parses ('1d', 'Infinity', '0012') for numbers; here only a text that is exactly a "
    "JSON number is one.",
)
EXACT_BRANCH_FIRST = Reason(
    "the exact branch first",
    "In a union the connector gives a text of digits to a number branch that comes first; here a text stays a text "
    "where a string branch takes it.",
)
MICROSECONDS = Reason("microseconds kept", "The connector cuts timestamps to milliseconds; here microseconds are kept.")
ANY_FRACTION = Reason(
    "any fraction", "The connector understands 3 to 6 digits of a fraction; here 1 to 9, as long as none is lost."
)
REAL_DAYS_ONLY = Reason(
    "only times that exist",
    "The connector turns 30 February into 28 February and 24:00 into the next day; here they are texts that do not "
    "parse.",
)
NO_DIGITS_AS_MICROS = Reason(
    "digits are no timestamp", "The connector takes a text of digits for microseconds; here it does not parse."
)
READABLE_YEARS = Reason(
    "years that readers know",
    "The connector lands years before 1 and after 9999, and Python's readers fail at the whole file for one of them; "
    "here such a date is a text that does not parse.",
)
OFFSETS_COUNT = Reason(
    "offsets count", "The connector drops the offset of a time of day; here the time is normalised to UTC."
)
DATES_ARE_DATES = Reason(
    "a date is a date", "The connector cuts the time off a date and time; here it is a date only at midnight (UTC)."
)
STRICT_BASE64 = Reason(
    "bytes are base64",
    "The connector guesses whether a text is base64 and forces the bytes through UTF-8; here canonical base64 is "
    "decoded exactly, and anything else overflows.",
)
ORIGINAL_NAMES = Reason(
    "original names",
    "The connector standardises the names of a record's fields before it looks them up, and those in the overflow map; "
    "here a field is known by the name that the schema declares, and the map holds original names.",
)

_DATE = '["null", {"type": "int", "logicalType": "date"}, "string"]'
_TIME = '["null", {"type": "long", "logicalType": "time-micros"}, "string"]'
_TIMESTAMP = '["null", {"type": "long", "logicalType": "timestamp-micros"}, "string"]'
_STRINGS = '["null", {"type": "array", "items": ["null", "string"]}]'
_LONGS = '["null", {"type": "array", "items": ["null", "long"]}]'
_MIXED = '["null", {"type": "array", "items": ["null", "string", "double"]}]'
_RECORD = (
    '["null", {"type": "record", "name": "o", "fields": [{"name": "id", "type": ["null", "long"], "default": null}, '
    '{"name": "_airbyte_additional_properties", "type": ["null", {"type": "map", "values": "string"}], '
    '"default": null}]}]'
)

VALUES: Final[dict[tuple[str, str], tuple[Any, Reason]]] = {
    ('["null", "string"]', "true"): ("true", STRINGS_TAKE_ALL),
    ('["null", "string"]', '{"a":1}'): ('{"a":1}', STRINGS_TAKE_ALL),
    ('["null", "string"]', "[1,2]"): ("[1,2]", STRINGS_TAKE_ALL),
    ('["null", "boolean"]', '"true"'): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "boolean"]', "0"): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "long"]', '"1.0"'): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "long"]', '""'): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "long"]', "1.9"): (OVERFLOW, NO_TRUNCATION),
    ('["null", "long"]', "-1.9"): (OVERFLOW, NO_TRUNCATION),
    ('["null", "long"]', "9223372036854775808"): (OVERFLOW, NO_WRAP),
    ('["null", "long"]', '"9223372036854775808"'): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "long"]', "true"): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "long"]', "[1]"): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "double"]', '"-Infinity"'): (OVERFLOW, JSON_NUMBERS_ONLY),
    ('["null", "double"]', "123456789012345678901234567890"): (Inexact(1.2345678901234568e29), EXACT_NUMBERS),
    ('["null", "double"]', "true"): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "double"]', '"1d"'): (OVERFLOW, JSON_NUMBERS_ONLY),
    ('["null", "float"]', "16777217"): (Inexact(16777216.0), EXACT_NUMBERS),
    ('["null", "float"]', "1e39"): (OVERFLOW, EXACT_NUMBERS),
    ('["null", "double", "string"]', "true"): ("true", STRINGS_TAKE_ALL),
    ('["null", "long", "string"]', '"0012"'): ("0012", JSON_NUMBERS_ONLY),
    ('["null", "boolean", "string"]', "1"): ("1", STRINGS_TAKE_ALL),
    (_DATE, "18628"): (OVERFLOW, NO_FAILED_SYNC),
    (_DATE, '"2021-01-01T10:00:00Z"'): ("2021-01-01T10:00:00Z", DATES_ARE_DATES),
    (_TIMESTAMP, '"2021-01-01T01:01:01.123456Z"'): (1609462861123456, MICROSECONDS),
    (_TIMESTAMP, '"2021-01-01T01:01:01.5Z"'): (1609462861500000, ANY_FRACTION),
    (_TIME, '"12:00:00+01:00"'): (39600000000, OFFSETS_COUNT),
    (_TIME, "3661"): (OVERFLOW, NO_FAILED_SYNC),
    (_STRINGS, '{"a":1}'): (OVERFLOW, NO_FAILED_SYNC),
    (_LONGS, '[1,"2",null,3.7]'): (OVERFLOW, NO_TRUNCATION),
    (_LONGS, "[[1]]"): (OVERFLOW, NO_FAILED_SYNC),
    (_LONGS, "5"): (OVERFLOW, NO_FAILED_SYNC),
    (_MIXED, '[{"a":1}]'): (['{"a":1}'], STRINGS_TAKE_ALL),
    (_RECORD, '"str"'): (OVERFLOW, NO_FAILED_SYNC),
    (_RECORD, "[1]"): (OVERFLOW, NO_FAILED_SYNC),
    ('["null", "bytes"]', '"hello"'): (OVERFLOW, STRICT_BASE64),
    ('["null", "bytes"]', '"test"'): (b"\xb5\xeb-", STRICT_BASE64),
    ('["null", "bytes"]', "1"): (OVERFLOW, NO_FAILED_SYNC),
    ('"null"', '"x"'): (OVERFLOW, NO_FAILED_SYNC),
}
"""By Avro type and JSON text: what lands here, and why."""

TEMPORALS: Final[dict[tuple[str, str], tuple[int | None, Reason]]] = {
    ("TS", "2021-01-01T01:01:01.12Z"): (1609462861120000, ANY_FRACTION),
    ("TS", "2021-01-01T01:01:01.1234Z"): (1609462861123400, MICROSECONDS),
    ("TS", "2021-01-01T01:01:01.999999Z"): (1609462861999999, MICROSECONDS),
    ("TS", "9999-12-31T23:59:59.999999Z"): (253402300799999999, MICROSECONDS),
    ("TS", "2022-01-23T01:23:45.678-11:30 BC"): (None, READABLE_YEARS),
    ("TS", "-5"): (None, NO_DIGITS_AS_MICROS),
    ("TS", "2021-02-30T00:00:00Z"): (None, REAL_DAYS_ONLY),
    ("TS", "2021-01-01T24:00:00Z"): (None, REAL_DAYS_ONLY),
    ("DATE", "2021-1-1 BC"): (None, READABLE_YEARS),
    ("DATE", "2021-02-30"): (None, REAL_DAYS_ONLY),
    ("TIME", "24:00:00"): (None, REAL_DAYS_ONLY),
    ("TIME", "12:00:00.000000+01:00"): (39600000000, OFFSETS_COUNT),
    ("TIME", "3661"): (None, NO_DIGITS_AS_MICROS),
}
"""By kind and text: microseconds (days for DATE), or `None` for a text that does not parse, and the reason."""

RECORDS: Final[dict[str, tuple[dict[str, Any], Reason]]] = {
    "record_with_combined_restriction_field": (
        {
            "user": {"created_at": "1634982000", "_airbyte_additional_properties": None},
            "_airbyte_additional_properties": None,
        },
        EXACT_BRANCH_FIRST,
    ),
    "array_with_combined_restriction_field": (
        {"identifiers": [151, 152, "153", "text", True, False], "_airbyte_additional_properties": None},
        EXACT_BRANCH_FIRST,
    ),
    "field_with_bad_first_char": (
        {"_5field_name": None, "_airbyte_additional_properties": {"_5field_name": "theory of relativity"}},
        ORIGINAL_NAMES,
    ),
}
"""By schema name of the conversion cases: the record that lands here, and why."""

SCHEMAS: Final[dict[str, str]] = {
    "names that become the same": "The connector's sync fails; here they get digits of their hash (a_b, a_b_d44362).",
    "record names that become the same": "The connector's sync fails; here the later ones get digits of their path.",
    "unions with one Avro type twice": (
        "The connector's sync fails; here a plain integer drives out times and timestamps, the first of time and "
        "timestamp the other, and arrays are merged."
    ),
    "local references": (
        "The connector fails at `$ref: #/…`; here it is followed, and what refers to itself ends as JSON text."
    ),
    "depth": "The connector's schemas nest as deep as the source's; here what is deeper than 100 levels is JSON text.",
    "fields named like an envelope column": (
        "The connector lets the record's field overwrite the envelope's; here it goes to the overflow map."
    ),
    "decimals": (
        "The connector lands a number with `multipleOf` or `airbyte_type: big_number` as a double, and a text with "
        "`big_number` as a string; here both are decimals, unless `decimals` is `connector`."
    ),
    "objects without properties": (
        "The connector lands them as a map of texts; so does a connector's `config.json` here. Elsewhere, they are "
        "their exact JSON text (`open_objects`)."
    ),
    "properties without a type": "The connector takes them for a string; here they are an object.",
    "named time zones": (
        "The connector takes every zone name Java knows; here UTC, GMT, offsets and regions (Europe/Berlin). "
        "Abbreviations (EST) are ambiguous and do not parse."
    ),
}
"""Differences that no table of cases shows. Separate tests cover them."""
