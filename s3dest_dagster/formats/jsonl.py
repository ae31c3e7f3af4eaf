"""JSON Lines: one record per line, made of the envelope and the source's own JSON bytes. Must not know: values.

{"_airbyte_ab_id":"…","_airbyte_emitted_at":"1622135805000","_airbyte_data":{…}}
{"_airbyte_ab_id":"…","_airbyte_emitted_at":"1622135805000","user_id":123,…}        with root level flattening
{"user_id":123,…}                                                                   without an envelope
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from s3dest_dagster.batch import ArrowBatch, Batch, Tally
from s3dest_dagster.columns.arrow_json_texts import Refused, object_parts
from s3dest_dagster.columns.binary_columns import Member, Parts, glued, members_of, object_of, pairs_of, pieces
from s3dest_dagster.columns.conversion_log import Entry, Outcome, tally_of
from s3dest_dagster.columns.diagnostics import Diagnostic, line_diagnostics
from s3dest_dagster.columns.kinds.record import Record
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.overflow import OverflowNames
from s3dest_dagster.columns.schemas import DATA, GENERATION_ID, META, envelope_of
from s3dest_dagster.formats.protocol import Contents, OnMismatch
from s3dest_dagster.formats.reading import Line
from s3dest_dagster.formats.text import JoinedLines, Lines, Text, TextEncoder
from s3dest_dagster.settings.formats import JsonlFormat

_ESCAPED_LETTERS = (rb"\u005", rb"\u006", rb"\u007")
"""The beginnings of escapes for letters in envelope names. A key with such an escape may equal an envelope name."""
_QUOTE = ord('"')


class Jsonl(Text[JsonlFormat]):
    """JSON Lines."""

    def encoder(self, contents: Contents, on_mismatch: OnMismatch) -> JsonlEncoder:
        return JsonlEncoder(self.settings, contents)

    def parse(self, text: bytes, record: Record) -> Iterator[Line]:
        if not envelope_of(record).names:
            return (Line("", 0, line) for line in text.split(b"\n") if line)
        names = envelope_of(record).names
        return _flat_lines(text, names) if self.is_flat else _enveloped_lines(text, names)

    def diagnostics(self, record: Record, json_schema: Mapping[str, Any]) -> Iterator[Diagnostic]:
        return line_diagnostics(record, json_schema) if self.is_flat else super().diagnostics(record, json_schema)


class JsonlEncoder(TextEncoder[JsonlFormat]):
    """Encodes records as lines of JSON. Values keep the source's spelling, since they are not even parsed."""

    def lines(self, raws: Sequence[bytes], batch: Batch, entropy: bytes) -> tuple[Lines, Tally]:
        if not self.envelope.names:
            return JoinedLines(None, raws, b"\n"), Tally()
        heads = pieces(glued(self._head(batch, entropy), batch.num_rows))
        if not self._is_flat:
            return JoinedLines(heads, raws, b"}\n"), Tally()
        bodies, heads, tally = _flattened(raws, heads, self.envelope.names)
        return JoinedLines(heads, bodies, b"\n"), tally

    def arrow_lines(self, batch: ArrowBatch, entropy: bytes) -> pa.Array | None:
        names = batch.data.schema.names
        if self._is_flat and (not names or any(name in self.envelope.names for name in names)):
            return None
        record = object_parts(names, batch.data.columns, Refused())
        if not self.envelope.names:
            return glued([*record, b"\n"], batch.num_rows)
        head = self._head(batch, entropy)
        parts = [*head, *record[1:], b"\n"] if self._is_flat else [*head, *record, b"}\n"]
        return glued(parts, batch.num_rows)

    def _head(self, batch: Batch, entropy: bytes) -> Parts:
        """What is before every record's own text."""
        quote = b'"' if self._settings.emitted_at == "text" else b""
        members = self.envelope.json_members(self._envelope_values(batch, entropy), quote)
        return members if self._is_flat else [*members, b'"%b":' % DATA.encode()]


def _flattened(
    raws: Sequence[bytes], heads: list[bytes], envelope: Sequence[str]
) -> tuple[list[bytes], list[bytes], Tally]:
    """The records' texts after the opening brace, and the heads without the comma before an empty record.

    A field with the name of an envelope column goes into the object `_airbyte_additional_properties` at the end of the
    line, and counts as undeclared. So the envelope keeps its names, and nothing is lost.
    """
    bodies = [bytes(raw)[1:] for raw in raws]
    for number in [number for number, body in enumerate(bodies) if body[0] != _QUOTE]:
        if bodies[number].lstrip().startswith(b"}"):
            heads[number] = heads[number][:-1]
    keys = [f'"{name}"'.encode() for name in envelope]
    if not _may_clash(b"\n".join(bodies), keys):
        return bodies, heads, Tally()
    moved: Counter[Entry] = Counter()
    bodies = [_without_clash(body, envelope, moved) if _may_clash(body, keys) else body for body in bodies]
    return bodies, heads, tally_of(moved)


def _may_clash(text: bytes, keys: Sequence[bytes]) -> bool:
    """Whether JSON text may have one of these keys, the names of the envelope's columns, with or without escapes."""
    if b'"_airbyte_' in text and any(key in text for key in keys):
        return True
    return b"\\" in text and rb"\u00" in text and any(letter in text for letter in _ESCAPED_LETTERS)


def _without_clash(body: bytes, envelope: Sequence[str], moved: Counter[Entry]) -> bytes:
    """A record's text after the opening brace, with fields that have envelope names moved to the overflow object."""
    pairs = pairs_of(b"{" + body)
    overflow: list[Member] = []
    names = OverflowNames()
    for name, value in reversed(pairs):  # reversed, so that the last value of a repeated name keeps the name
        if name in envelope:
            overflow.append((names.allocate(name), value))
    if not overflow:
        return body
    moved.update((Outcome.UNDECLARED, name) for name, value in pairs if name in envelope and value != b"null")
    kept = [(name, value) for name, value in pairs if name not in (*envelope, OVERFLOW)]
    for own in [value for name, value in pairs if name == OVERFLOW]:
        for name, value in pairs_of(own) if own.startswith(b"{") else [(OVERFLOW, own)]:
            overflow.append((names.allocate(name), value))
    return object_of([*kept, (OVERFLOW, object_of(overflow))])[1:]


# ---------------------------------------------------------------------- reading


def _enveloped_lines(text: bytes, envelope: Sequence[str]) -> Iterator[Line]:
    for members in _members.decode_lines(text):
        yield _line(members, envelope, bytes(members[DATA]))


def _flat_lines(text: bytes, envelope: Sequence[str]) -> Iterator[Line]:
    for line in text.splitlines():
        members, earlier = members_of(line)
        own = {name: members.pop(name) for name in envelope if name in members}
        yield _line(own, envelope, object_of([*earlier, *members.items()]))


_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
"""Made here, since several threads may use it first at the same time."""


def _line(own: Mapping[str, msgspec.Raw | bytes], envelope: Sequence[str], record: bytes) -> Line:
    """The line with these members of its envelope, as JSON texts."""
    record_id, emitted_at = (msgspec.json.decode(own[name]) for name in envelope[:2])
    if META not in envelope:
        return Line(record_id, int(emitted_at), record)
    generation_id = msgspec.json.decode(own.get(GENERATION_ID, b"null"))
    return Line(record_id, int(emitted_at), record, bytes(own.get(META, b"null")), generation_id)
