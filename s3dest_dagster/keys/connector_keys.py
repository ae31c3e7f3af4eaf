"""The keys that the connector may have given to a stream's objects, of either era, with all of its spellings.

Wider than `KeyTemplate.matcher`, which matches only keys that the template itself makes. The connector also writes keys
that begin with "/" (empty bucket path), that end with `-1` (two objects with the same name), in which a placeholder
stands as it was written, and in which names have lost their foreign letters. Must not know: who owns an object.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from s3dest_dagster.keys.names import sanitize_name
from s3dest_dagster.keys.overlap import Choice, KeyPattern, Run
from s3dest_dagster.keys.placeholders import (
    FORMAT_EXTENSION,
    NAMESPACE,
    STREAM_NAME,
    TAG,
    Level,
    Placeholder,
    Token,
    fill,
    joined,
    leading_text,
    pattern_of,
)
from s3dest_dagster.keys.template import KeyTemplate, data_regex, part_id
from s3dest_dagster.stream import StreamId

_DIGITS = frozenset("0123456789")
_REPEATED: KeyPattern = (Choice(((), ("-", Run(_DIGITS - {"0"}, 1, 1), Run(_DIGITS, 0, 6)))),)
"""What the connector appends to a key that exists."""


@dataclass(frozen=True, slots=True)
class ConnectorKeys:
    """The keys that the connector may have given to the objects of one stream."""

    prefixes: tuple[str, ...]
    """Every such key begins with one of these."""
    patterns: tuple[re.Pattern[str], ...]

    def matches(self, key: str) -> bool:
        """Whether the connector may have made this key for the stream."""
        return any(pattern.fullmatch(key) for pattern in self.patterns)

    def part_of(self, key: str) -> int | None:
        """The part number in a key. None if it has a UUID, or no part number."""
        parts = (part_id(pattern, key) for pattern in self.patterns)
        part = next((each for each in parts if each is not None), "")
        return int(part) if part.isdigit() else None


def keys_of_connector(template: KeyTemplate, stream: StreamId) -> ConnectorKeys:
    """The keys that the connector may have given to a stream's objects with these settings.

    Example:
        With the bucket path "" and the default path format, `/public/users/2026_01_04_1767484800000_0.csv.gz-1` is such
        a key of `public.users`.

    Args:
        template: The rule for the stream's keys.
        stream: The stream, with its name as it is in the bucket.
    """
    return ConnectorKeys(
        prefixes_of_connector(template, stream),
        tuple(
            data_regex((start, *_pattern(tokens)))
            for tokens in _spellings(template, stream)
            for start in _starts(template)
        ),
    )


def prefixes_of_connector(template: KeyTemplate, stream: StreamId) -> tuple[str, ...]:
    """The prefixes of the keys that this template, or the connector with its settings, makes for a stream."""
    return tuple(start + leading_text(tokens) for tokens in _spellings(template, stream) for start in _starts(template))


def _starts(template: KeyTemplate) -> tuple[str, ...]:
    return ("", "/") if not template.bucket_path.strip("/") else ("",)


def _spellings(template: KeyTemplate, stream: StreamId) -> Iterable[tuple[Token, ...]]:
    """The tokens with the stream's names as the template spells them, and as the connector does."""
    return dict.fromkeys((fill(template.tokens, Level.STREAM, stream), _with_connector_names(template, stream)))


def _with_connector_names(template: KeyTemplate, stream: StreamId) -> tuple[Token, ...]:
    """The tokens with the stream's names as the connector spells them: without a hash for foreign letters."""
    names = {NAMESPACE: stream.namespace or "", STREAM_NAME: stream.name}
    return joined(sanitize_name(names[token]) if token in names else token for token in template.tokens)


def _pattern(tokens: tuple[Token, ...]) -> KeyPattern:
    """The pattern of the keys, with placeholders that may stand as they were written, and without our own tags."""
    pieces = (piece for token in tokens for piece in pattern_of((_perhaps_literal(token),)) if piece != TAG)
    return (*pieces, *_REPEATED)


def _perhaps_literal(token: Token) -> Token:
    """A placeholder of the file name pattern, or its own text: the connector keeps those that its version lacks."""
    if isinstance(token, str) or not token.source.startswith("{") or token == FORMAT_EXTENSION:
        return token
    return replace(token, pattern=tuple(_or_text(token)))


def _or_text(token: Placeholder) -> Iterator[Choice]:
    filled = tuple(piece for piece in token.pattern if piece != TAG)
    if any(isinstance(piece, Choice) and piece.name for piece in filled):
        yield from (piece for piece in filled if isinstance(piece, Choice))
    else:
        yield Choice(((token.source,), filled))
