"""The variables of a path format, `${YEAR}`, and the placeholders of a file name pattern, `{part_number}`.

Names and meanings are the connector's, except for `${PARTITION}`, `${PARTITION:dimension}` and `${FIELDS}`, which are
ours. A parsed template is a sequence of tokens: literal texts, and placeholders that are filled in at one of three
levels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any, TypeAlias

from s3dest_dagster.errors import TemplateError
from s3dest_dagster.keys.date_format import YEARS, DateField, parse_date_format
from s3dest_dagster.keys.directories import ANY_DIRECTORIES, directory_name, directory_value, value_pattern
from s3dest_dagster.keys.names import SEGMENT_CHARACTERS, key_name, sanitize_segment
from s3dest_dagster.keys.overlap import Choice, KeyPattern, Run, choice_of, numbers
from s3dest_dagster.settings.formats import extensions
from s3dest_dagster.settings.partition_fields import FieldsStyle, FieldValues, PartitionField, PartitionRule, rule_text
from s3dest_dagster.stream import Scope, StreamId

_DIGITS = frozenset("0123456789")
_HEX = frozenset("0123456789abcdef")
LONGEST_PART_NUMBER = 7
"""The most digits of a part number: fewer than in a tag, so that no part number looks like a tag."""
UUID_PATTERN: KeyPattern = (
    Run(_HEX, 8, 8), "-", Run(_HEX, 4, 4), "-", Run(_HEX, 4, 4), "-", Run(_HEX, 4, 4), "-", Run(_HEX, 12, 12),
)  # fmt: skip
_NUMBER: KeyPattern = (Choice((("0",), (Run(_DIGITS - {"0"}, 1, 1), Run(_DIGITS, 0, LONGEST_PART_NUMBER - 1)))),)
PART_ID = Choice((_NUMBER, UUID_PATTERN), name="part")
TAG = Choice(((), ("_", Run(_HEX, 8, 8))))
_SEGMENT: KeyPattern = (Run(SEGMENT_CHARACTERS, 1, None),)


class Level(Enum):
    """The point at which a placeholder gets its text."""

    STREAM = auto()
    """It is filled in from a `StreamId`."""
    SYNC = auto()
    """It is filled in from `SyncValues`."""
    OBJECT = auto()
    """It is filled in from `ObjectValues`."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A part of a template that is filled in later. Two placeholders are equal if they make the same text."""

    source: str = field(compare=False)
    """The user's spelling."""
    level: Level = field(compare=False)
    pattern: KeyPattern = field(compare=False)
    """Matches every text that it can become."""
    render: Callable[[Any], str] = field(compare=False)
    """Makes the text from the values of its level."""
    open: bool = field(default=False, compare=False)
    """Whether its text has no fixed length or form, so that a key does not show where one of two neighbours ends."""
    free: bool = field(default=False, compare=False)
    """Whether its text comes from the user: a name, a partition, an id."""
    meaning: str = ""
    """One spelling for all placeholders that make the same text; by default the source."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "meaning", self.meaning or self.source)


Token: TypeAlias = str | Placeholder


@dataclass(frozen=True, slots=True)
class SyncValues:
    """The values of one sync that are filled in."""

    scope: Scope
    now: datetime
    """In UTC."""
    uuid: str
    sync_id: str


@dataclass(frozen=True, slots=True)
class ObjectValues:
    """The values of one object that are filled in."""

    part: int | str
    extension: str
    uploaded_at: datetime
    """In UTC."""
    tag: str = ""
    fields: FieldValues = ()
    """The values of its directories, for `${FIELDS}`."""


# ---------------------------------------------------------------------- the variables and placeholders


def digits(least: int, most: int | None = None) -> KeyPattern:
    """The pattern of `least` to `most` digits, or of exactly `least` digits if `most` is None."""
    return (Run(_DIGITS, least, most or least),)


def milliseconds(moment: datetime) -> int:
    """Whole milliseconds since 1970-01-01T00:00:00Z."""
    return (moment - _EPOCH_START) // timedelta(milliseconds=1)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH_START) // timedelta(microseconds=1)


_EPOCH_START = datetime(1970, 1, 1, tzinfo=UTC)


def _name(source: str, text: Callable[[StreamId], str]) -> Placeholder:
    return Placeholder(source, Level.STREAM, _SEGMENT, lambda stream: key_name(text(stream)), open=True, free=True)


def _time(source: str, pattern: KeyPattern, text: Callable[[datetime], str]) -> Placeholder:
    return Placeholder(source, Level.SYNC, pattern, lambda sync: text(sync.now))


def _timestamp(source: str, width: int, number: Callable[[datetime], int]) -> Placeholder:
    pattern, meaning = digits(width), f"timestamp of {width} digits"
    return Placeholder(source, Level.OBJECT, pattern, lambda values: str(number(values.uploaded_at)), meaning=meaning)


def _partition(source: str, text: Callable[[Scope], str | None]) -> Placeholder:
    def render(sync: SyncValues) -> str:
        if sync.scope.partition is None:
            raise TemplateError(
                f"Stream {sync.scope.stream} is not partitioned, but the path format names {source}. Partition "
                f"the stream, or take {source} out of s3_path_format.",
                stream=str(sync.scope.stream),
                setting="s3_path_format",
            )
        return sanitize_segment(text(sync.scope) or "")

    return Placeholder(source, Level.SYNC, _SEGMENT, render, open=True, free=True)


def _by_source(*placeholders: Placeholder) -> dict[str, Placeholder]:
    return {placeholder.source: placeholder for placeholder in placeholders}


NAMESPACE = _name("${NAMESPACE}", lambda stream: stream.namespace or "")
STREAM_NAME = _name("${STREAM_NAME}", lambda stream: stream.name)
# A number with fewer than 9 digits is a year, a day or a counter in another writer's key.
EPOCH = replace(_time("${EPOCH}", digits(9, 15), lambda now: str(milliseconds(now))), open=True)
UUID = Placeholder("${UUID}", Level.SYNC, UUID_PATTERN, lambda sync: str(sync.uuid))
PARTITION = _partition("${PARTITION}", lambda scope: scope.partition)
FIELDS = Placeholder(
    "${FIELDS}", Level.OBJECT, ANY_DIRECTORIES["plain"], lambda values: "/".join(map(str, values.fields)), free=True
)
"""The directories of a stream whose rule is not known. `field_tokens` replaces it."""
VARIABLES = _by_source(
    NAMESPACE,
    STREAM_NAME,
    _time("${YEAR}", numbers(*YEARS), lambda now: f"{now.year:04d}"),
    _time("${MONTH}", numbers(1, 12, width=2), lambda now: f"{now.month:02d}"),
    _time("${DAY}", numbers(1, 31, width=2), lambda now: f"{now.day:02d}"),
    _time("${HOUR}", numbers(0, 23, width=2), lambda now: f"{now.hour:02d}"),
    _time("${MINUTE}", numbers(0, 59, width=2), lambda now: f"{now.minute:02d}"),
    _time("${SECOND}", numbers(0, 59, width=2), lambda now: f"{now.second:02d}"),
    # The connector writes four digits.
    _time("${MILLISECOND}", numbers(0, 999, width=4), lambda now: f"{now.microsecond // 1000:04d}"),
    EPOCH,
    UUID,
    PARTITION,
    FIELDS,
)
DIMENSION_PREFIX = "${PARTITION:"

PART_NUMBER = Placeholder(
    "{part_number}", Level.OBJECT, (PART_ID, TAG), lambda values: f"{values.part}{values.tag}", open=True
)
TAG_ALONE = Placeholder("tag", Level.OBJECT, (TAG,), lambda values: str(values.tag))
FORMAT_EXTENSION = Placeholder(
    "{format_extension}", Level.OBJECT, choice_of(extensions()), lambda values: str(values.extension)
)
SYNC_ID = Placeholder(
    "{sync_id}",
    Level.SYNC,
    (Run(SEGMENT_CHARACTERS, 0, None),),
    lambda sync: sanitize_segment(sync.sync_id),
    open=True,
    free=True,
)
TIMESTAMPS = _by_source(
    _timestamp("{timestamp}", 13, milliseconds),
    _timestamp("{timestamp:millis}", 13, milliseconds),
    _timestamp("{timestamp:micro}", 16, _microseconds),
    _timestamp("{timestamp:micros}", 16, _microseconds),
)
PLACEHOLDERS = {**TIMESTAMPS, **_by_source(PART_NUMBER, SYNC_ID, FORMAT_EXTENSION)}
_BRACED = re.compile(r"\$?\{[^{}]*\}|[{}]")
_DATE = re.compile(r"\{date(?::(?P<format>[^{}]*))?\}")
_DEFAULT_DATE_FORMAT = "yyyy_MM_dd"


def field_tokens(rule: PartitionRule | None, style: FieldsStyle) -> tuple[Token, ...]:
    """The tokens in place of `${FIELDS}`: a directory for each field of the rule. If the rule is not known, any."""
    if rule is None:
        return (replace(FIELDS, pattern=ANY_DIRECTORIES[style]),)
    tokens: list[Token] = []
    for position, own in enumerate(rule):
        tokens += ["/" if position else "", directory_name(own, style)]
        tokens.append(_field_value(own, position, style))
    return tuple(tokens)


def _field_value(own: PartitionField, position: int, style: FieldsStyle) -> Placeholder:
    return Placeholder(
        f"${{FIELDS:{own}}}",
        Level.OBJECT,
        value_pattern(own, style),
        lambda values: directory_value(values.fields[position], style),
        # The name before "=" shows that a key is the stream's, whatever the value is.
        free=style == "plain",
        meaning=rule_text((own,)),
    )


# ---------------------------------------------------------------------- parsing


def parse_path(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of a bucket path or path format, and the complaints about it. Wrong parts stay as text."""
    tokens: list[Token] = []
    complaints: list[str] = []
    for part, is_braced in _split(text):
        placeholder = _variable(part) if is_braced else None
        tokens.append(placeholder or part)
        if is_braced and placeholder is None:
            complaints.append(
                f"{part} is not known there. Known are {', '.join([*VARIABLES, '${PARTITION:dimension}'])}; "
                "placeholders like {date} belong in file_name_pattern."
            )
    return tokens, complaints


