"""The variables of a path format, `${YEAR}`, and the placeholders of a file name pattern, `{part_number}`.

Names and meaning are the connector's; our own are `${PARTITION}` and `${PARTITION:dimension}`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys.names import SEGMENT_CHARACTERS, key_name, sanitize_segment
from s3dest_dagster.keys.overlap import Choice, Run, Shape, numbers
from s3dest_dagster.keys.tokens import PART_ID, TAG, UUID_SHAPE, YEARS, Level, Slot, Token, digits
from s3dest_dagster.stream import Scope, StreamId

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

_NUMBERS: dict[str, tuple[int, int, Callable[[datetime], int]]] = {
    "M": (1, 12, lambda t: t.month),
    "d": (1, 31, lambda t: t.day),
    "D": (1, 366, lambda t: t.timetuple().tm_yday),
    "F": (1, 5, lambda t: (t.day - 1) // 7 + 1),
    "u": (1, 7, lambda t: t.isoweekday()),
    "H": (0, 23, lambda t: t.hour),
    "k": (1, 24, lambda t: t.hour or 24),
    "K": (0, 11, lambda t: t.hour % 12),
    "h": (1, 12, lambda t: t.hour % 12 or 12),
    "m": (0, 59, lambda t: t.minute),
    "s": (0, 59, lambda t: t.second),
    "S": (0, 999, lambda t: t.microsecond // 1000),
}
"""Letter → the least and the greatest of its numbers, and the number. "SSSSSS" is milliseconds with zeros before."""
_SAME = {"L": "M"}
"""Letters that mean what another does."""
_KNOWN = ("y", "M", "L", *(letter for letter in _NUMBERS if letter != "M"), "E", "a", "Z", "X")

_PIECE = re.compile(r"(?P<letter>[A-Za-z])(?P=letter)*|'(?P<quoted>(?:[^']|'')*)'|(?P<open>')|[^A-Za-z']+")


def parse_date_format(text: str) -> Iterator[Token]:
    """The format's tokens, in order; their values are what has an `uploaded_at`. ValueError says what is refused."""
    if not text:
        raise ValueError("the date format is empty; write it like {date:yyyy_MM_dd}.")
    for match in _PIECE.finditer(text):
        if match["letter"]:
            yield _field(match["letter"], len(match[0]))
        elif match["open"]:
            raise ValueError(f"the date format {text!r} has a quote that is not closed.")
        elif match["quoted"] is not None:
            yield match["quoted"].replace("''", "'") or "'"
        else:
            yield match[0]


def _field(letter: str, count: int) -> Slot:
    """The slot of a letter that stands `count` times. Spellings that make the same text have one meaning."""
    source, letter = letter * count, _SAME.get(letter, letter)
    if letter == "y":
        return _year(source)
    if letter == "M" and count > 2:
        names = _MONTHS if count > 3 else tuple(name[:3] for name in _MONTHS)
        return _slot(source, "MMMM"[:count], _one_of(names), lambda t: names[t.month - 1])
    if letter == "E":
        names = _DAYS if count > 3 else tuple(name[:3] for name in _DAYS)
        return _slot(source, "EEEE" if count > 3 else "EEE", _one_of(names), lambda t: names[t.weekday()])
    if letter == "a":
        return _slot(source, letter, _one_of(("AM", "PM")), lambda t: "PM" if t.hour >= 12 else "AM")
    if letter == "Z" or (letter == "X" and count <= 3):
        text = "Z" if letter == "X" else "+0000"
        return _slot(source, letter, (text,), lambda _: text)
    if letter not in _NUMBERS:
        raise ValueError(
            f"{source!r} is not known in a date format. Known letters are {' '.join(_KNOWN)}; put other letters "
            "between quotes, like 'T'."
        )
    least, most, number = _NUMBERS[letter]
    shape = numbers(least, most, width=count)
    return _slot(source, letter * count, shape, lambda t: f"{number(t):0{count}d}", variable=count < len(str(most)))


def _year(source: str) -> Slot:
    if len(source) == 2:
        return _slot(source, source, digits(2), lambda t: f"{t.year % 100:02d}")
    width = max(len(source), 4)
    return _slot(source, "y" * width, numbers(*YEARS, width=width), lambda t: f"{t.year:0{width}d}")


