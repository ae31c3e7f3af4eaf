"""Objects without declared properties, which are kept as their exact JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.columns.binary_columns import ABSENT, OTHER, TEXT, JsonTexts, Mask, json_texts, mask_of
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import UNFIT, BranchClaim, Column, Kind, Widening
from s3dest_dagster.columns.kinds.scalar import Scalar, ScalarDecoder, ScalarRule


class _JsonRule(ScalarRule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return raw.decode() if raw[:1] == b"{" else UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT if raw[:1] == b"{" else self._log_coerced(raw.decode(), log)


class _JsonDecoder(ScalarDecoder):
    def decode(self, raws: Sequence[Any]) -> Column:
        texts = json_texts(raws)
        objects = _are_objects(texts)
        strings = texts.strings
        if (quoted := texts.rows_of(TEXT)).size:
            spelled = pa.array([bytes(raws[row]).decode() for row in quoted.tolist()], pa.string())
            strings = pc.replace_with_mask(strings, pa.array(texts.kinds == TEXT), spelled)
        return Column(strings, counts=self._coerced(int(((texts.kinds != ABSENT) & ~objects).sum())))

    def claim(self, raws: Sequence[Any], texts: JsonTexts, left: Mask) -> BranchClaim:
        rows = left & _are_objects(texts)
        return BranchClaim(texts.where(rows), rows, np.zeros_like(left))


def _are_objects(texts: JsonTexts) -> Mask:
    objects: Mask = mask_of(pc.starts_with(texts.strings, "{")) & (texts.kinds == OTHER)
    return objects


class JsonText(Scalar):
    """An object as the source spells it. Any other value is coerced to its JSON text, so every value is valid JSON."""

    word = "json"
    avro = avro_name = "string"
    arrow = pa.string()
    python_type = str
    castable = ()
    has_structure = True
    rule_type = _JsonRule
    decoder_type = _JsonDecoder

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        return self if widening.is_inferred else super().widened_by(other, widening)

    def json_value(self, value: Any) -> Any:
        return msgspec.Raw(value.encode())


JSON_TEXT = JsonText()