def normalized_pattern(text: str) -> str:
    """A file name pattern as the connector reads it: trimmed, with "_" for every blank; the default if empty."""
    return text.strip().replace(" ", "_") or "{part_number}{format_extension}"


def parse_pattern(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of a file name pattern, and the complaints about it. Wrong parts stay as text."""
    tokens: list[Token] = []
    complaints: list[str] = []
    for part, is_braced in _split(normalized_pattern(text)):
        try:
            tokens.extend(_placeholder(part) if is_braced else [part])
        except ValueError as error:
            tokens.append(part)
            complaints.append(str(error))
    if PART_NUMBER not in tokens:
        tag_at = tokens.index(FORMAT_EXTENSION) if FORMAT_EXTENSION in tokens else len(tokens)
        tokens.insert(tag_at, TAG_ALONE)
    return tokens, complaints


def _split(text: str) -> Iterator[tuple[str, bool]]:
    """Yields the text piece by piece, and for each piece whether it is in braces."""
    end = 0
    for match in _BRACED.finditer(text):
        if match.start() > end:
            yield text[end : match.start()], False
        yield match[0], True
        end = match.end()
    if end < len(text):
        yield text[end:], False


def _variable(source: str) -> Placeholder | None:
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


def _placeholder(source: str) -> Iterable[Token]:
    """The tokens of one `{…}`. Raises ValueError with the reason if it is refused."""
    date = _DATE.fullmatch(source)
    if date is not None:
        text = _DEFAULT_DATE_FORMAT if date["format"] is None else date["format"]
        if ":" in text:
            shown = text.partition(":")[0]
            raise ValueError(
                f"{source} is ambiguous: the connector drops what follows the second colon. "
                f"Write {{date:{shown}}} for what it makes, or {{date:{text.replace(':', '-')}}}."
            )
        return [part if isinstance(part, str) else _date(part) for part in parse_date_format(text)]
    if source not in PLACEHOLDERS:
        raise ValueError(
            f"{source} is not known there. Known are {{date}}, {{date:yyyy_MM}}, {', '.join(PLACEHOLDERS)}; "
            "variables like ${YEAR} belong in s3_path_format."
        )
    return [PLACEHOLDERS[source]]


def _date(part: DateField) -> Placeholder:
    return Placeholder(
        part.source,
        Level.OBJECT,
        part.pattern,
        lambda values: part.render(values.uploaded_at),
        open=part.varies,
        meaning=f"date {part.meaning}",
    )


# ---------------------------------------------------------------------- filling


def fill(tokens: Iterable[Token], level: Level, values: Any) -> tuple[Token, ...]:
    """The tokens with the placeholders of one level filled in and the slashes normalized (see `joined`)."""
    return joined(
        token.render(values) if isinstance(token, Placeholder) and token.level is level else token for token in tokens
    )


def joined(tokens: Iterable[Token]) -> tuple[Token, ...]:
    """The tokens with neighbouring texts merged, runs of "/" reduced to one, and no "/" at the beginning."""
    result: list[Token] = []
    for token in tokens:
        if isinstance(token, str) and result and isinstance(result[-1], str):
            result[-1] += token
        else:
            result.append(token)
    collapsed = [re.sub("/+", "/", token) if isinstance(token, str) else token for token in result]
    if collapsed and isinstance(collapsed[0], str):
        collapsed[0] = collapsed[0].removeprefix("/")
    return tuple(token for token in collapsed if token != "")


def pattern_of(tokens: Iterable[Token]) -> KeyPattern:
    """The pattern of every text that the tokens can become."""
    return tuple(piece for token in tokens for piece in ((token,) if isinstance(token, str) else token.pattern))


def leading_text(tokens: tuple[Token, ...]) -> str:
    """The literal text before the first placeholder."""
    return tokens[0] if tokens and isinstance(tokens[0], str) else ""


def literal_directories(tokens: tuple[Token, ...]) -> str:
    """The directories before the first placeholder, without "/" at the ends."""
    text = leading_text(tokens)
    return (text if len(tokens) == bool(text) else text.rpartition("/")[0]).strip("/")


def has_one_free_text_each(tokens: tuple[Token, ...]) -> bool:
    """Whether no directory name contains two texts from the user, between which characters could shift."""
    free = 0
    for token in tokens:
        if isinstance(token, str):
            free = 0 if "/" in token else free
        else:
            free += token.free
            if free > 1:
                return False
    return True