def _one_of(names: tuple[str, ...]) -> Shape:
    return (Choice(tuple((name,) for name in names)),)


def _slot(source: str, meaning: str, shape: Shape, render: Callable[[datetime], str], variable: bool = False) -> Slot:
    return Slot(
        source, Level.OBJECT, shape, lambda placed: render(placed.uploaded_at), open=variable, meaning=f"date {meaning}"
    )


EXTENSIONS = (".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".avro", ".parquet")
_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)
_SEGMENT: Shape = (Run(SEGMENT_CHARACTERS, 1, None),)


@dataclass(frozen=True, slots=True)
class SyncValues:
    """What fills the slots of one sync; `now` in UTC."""

    scope: Scope
    now: datetime
    uuid: str
    sync_id: str


@dataclass(frozen=True, slots=True)
class ObjectValues:
    """What fills the slots of one object; `uploaded_at` in UTC."""

    part: int | str
    extension: str
    uploaded_at: datetime
    tag: str = ""


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01T00:00:00Z."""
    return (moment - _EPOCH_START) // timedelta(milliseconds=1)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH_START) // timedelta(microseconds=1)


def _name(source: str, text: Callable[[StreamId], str]) -> Slot:
    return Slot(source, Level.STREAM, _SEGMENT, lambda stream: key_name(text(stream)), open=True, free=True)


def _time(source: str, shape: Shape, text: Callable[[datetime], str]) -> Slot:
    return Slot(source, Level.SYNC, shape, lambda sync: text(sync.now))


def _timestamp(source: str, width: int, number: Callable[[datetime], int]) -> Slot:
    shape, meaning = digits(width), f"timestamp of {width} digits"
    return Slot(source, Level.OBJECT, shape, lambda placed: str(number(placed.uploaded_at)), meaning=meaning)


def _partition(source: str, text: Callable[[Scope], str]) -> Slot:
    return Slot(source, Level.SYNC, _SEGMENT, lambda sync: sanitize_segment(text(sync.scope)), open=True, free=True)


NAMESPACE = _name("${NAMESPACE}", lambda stream: stream.namespace or "")
STREAM_NAME = _name("${STREAM_NAME}", lambda stream: stream.name)
# Numbers of fewer digits are years, days or counters of somebody else.
EPOCH = replace(_time("${EPOCH}", digits(9, 15), lambda now: str(milliseconds(now))), open=True)
UUID = Slot("${UUID}", Level.SYNC, UUID_SHAPE, lambda sync: str(sync.uuid))
PARTITION = _partition("${PARTITION}", lambda scope: scope.partition or "")

VARIABLES: dict[str, Slot] = {
    slot.source: slot
    for slot in (
        NAMESPACE,
        STREAM_NAME,
        _time("${YEAR}", numbers(*YEARS), lambda now: f"{now.year:04d}"),
        _time("${MONTH}", numbers(1, 12, width=2), lambda now: f"{now.month:02d}"),
        _time("${DAY}", numbers(1, 31, width=2), lambda now: f"{now.day:02d}"),
        _time("${HOUR}", numbers(0, 23, width=2), lambda now: f"{now.hour:02d}"),
        _time("${MINUTE}", numbers(0, 59, width=2), lambda now: f"{now.minute:02d}"),
        _time("${SECOND}", numbers(0, 59, width=2), lambda now: f"{now.second:02d}"),
        _time("${MILLISECOND}", numbers(0, 999, width=4), lambda now: f"{now.microsecond // 1000:04d}"),
        EPOCH,
        UUID,
        PARTITION,
    )
}
DIMENSION_PREFIX = "${PARTITION:"

PART_NUMBER = Slot(
    "{part_number}", Level.OBJECT, (PART_ID, TAG), lambda placed: f"{placed.part}{placed.tag}", open=True
)
TAG_ALONE = Slot("tag", Level.OBJECT, (TAG,), lambda placed: str(placed.tag))
FORMAT_EXTENSION = Slot(
    "{format_extension}",
    Level.OBJECT,
    (Choice(tuple((extension,) for extension in EXTENSIONS)),),
    lambda placed: str(placed.extension),
)
SYNC_ID = Slot(
    "{sync_id}",
    Level.SYNC,
    (Run(SEGMENT_CHARACTERS, 0, None),),
    lambda sync: sanitize_segment(sync.sync_id),
    open=True,
    free=True,
)
TIMESTAMPS = {
    slot.source: slot
    for slot in (
        _timestamp("{timestamp}", 13, milliseconds),
        _timestamp("{timestamp:millis}", 13, milliseconds),
        _timestamp("{timestamp:micro}", 16, _microseconds),
        _timestamp("{timestamp:micros}", 16, _microseconds),
    )
}
PLACEHOLDERS: dict[str, Slot] = {
    **TIMESTAMPS,
    **{slot.source: slot for slot in (PART_NUMBER, SYNC_ID, FORMAT_EXTENSION)},
}
_BRACED = re.compile(r"\$?\{[^{}]*\}|[{}]")
_DATE = re.compile(r"\{date(?::(?P<format>[^{}]*))?\}")
_DEFAULT_DATE_FORMAT = "yyyy_MM_dd"


def parse_path(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of a bucket path or path format, and what is wrong with it; the wrong parts stay as text."""
    tokens: list[Token] = []
    complaints: list[str] = []
    for part, special in _split(text):
        slot = _variable(part) if special else None
        tokens.append(slot or part)
        if special and slot is None:
            complaints.append(
                f"{part} is not known there. Known are {', '.join([*VARIABLES, '${PARTITION:dimension}'])}; "
                "placeholders like {date} belong in file_name_pattern."
            )
    return tokens, complaints


