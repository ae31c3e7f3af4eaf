"""Kinds without inner structure: their base classes, and strings, booleans, bytes and null."""

from __future__ import annotations

import binascii
import re
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.arrow_types import is_any_binary, is_any_string, unpacked
from s3dest_dagster.columns.binary_columns import (
    ABSENT,
    OTHER,
    QUOTE,
    TEXT,
    JsonTexts,
    Mask,
    as_text,
    json_texts,
    mask_of,
)
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import (
    UNFIT,
    BranchClaim,
    Column,
    ColumnDecoder,
    Kind,
    Layout,
    ReaderTypes,
    Rule,
    Widening,
)


class ScalarRule(Rule):
    """The rule of a scalar kind."""

    def __init__(self, path: str, kind: Any) -> None:
        super().__init__(path)


class ScalarDecoder(ColumnDecoder):
    """The decoder of a scalar kind. It converts value by value unless a subclass has a faster way."""

    def __init__(self, rule: Rule, kind: Any, type_: pa.DataType | None = None) -> None:
        super().__init__(rule, type_ or kind.arrow)
        self._kind = kind

    def decode(self, raws: Sequence[Any]) -> Column:
        present = np.array([row for row, raw in enumerate(raws) if raw and bytes(raw) != b"null"], np.int64)
        return self._convert_rows(Column(pa.nulls(len(raws), self.type)), raws, present)

    def decode_arrow(self, data: pa.Array) -> Column:
        data = unpacked(data)
        values = self._cast(data)
        return self.decode(texts_of_column(data)) if values is None else self.of_values(values)

    def of_values(self, values: pa.Array) -> Column:
        """The column of values that have the kind's own Arrow type."""
        return Column(values)

    def _cast(self, data: pa.Array) -> pa.Array | None:
        """The column cast without loss; None if its type cannot be cast, or a cast would change a value."""
        if data.null_count == len(data):
            return pa.nulls(len(data), self._kind.arrow)
        if not self._kind.casts_from(data):
            return None
        try:
            return data.cast(self._kind.arrow)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None


@dataclass(frozen=True)
class Scalar(Kind):
    """A kind without inner structure. Its columns are the same in every layout."""

    arrow: ClassVar[pa.DataType]
    """The Arrow type."""
    avro: ClassVar[Any]
    """The Avro type as JSON values."""
    castable: ClassVar[tuple[Callable[[pa.DataType], bool], ...]]
    """Tests for the Arrow types that Arrow either casts to `arrow` without loss or refuses to cast."""
    rule_type: ClassVar[type[ScalarRule]]
    decoder_type: ClassVar[type[ScalarDecoder]] = ScalarDecoder

    def arrow_type(self, layout: Layout) -> pa.DataType:
        return self.arrow

    def avro_type(self, enclosing: str | None) -> Any:
        return self.avro

    def rule(self, layout: Layout, path: str) -> Rule:
        return self.rule_type(path, self)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return self.decoder_type(self.rule(layout, path), self)

    def casts_from(self, column: pa.Array) -> bool:
        """Whether Arrow either casts this column without loss or refuses to cast it."""
        return any(test(column.type) for test in self.castable)


class _StringRule(ScalarRule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return as_text(raw) if raw[0] == QUOTE else UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT if raw[0] == QUOTE else self._log_coerced(raw.decode(), log)


class TextDecoder(ScalarDecoder):
    """The decoder of a kind that is kept as text, to which any value is coerced."""

    @abstractmethod
    def own_rows(self, texts: JsonTexts) -> Mask:
        """The rows whose value has the JSON type of the kind."""

    def as_kept(self, texts: JsonTexts, raws: Sequence[Any]) -> pa.Array:
        """The values as the column holds them."""
        return texts.strings

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        others = (texts.kinds != ABSENT) & ~self.own_rows(texts)
        return Column(self.as_kept(texts, raws), counts=self._coerced(int(others.sum())))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        rows = left & self.own_rows(texts)
        return BranchClaim(texts.where(rows), rows, np.zeros_like(left))


class TextScalar(Scalar):
    """A kind that is kept as text."""

    avro = avro_name = "string"
    arrow = pa.string()
    python_type = str
    castable: ClassVar[tuple[Callable[[pa.DataType], bool], ...]] = ()


class _StringDecoder(TextDecoder):
    def own_rows(self, texts: JsonTexts) -> Mask:
        rows: Mask = texts.kinds == TEXT
        return rows


class String(TextScalar):
    """Text. Any other value is coerced to its JSON text."""

    word = "string"
    reader = ReaderTypes(pa.string(), str, re.compile(rb'"'), is_listable=True)
    castable = (is_any_string,)
    rule_type = _StringRule
    decoder_type = _StringDecoder

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        return self if widening.is_inferred else super().widened_by(other, widening)


class _BooleanRule(ScalarRule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return raw == b"true" if raw in (b"true", b"false") else UNFIT


class _BooleanDecoder(ScalarDecoder):
    _words = pa.array(["true", "false"])

    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        present = texts.kinds != ABSENT
        claim = self.claim(raws, texts, present)
        return Column(claim.data, unfit=np.flatnonzero(present & ~claim.rows))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        rows = left & (texts.kinds == OTHER) & mask_of(pc.is_in(texts.strings, self._words))
        return BranchClaim(pc.equal(texts.where(rows), "true"), rows, np.zeros_like(left))


class Boolean(Scalar):
    """True or false. Nothing is coerced to it."""

    word = avro = avro_name = "boolean"
    arrow = pa.bool_()
    reader = ReaderTypes(pa.bool_(), bool, re.compile(rb"[tf]"), is_listable=True)
    python_type = bool
    castable = (pt.is_boolean,)
    rule_type = _BooleanRule
    decoder_type = _BooleanDecoder


class _BytesRule(ScalarRule):
    """Accepts only the canonical spelling, since the bytes of any other spelling would not give the same text back."""

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] != QUOTE:
            return UNFIT
        text = as_text(raw)
        try:
            value = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            return UNFIT
        return value if binascii.b2a_base64(value, newline=False).decode() == text else UNFIT


class Bytes(Scalar):
    """Bytes, which are base64 in JSON: the protocol's `BinaryData`."""

    word = avro = avro_name = "bytes"
    arrow = pa.binary()
    python_type = bytes
    castable = (is_any_binary,)
    rule_type = _BytesRule


class Null(Scalar):
    """Only null: any other value goes to the overflow."""

    word = avro = avro_name = "null"
    arrow = pa.null()
    reader = ReaderTypes(pa.null(), None, re.compile(rb"(?!)"))
    castable = (pt.is_null,)
    rule_type = ScalarRule

    def as_branches(self) -> tuple[Kind, ...]:
        return ()

    @property
    def is_known(self) -> bool:
        return False

    def widened(self, other: Kind, widening: Widening) -> Kind | None:
        return other


STRING = String()
BOOLEAN = Boolean()
BYTES = Bytes()
NULL = Null()
