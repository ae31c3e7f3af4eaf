"""The exact texts of JSON objects' root fields, column by column for a whole batch. Must not know: types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import Raw
from msgspec.structs import astuple

from s3dest_dagster.columns.binary_columns import (
    MEMBER_OVERHEAD,
    Bytes,
    Member,
    Positions,
    as_object,
    members_of,
    size_of,
)
from s3dest_dagster.columns.json_losses import DuplicateNameCheck
from s3dest_dagster.columns.level_plans import COMMON_SHARE, MAX_EXPECTED_NAMES, is_struct_name
from s3dest_dagster.errors import RecordError

_ABSENT = Raw(b"")
_LINE_BREAK = ord("\n")
_as_lines = msgspec.json.Encoder().encode_lines


class RootFields(NamedTuple):
    """The root fields of the records in a batch."""

    texts: Bytes
    """The values of the declared fields, record by record in the order of the names. There is a line break before every
    text, and one more at the end. An absent value is empty."""
    breaks: Positions
    """The positions of these line breaks."""
    undeclared: dict[int, dict[str, Raw]]
    """The other fields, by row."""
    earlier: dict[int, Sequence[Member]]
    """The earlier values of repeated names, by row. The other attributes have the last value."""


class RootFieldReader:
    """Reads the root fields of records.

    A generated decoder knows the declared names and the undeclared names that turned out to be frequent. A record with
    any other name is decoded individually. Learning changes the cost, never the result, so several threads may read at
    the same time.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._declared = tuple(names)
        self._decoder = _RowDecoder(self._declared)

    def read(self, raws: Sequence[bytes]) -> RootFields:
        """The root fields of at least one record. Raises RecordError if a text is not a JSON object."""
        decoder, block = self._decoder, b"\n".join(raws)
        values, undeclared = decoder.decode(raws, block)
        self._learn(decoder, undeclared, len(raws))
        values = self._declared_values(decoder, values, undeclared)
        texts = np.frombuffer(b"\n" + _as_lines(values), np.uint8)
        breaks = np.flatnonzero(texts == _LINE_BREAK)
        longer = _rows_with_more(decoder.sizes[: len(self._declared)], breaks, undeclared, raws)
        if len(longer) and _has_all_names(values, undeclared, block):
            longer = longer[:0]
        return RootFields(texts, breaks, undeclared, _earlier_values(raws, longer.tolist()))

    def _declared_values(
        self, decoder: _RowDecoder, values: list[Raw], undeclared: dict[int, dict[str, Raw]]
    ) -> list[Raw]:
        """The values of the declared names. The values of learnt names are added to the undeclared ones."""
        declared, width = len(self._declared), len(decoder.names)
        if width == declared:
            return values
        for column in range(declared, width):
            for row, value in enumerate(values[column::width]):
                if len(value):
                    undeclared.setdefault(row, {})[decoder.names[column]] = value
        rows = (values[start : start + declared] for start in range(0, len(values), width))
        return list(chain.from_iterable(rows))

    def _learn(self, decoder: _RowDecoder, undeclared: Mapping[int, Mapping[str, Raw]], rows: int) -> None:
        counts = Counter(chain.from_iterable(undeclared.values()))
        often = [name for name, count in counts.most_common(2 * MAX_EXPECTED_NAMES) if count >= COMMON_SHARE * rows]
        frequent = [name for name in often if is_struct_name(name)]
        room = len(self._declared) + MAX_EXPECTED_NAMES - len(decoder.names)
        if frequent[:room]:
            self._decoder = _RowDecoder((*decoder.names, *frequent[:room]))


class _RowDecoder:
    """Decodes records with only these names quickly, and other records one by one."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.sizes = [len(name.encode()) + MEMBER_OVERHEAD for name in names]
        """The sizes of the members without their values."""
        self._generated = _generated_decoder(names) if all(map(is_struct_name, names)) else None

    def decode(self, raws: Sequence[bytes], block: bytes) -> tuple[list[Raw], dict[int, dict[str, Raw]]]:
        """The records' texts in the order of the names, record by record, and the other members by row."""
        if self._generated is not None:
            try:
                return list(chain.from_iterable(map(astuple, self._generated.decode_lines(block)))), {}
            except msgspec.DecodeError:
                pass
        return self._one_by_one(raws)

    def _one_by_one(self, raws: Sequence[bytes]) -> tuple[list[Raw], dict[int, dict[str, Raw]]]:
        values: list[Raw] = []
        undeclared: dict[int, dict[str, Raw]] = {}
        for number, raw in enumerate(raws):
            row = self._row(raw)
            if row is None:
                members = _members_of(raw, number)
                row = [members.pop(name, _ABSENT) for name in self.names]
                if members:
                    undeclared[number] = members
            values += row
        return values, undeclared

    def _row(self, raw: bytes) -> Sequence[Raw] | None:
        """The record's texts; None if it has other names or cannot be decoded."""
        if self._generated is None:
            return None
        try:
            return astuple(self._generated.decode(raw))
        except msgspec.DecodeError:
            return None


def _generated_decoder(names: Sequence[str]) -> msgspec.json.Decoder[Any]:
    fields = [(f"field{number}", Raw, _ABSENT) for number in range(len(names))]
    renamed = {field: name for (field, _, _), name in zip(fields, names, strict=True)}
    row = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row)


def _members_of(raw: bytes, number: int) -> dict[str, Raw]:
    try:
        return as_object(raw)
    except msgspec.DecodeError as error:
        raise RecordError(
            f"Record {number + 1} of a batch is no JSON object ({error}): {bytes(raw[:200])!r}. Correct the source."
        ) from error


def _rows_with_more(
    sizes: Sequence[int],
    breaks: Positions,
    undeclared: Mapping[int, Mapping[str, Raw]],
    raws: Sequence[bytes],
) -> Positions:
    """The rows that are longer than the members found in them.

    They have other members, blanks between tokens, or escapes in names. `sizes` has the sizes of the declared members
    without their values. The values are between `breaks`.
    """
    lengths = (np.diff(breaks) - 1).reshape(len(raws), len(sizes))
    expected = lengths.sum(axis=1) + (lengths > 0) @ np.array(sizes, np.int64)
    for row, members in undeclared.items():
        expected[row] += size_of(members)
    expected += np.where(expected > 0, 1, 2)  # the other brace, or both
    return np.flatnonzero(expected != np.fromiter(map(len, raws), np.int64, len(raws)))


def _has_all_names(values: Sequence[Raw], undeclared: Mapping[int, Mapping[str, Raw]], block: bytes) -> bool:
    duplicate_names = DuplicateNameCheck()
    duplicate_names.add_texts(values)
    duplicate_names.add_texts([value for members in undeclared.values() for value in members.values()])
    return duplicate_names.passes(block)


def _earlier_values(raws: Sequence[bytes], rows: Sequence[int]) -> dict[int, Sequence[Member]]:
    by_row = ((row, members_of(bytes(raws[row]))[1]) for row in rows)
    return {row: earlier for row, earlier in by_row if earlier}