def parse_pattern(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of a file name pattern, and what is wrong with it; the wrong parts stay as text."""
    tokens: list[Token] = []
    complaints: list[str] = []
    for part, special in _split(text):
        try:
            tokens.extend(_placeholder(part) if special else [part])
        except ValueError as error:
            tokens.append(part)
            complaints.append(str(error))
    if PART_NUMBER not in tokens:
        place = tokens.index(FORMAT_EXTENSION) if FORMAT_EXTENSION in tokens else len(tokens)
        tokens.insert(place, TAG_ALONE)
    return tokens, complaints


def _split(text: str) -> Iterator[tuple[str, bool]]:
    """The text in pieces, each with whether it is something in braces."""
    end = 0
    for match in _BRACED.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], False
        yield match[0], True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def _variable(source: str) -> Slot | None:
    dimension = source.removeprefix(DIMENSION_PREFIX).removesuffix("}")
    if source.startswith(DIMENSION_PREFIX) and dimension:
        return _partition(source, lambda scope: _dimension(scope, dimension))
    return VARIABLES.get(source)


def _dimension(scope: Scope, name: str) -> str:
    dimensions = scope.dimensions or {}
    if name not in dimensions:
        raise TemplateError(
            f"Stream {scope.stream} has no partition dimension {name!r}, which ${{PARTITION:{name}}} names. "
            + (f"Its dimensions are {', '.join(dimensions)}." if dimensions else "Use ${PARTITION} instead."),
            stream=str(scope.stream),
            partition=scope.partition,
            setting="s3_path_format",
        )
    return dimensions[name]


def _placeholder(source: str) -> list[Token]:
    """The tokens of one `{…}`; ValueError says why it is refused."""
    date = _DATE.fullmatch(source)
    if date is None:
        if source not in PLACEHOLDERS:
            raise ValueError(
                f"{source} is not known there. Known are {{date}}, {{date:yyyy_MM}}, {', '.join(PLACEHOLDERS)}; "
                "variables like ${YEAR} belong in s3_path_format."
            )
        return [PLACEHOLDERS[source]]
    text = _DEFAULT_DATE_FORMAT if date["format"] is None else date["format"]
    if ":" in text:
        shown = text.partition(":")[0]
        raise ValueError(
            f"{source} is ambiguous: the connector drops what follows the second colon. "
            f"Write {{date:{shown}}} for what it makes, or {{date:{text.replace(':', '-')}}}."
        )
    return list(parse_date_format(text))
