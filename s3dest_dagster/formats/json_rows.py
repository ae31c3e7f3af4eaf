"""JSON objects taken apart into the exact texts of their root fields, record by record. It must not know types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw
from msgspec.structs import astuple

from s3dest_dagster.columns.binary_columns import Bytes, Places, table_of
from s3dest_dagster.columns.json_losses import DuplicateNameCheck
from s3dest_dagster.columns.json_texts import MEMBER_OVERHEAD, Member, as_object, members_of, size_of
from s3dest_dagster.errors import RecordError

ABSENT = Raw(b"")
"""Stands for a field that a record does not have."""
_LINE_BREAK = ord("\n")
_as_lines = msgspec.json.Encoder().encode_lines
_LEARN_SHARE = 0.03
_LEARN_LIMIT = 64


class RootFields(NamedTuple):
    """What the records of a batch have at their root.

    `texts` are the values of the declared fields, record by record in the order of the names, every text behind a line
    break, with one more line break at the end; an absent value is empty. `breaks` is where the line breaks stand. By
    row: `undeclared` fields, and the `earlier` values of names that stand again in their record, of which the last
    counts everywhere else.
    """

    texts: Bytes
    breaks: Places
    undeclared: dict[int, dict[str, Raw]]
    earlier: dict[int, Sequence[Member]]


class JsonRows:
    """Takes records apart by the declared names.

    A generated decoder knows the declared names, and the undeclared ones that turned out to be frequent; a record with
    any other name is taken apart on its own. What was learnt changes the cost, never the result, so that `root_fields`
    may be called from several threads at once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._declared = tuple(names)
        self._plan = _Plan(self._declared)

    def root_fields(self, raws: Sequence[bytes]) -> RootFields:
        """The root fields of at least one record. Raises RecordError for what is no JSON object."""
        plan, block = self._plan, b"\n".join(raws)
        values, undeclared = plan.take_apart(raws, block)
        self._learn(plan, undeclared, len(raws))
        values = self._declared_of(plan, values, undeclared)
        texts = np.frombuffer(b"\n" + _as_lines(values), np.uint8)
        breaks = np.flatnonzero(texts == _LINE_BREAK)
        others = _rows_with_others(plan.sizes[: len(self._declared)], breaks, undeclared, raws)
        if len(others) and _has_all_names(values, undeclared, block):
            others = others[:0]
        return RootFields(texts, breaks, undeclared, _earlier(raws, others.tolist()))

    def _declared_of(self, plan: _Plan, values: list[Raw], undeclared: dict[int, dict[str, Raw]]) -> list[Raw]:
        """The values of declared names alone; those of learnt names join the undeclared ones."""
        declared, width = len(self._declared), len(plan.names)
        if width == declared:
            return values
        for column in range(declared, width):
            for number, value in enumerate(values[column::width]):
                if len(value):
                    undeclared.setdefault(number, {})[plan.names[column]] = value
        rows = (values[start : start + declared] for start in range(0, len(values), width))
        return list(chain.from_iterable(rows))

    def _learn(self, plan: _Plan, undeclared: Mapping[int, Mapping[str, Raw]], rows: int) -> None:
        seen = Counter(chain.from_iterable(undeclared.values()))
        often = [name for name, count in seen.most_common(2 * _LEARN_LIMIT) if count >= _LEARN_SHARE * rows]
        frequent = [name for name in often if _can_be_learnt(name)]
        room = len(self._declared) + _LEARN_LIMIT - len(plan.names)
        if frequent[:room]:
            self._plan = _Plan((*plan.names, *frequent[:room]))


class _Plan:
    """A decoder for records that have no other names than these. `sizes` are those of their members without values."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.sizes = [len(name.encode()) + MEMBER_OVERHEAD for name in names]
        self._decoder = _decoder(names) if all(map(_can_be_learnt, names)) else None

    def take_apart(self, raws: Sequence[bytes], block: bytes) -> tuple[list[Raw], dict[int, dict[str, Raw]]]:
        """Each record's texts in the order of the names, record by record, and what records have beyond, by row."""
        if self._decoder is not None:
            try:
                return list(chain.from_iterable(map(astuple, self._decoder.decode_lines(block)))), {}
            except msgspec.DecodeError:
                pass
        return self._one_by_one(raws)

    def _one_by_one(self, raws: Sequence[bytes]) -> tuple[list[Raw], dict[int, dict[str, Raw]]]:
        values: list[Raw] = []
        undeclared: dict[int, dict[str, Raw]] = {}
        for number, raw in enumerate(raws):
            row = self._decoded(raw)
            if row is None:
                members = _members_of(raw, number)
                row = [members.pop(name, ABSENT) for name in self.names]
                if members:
                    undeclared[number] = members
            values += row
        return values, undeclared

    def _decoded(self, raw: bytes) -> Sequence[Raw] | None:
        """The record's texts; None when it has other names or cannot be decoded."""
        if self._decoder is None:
            return None
        try:
            return astuple(self._decoder.decode(raw))
        except msgspec.DecodeError:
            return None


