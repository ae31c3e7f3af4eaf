"""Objects without declared properties, and lists without declared items, which are kept as their exact JSON text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from s3dest_dagster.columns.binary_columns import OTHER, TEXT, JsonTexts, Mask, mask_of
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import UNFIT, Kind, Widening
from s3dest_dagster.columns.kinds.scalar import ScalarRule, TextDecoder, TextScalar


class _JsonRule(ScalarRule):
    opening: ClassVar[bytes] = b"{"
    """How the values begin."""

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return raw.decode() if raw[:1] == self.opening else UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT if raw[:1] == self.opening else self._log_coerced(raw.decode(), log)


class _JsonDecoder(TextDecoder):
    opening: ClassVar[str] = "{"
    """How the values begin."""

    def own_rows(self, texts: JsonTexts) -> Mask:
        own: Mask = mask_of(pc.starts_with(texts.strings, self.opening)) & (texts.kinds == OTHER)
        return own

    def as_kept(self, texts: JsonTexts, raws: Sequence[Any]) -> pa.Array:
        """The values as JSON, so that a text keeps its quotes."""
        quoted = texts.rows_of(TEXT)
        if not quoted.size:
            return texts.strings
        spelled = pa.array([bytes(raws[row]).decode() for row in quoted.tolist()], pa.string())
        return pc.replace_with_mask(texts.strings, pa.array(texts.kinds == TEXT), spelled)


class JsonText(TextScalar):
    """An object as the source spells it. Any other value is coerced to its JSON text, so every value is valid JSON."""

    word = "json"
    has_structure = True
    rule_type = _JsonRule
    decoder_type = _JsonDecoder

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        return self if widening.is_inferred else super().widened_by(other, widening)

    def json_value(self, value: Any) -> Any:
        return msgspec.Raw(value.encode())


JSON_TEXT = JsonText()


class _ListRule(_JsonRule):
    opening = b"["


class _ListDecoder(_JsonDecoder):
    opening = "["


class ListText(JsonText):
    """A list as the source spells it, and any other value as its JSON text."""

    word = "json_list"
    rule_type = _ListRule
    decoder_type = _ListDecoder


LIST_TEXT = ListText()
