"""Kinds whose JSON values are strings: text, and bytes in base64."""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from s3dest_dagster.columns.arrow_types import is_any_binary, is_any_string
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.json_texts import OTHER, QUOTE, TEXT, JsonTexts, as_text, json_texts
from s3dest_dagster.columns.kinds import (
    UNFIT,
    BranchClaim,
    Column,
    ColumnDecoder,
    Layout,
    Mask,
    ReaderTypes,
    Rule,
    Scalar,
    ScalarDecoder,
    coerced_counts,
    strings_where,
)


@dataclass(frozen=True)
class String(Scalar):
    """Text. Any other value is coerced to its JSON text."""

    word = "string"
    type = pa.string()
    avro = avro_name = "string"
    reader = ReaderTypes(pa.string(), str, re.compile(rb'"'), is_listable=True)
    python_type = str

    def rule(self, layout: Layout, path: str) -> Rule:
        return _StringRule(path)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return _StringDecoder(self.rule(layout, path), self)

    def casts_from(self, column: pa.Array) -> bool:
        return is_any_string(column.type)


class _StringRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return as_text(raw) if raw[0] == QUOTE else UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT if raw[0] == QUOTE else self._log_coerced(raw.decode(), log)


class _StringDecoder(ScalarDecoder):
    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        return Column(texts.strings, counts=coerced_counts(self.rule, int((texts.kinds == OTHER).sum())))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        quoted = left & (texts.kinds == TEXT)
        return BranchClaim(strings_where(texts.strings, quoted), quoted, np.zeros_like(left))


@dataclass(frozen=True)
class Bytes(Scalar):
    """Bytes, in JSON as base64: the protocol's `BinaryData`."""

    word = "bytes"
    type = pa.binary()
    avro = avro_name = "bytes"
    python_type = bytes

    def rule(self, layout: Layout, path: str) -> Rule:
        return _BytesRule(path)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return ScalarDecoder(self.rule(layout, path), self)

    def casts_from(self, column: pa.Array) -> bool:
        return is_any_binary(column.type)


class _BytesRule(Rule):
    """Accepts the canonical spelling only, since from the bytes of any other the same text could not be restored."""

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] != QUOTE:
            return UNFIT
        text = as_text(raw)
        try:
            value = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            return UNFIT
        return value if binascii.b2a_base64(value, newline=False).decode() == text else UNFIT


STRING = String()
BYTES = Bytes()