def _decoder(names: Sequence[str]) -> msgspec.json.Decoder[Any]:
    fields = [(f"field{number}", Raw, ABSENT) for number in range(len(names))]
    spelled = {field: name for (field, _, _), name in zip(fields, names, strict=True)}
    row = msgspec.defstruct("Row", fields, rename=spelled, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row)


def _can_be_learnt(name: str) -> bool:
    """Generated decoders refuse names that JSON spells with an escape."""
    return not any(character in '"\\' or character < " " for character in name)


def _members_of(raw: bytes, number: int) -> dict[str, Raw]:
    try:
        return as_object(raw)
    except msgspec.DecodeError as error:
        raise RecordError(
            f"Record {number + 1} of a batch is no JSON object ({error}): {bytes(raw[:200])!r}. Correct the source."
        ) from error


def _rows_with_others(
    sizes: Sequence[int],
    breaks: Places,
    undeclared: Mapping[int, Mapping[str, Raw]],
    raws: Sequence[bytes],
) -> Places:
    """The rows that are longer than the members that were found in them: they have others, or blanks between tokens, or
    escapes in names. `sizes` are those of the declared members without their values, which stand between `breaks`."""
    lengths = (np.diff(breaks) - 1).reshape(len(raws), len(sizes))
    found = lengths.sum(axis=1) + (lengths > 0) @ np.array(sizes, np.int64)
    for row, members in undeclared.items():
        found[row] += size_of(members)
    found += np.where(found > 0, 1, 2)  # the other brace, or both
    return np.flatnonzero(found != np.fromiter(map(len, raws), np.int64, len(raws)))


def _has_all_names(values: Sequence[Raw], undeclared: Mapping[int, Mapping[str, Raw]], block: bytes) -> bool:
    duplicate_names = DuplicateNameCheck()
    duplicate_names.add_texts(values)
    duplicate_names.add_texts([value for members in undeclared.values() for value in members.values()])
    return duplicate_names.passes(block)


def _earlier(raws: Sequence[bytes], rows: Sequence[int]) -> dict[int, Sequence[Member]]:
    found = ((row, members_of(bytes(raws[row]))[1]) for row in rows)
    return {row: earlier for row, earlier in found if earlier}


_BEFORE_BLANK, _AFTER_BLANK = b"{[,:", b",:]}"


def compact(text: bytes) -> bytes:
    """One JSON text without blanks outside of its strings."""
    return msgspec.json.format(text, indent=-1)


def compact_lines(raws: Sequence[bytes]) -> bytes:
    """JSON texts without raw line breaks, each compact, joined by line breaks."""
    lines = b"\n".join(raws)
    suspects = _lines_with_suspicious_blanks(lines)
    if not len(suspects):
        return lines
    texts = list(raws)
    for number in suspects.tolist():
        texts[number] = compact(texts[number])
    return b"\n".join(texts)


def _lines_with_suspicious_blanks(lines: bytes) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Numbers of the lines that may have a blank outside of strings.

    Between two tokens of which none is punctuation JSON has no blanks, so a run of them begins behind punctuation or
    ends before it. Blanks within strings can look like that too, which only costs time.
    """
    characters = np.frombuffer(lines, np.uint8)
    blank = characters == ord(" ")
    for other in (b"\t", b"\r"):
        if other in lines:
            blank |= characters == other[0]
    places = np.flatnonzero(blank)
    suspicious = _IS_BEFORE[characters[places - 1]] | _IS_AFTER[characters[places + 1]]
    if not suspicious.any():
        return np.zeros(0, np.int64)
    line_ends = np.flatnonzero(characters == ord("\n"))
    return np.unique(np.searchsorted(line_ends, places[suspicious]))


_IS_BEFORE, _IS_AFTER = table_of(_BEFORE_BLANK), table_of(_AFTER_BLANK)
