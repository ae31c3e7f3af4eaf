"""Kinds whose JSON values are words: true and false, and null alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.json_texts import ABSENT, OTHER, JsonTexts, json_texts
from s3dest_dagster.columns.kinds import (
    UNFIT,
    BranchClaim,
    Column,
    ColumnDecoder,
    Kind,
    Layout,
    Mask,
    ReaderTypes,
    Rule,
    Scalar,
    ScalarDecoder,
    mask_of,
    strings_where,
)

_WORDS = pa.array(["true", "false"])


@dataclass(frozen=True)
class Boolean(Scalar):
    """True or false. Nothing is coerced to it."""

    word = "boolean"
    type = pa.bool_()
    avro = avro_name = "boolean"
    reader = ReaderTypes(pa.bool_(), bool, re.compile(rb"[tf]"), is_listable=True)
    python_type = bool

    def rule(self, layout: Layout, path: str) -> Rule:
        return _BooleanRule(path)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return _BooleanDecoder(self.rule(layout, path), self)

    def casts_from(self, column: pa.Array) -> bool:
        return bool(pt.is_boolean(column.type))


class _BooleanRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return raw == b"true" if raw in (b"true", b"false") else UNFIT


class _BooleanDecoder(ScalarDecoder):
    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        claim = self.claim(raws, texts, texts.kinds != ABSENT)
        return Column(claim.data, unfit=np.flatnonzero((texts.kinds != ABSENT) & ~claim.rows))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        rows = left & (texts.kinds == OTHER) & mask_of(pc.is_in(texts.strings, _WORDS))
        return BranchClaim(pc.equal(strings_where(texts.strings, rows), "true"), rows, np.zeros_like(left))


@dataclass(frozen=True)
class Null(Scalar):
    """Null alone: any other value goes to the overflow."""

    word = "null"
    type = pa.null()
    avro = avro_name = "null"
    reader = ReaderTypes(pa.null(), None, re.compile(rb"(?!)"))

    def rule(self, layout: Layout, path: str) -> Rule:
        return _NullRule(path)

    def decoder(self, layout: Layout, path: str) -> ColumnDecoder:
        return ScalarDecoder(self.rule(layout, path), self)

    def casts_from(self, column: pa.Array) -> bool:
        return bool(pt.is_null(column.type))

    def as_branches(self) -> tuple[Kind, ...]:
        return ()


class _NullRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT


BOOLEAN = Boolean()
NULL = Null()
