"""JSON Lines: the source's own JSON bytes between the envelope's, one record per line. It must not parse values.

{"_airbyte_ab_id":"…","_airbyte_emitted_at":"1622135805000","_airbyte_data":{…}}
{"_airbyte_ab_id":"…","_airbyte_emitted_at":"1622135805000","user_id":123,…}        with root level flattening
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from s3dest_dagster.batch import Batch, Tally
from s3dest_dagster.columns.binary_columns import Parts, glued, pieces
from s3dest_dagster.columns.conversion_log import Entry, Outcome, tally_of
from s3dest_dagster.columns.envelope import DATA, EMITTED_AT, RECORD_ID, record_ids
from s3dest_dagster.columns.json_texts import Member, object_of, pairs_of
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.overflow import OverflowNames
from s3dest_dagster.formats.arrow_json import json_texts
from s3dest_dagster.formats.protocol import Aside, Contents, Encoded, Sink, at_once
from s3dest_dagster.formats.text import TextObject, decimal_texts, spliced
from s3dest_dagster.settings.formats import Flattening, JsonlFormat

_ENVELOPE = (RECORD_ID, EMITTED_AT)
_ENVELOPE_KEYS = tuple(f'"{name}"'.encode() for name in _ENVELOPE)
_ESCAPED_LETTERS = (rb"\u005", rb"\u006", rb"\u007")
"""How an escape of a letter of an envelope name begins: such a key equals the name without looking like it."""

_QUOTE = ord('"')


class JsonlEncoder:
    """Lines of JSON. A value is never touched: its spelling is the source's."""

    holds_lock = True

    def __init__(self, settings: JsonlFormat, contents: Contents) -> None:
        self.extension = settings.extension
        self.schema_text = contents.schema_text
        self.fingerprint = contents.fingerprint
        self._settings = settings
        self._flat = settings.flattening is Flattening.ROOT

    def encode(self, batch: Batch, entropy: bytes) -> Encoded:
        raws = json_texts(batch)
        heads = self._heads(batch, entropy)
        if not self._flat:
            return _encoded(spliced(heads, raws, b"}\n"), len(heads), Tally())
        bodies, heads, tally = _flattened(raws, heads)
        return _encoded(spliced(heads, bodies, b"\n"), len(heads), tally)

    def open(self, sink: Sink, marker: bytes, aside: Aside = at_once) -> TextObject:
        return TextObject(sink, self._settings, aside=aside)

    def _heads(self, batch: Batch, entropy: bytes) -> list[bytes]:
        """What stands before each record's own text."""
        quote = b'"' if self._settings.emitted_at == "text" else b""
        parts: Parts = [
            b'{"%b":"' % RECORD_ID.encode(),
            record_ids(entropy),
            b'","%b":%b' % (EMITTED_AT.encode(), quote),
            decimal_texts(batch.emitted_at),
            b"%b," % quote if self._flat else b'%b,"%b":' % (quote, DATA.encode()),
        ]
        return pieces(glued(parts, batch.num_rows))


def _encoded(lines: bytes, rows: int, tally: Tally) -> Encoded:
    return Encoded(rows, lines, len(lines), tally)


def _flattened(raws: Sequence[bytes], heads: list[bytes]) -> tuple[list[bytes], list[bytes], Tally]:
    """Each record's text from behind its opening brace, and the heads, without their comma before an empty record.

    A field named like an envelope column is moved into the object `_airbyte_additional_properties` at the line's end,
    and counted as undeclared: the envelope keeps its name, and nothing is lost.
    """
    bodies = [bytes(raw)[1:] for raw in raws]
    for number in [number for number, body in enumerate(bodies) if body[0] != _QUOTE]:
        if bodies[number].lstrip().startswith(b"}"):
            heads[number] = heads[number][:-1]
    if not _may_clash(b"\n".join(bodies)):
        return bodies, heads, Tally()
    moved: Counter[Entry] = Counter()
    bodies = [_without_clash(body, moved) if _may_clash(body) else body for body in bodies]
    return bodies, heads, tally_of(moved)


def _may_clash(text: bytes) -> bool:
    """Whether JSON text may have a key like an envelope column's, plain or with escapes."""
    if b'"_airbyte_' in text and any(key in text for key in _ENVELOPE_KEYS):
        return True
    return b"\\" in text and rb"\u00" in text and any(letter in text for letter in _ESCAPED_LETTERS)


def _without_clash(body: bytes, moved: Counter[Entry]) -> bytes:
    """A record's text from behind its brace, its envelope names moved into the overflow object."""
    pairs = pairs_of(b"{" + body)
    overflow: list[Member] = []
    names = OverflowNames()
    for name, value in reversed(pairs):  # so that of a name that stands twice, the last value keeps it
        if name in _ENVELOPE:
            overflow.append((names.allocate(name), value))
    if not overflow:
        return body
    moved.update((Outcome.UNDECLARED, name) for name, value in pairs if name in _ENVELOPE and value != b"null")
    kept = [(name, value) for name, value in pairs if name not in (*_ENVELOPE, OVERFLOW)]
    for own in [value for name, value in pairs if name == OVERFLOW]:
        for name, value in pairs_of(own) if own.startswith(b"{") else [(OVERFLOW, own)]:
            overflow.append((names.allocate(name), value))
    return object_of([*kept, (OVERFLOW, object_of(overflow))])[1:]
