"""The rules of conversion, one JSON text at a time: what a value becomes under its declared kind.

These rules are the truth; every faster road is held to them value by value. In this order: the branch whose JSON type
is the value's and that holds it exactly; then, losslessly and counted as coerced, integer ← text that is exactly a JSON
integer or a number without fraction, number ← text that is exactly a JSON number, string ← any other value as its JSON
text; then, for a number, the nearest double (its exact text goes to the overflow too); then the overflow. Where a name
stands twice in an object, the last value counts, and the earlier ones go to the overflow. Values come out as
`pyarrow.array` takes them for the layout's type. It must not know batches.
"""

from __future__ import annotations

import binascii
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from s3dest_dagster.columns import numbers
from s3dest_dagster.columns.arrow_types import Layout, members
from s3dest_dagster.columns.conversion_log import ConversionLog, Event, Misfit, Outcome
from s3dest_dagster.columns.dates import date_days, time_micros, timestamp_micros
from s3dest_dagster.columns.members import Member, as_list, members_of
from s3dest_dagster.columns.names import OverflowNames
from s3dest_dagster.columns.types import OVERFLOW, OVERFLOW_ALIAS, Array, Kind, Record, Scalar

UNFIT: Final = object()
"""Answer of a rule: the value is not of this kind."""

_as_text: Callable[[bytes], str] = msgspec.json.Decoder(str).decode
_QUOTE, _MINUS = ord('"'), ord("-")
_SURE_DIGITS = 19
"""Fewer digits than this are an int64."""
_OWN_OVERFLOW = (OVERFLOW, OVERFLOW_ALIAS)
PARSERS: Final[dict[Scalar, Callable[[str], int | None]]] = {
    Scalar.DATE: date_days,
    Scalar.TIME: time_micros,
    Scalar.TIMESTAMP: timestamp_micros,
}


def convert_value(kind: Kind, raw: bytes, *, layout: Layout = Layout.NAMED) -> Any:
    """The value of one JSON text under a kind; UNFIT where it belongs into the overflow."""
    return None if raw == b"null" else position_rule(kind, layout, "").convert(raw, ConversionLog())


def convert_record(record: Record, raw: bytes, *, layout: Layout = Layout.NAMED) -> tuple[dict[str, Any], list[Event]]:
    """One JSON object as a dict by the fields' written names, and what happened to its values on the way."""
    log = ConversionLog()
    return RecordRule(record, layout, "").exact(raw, log), log.events


def overflow_text(raw: bytes) -> str:
    """How a JSON text stands in the overflow map: a string as plain text, anything else as the source spells it."""
    return _as_text(raw) if raw[0] == _QUOTE else raw.decode()


def own_overflow(own: Sequence[Member]) -> list[Member]:
    """What a record brings under the overflow's own names: an object's members one by one, anything else under its
    name. Nulls are dropped."""
    parts = [part for name, raw in own for part in (_parts(raw) if raw[:1] == b"{" else [(name, raw)])]
    return [(name, value) for name, value in parts if value != b"null"]


def _parts(raw: bytes) -> list[Member]:
    members, earlier = members_of(raw)
    return [*((name, bytes(value)) for name, value in members.items()), *earlier]


class Rule(ABC):
    """The rule of one kind. `raw` is a JSON text without blanks around it, never null; `path` is the dotted name.

    A step that answers UNFIT leaves the trail as it found it.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @abstractmethod
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        """The value when its JSON type is this kind's and it is exactly held, else UNFIT."""

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        """The value when another, equal spelling is of this kind, else UNFIT."""
        return UNFIT

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        """The nearest value to a number that this kind cannot hold exactly, else UNFIT."""
        return UNFIT

    def convert(self, raw: bytes, log: ConversionLog) -> Any:
        """The first answer of exact, coerced, nearest."""
        value = self.exact(raw, log)
        if value is UNFIT and (value := self.coerced(raw, log)) is UNFIT:
            return self.nearest(raw, log)
        return value

    def _counted(self, value: Any, log: ConversionLog) -> Any:
        """The value, noted as coerced; None means that it is not of this kind."""
        if value is None:
            return UNFIT
        log.events.append((Outcome.COERCED, self.path))
        return value


class _NullRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT


class _StringRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return _as_text(raw) if raw[0] == _QUOTE else UNFIT

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return UNFIT if raw[0] == _QUOTE else self._counted(raw.decode(), log)


class _BooleanRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return raw == b"true" if raw in (b"true", b"false") else UNFIT


class _LongRule(Rule):
    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw.isdigit() and len(raw) < _SURE_DIGITS:
            return int(raw)
        value = numbers.integer(raw.decode())
        return UNFIT if value is None else value

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] == _QUOTE:
            text = _as_text(raw)
            return self._counted(None if text == "-0" else numbers.integer(text), log)
        return self._counted(numbers.whole(raw.decode()), log) if _is_number(raw) else UNFIT


class _FloatingRule(Rule):
    """Double, or the 32-bit float of `nearest_value` and `is_exact`."""

    def __init__(
        self,
        path: str,
        nearest_value: Callable[[str], float | None] = numbers.nearest_double,
        is_exact: Callable[[str, float], bool] = numbers.is_exact_double,
    ) -> None:
        super().__init__(path)
        self._nearest = nearest_value
        self._is_exact = is_exact

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._exact(raw.decode()) if _is_number(raw) else None
        return UNFIT if value is None else value

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] != _QUOTE or not numbers.is_number(text := _as_text(raw)):
            return UNFIT
        return self._counted(self._exact(text), log)

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._nearest(raw.decode()) if _is_number(raw) else None
        if value is None:
            return UNFIT
        log.inexact = True
        return value

    def _exact(self, number: str) -> float | None:
        value = self._nearest(number)
        return value if value is not None and self._is_exact(number, value) else None


class _BytesRule(Rule):
    """Base64, as the protocol says; only its canonical spelling, which gives the same text back."""

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[0] != _QUOTE:
            return UNFIT
        text = _as_text(raw)
        try:
            value = binascii.a2b_base64(text, strict_mode=True)
        except (binascii.Error, ValueError):
            return UNFIT
        return value if binascii.b2a_base64(value, newline=False).decode() == text else UNFIT


class _TemporalRule(Rule):
    def __init__(self, path: str, parse: Callable[[str], int | None]) -> None:
        super().__init__(path)
        self._parse = parse

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._parse(_as_text(raw)) if raw[0] == _QUOTE else None
        return UNFIT if value is None else value


class _ArrayRule(Rule):
    """One unfit item makes the whole array unfit."""

    def __init__(self, path: str, item: Rule) -> None:
        super().__init__(path)
        self._item = item

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[:1] != b"[":
            return UNFIT
        mark, items = log.mark(), []
        for part in map(bytes, as_list(raw)):
            value = None if part == b"null" else self._item.convert(part, log)
            if value is UNFIT:
                log.back(mark)
                return UNFIT
            items.append(value)
        return items


class RecordRule(Rule):
    """A record level: its fields by the source's names, everything else in the overflow map."""

    def __init__(self, record: Record, layout: Layout, path: str) -> None:
        super().__init__(path)
        self._prefix = f"{path}." if path else ""
        self._fields = {
            field.source: (field.name, position_rule(field.kind, layout, self._prefix + field.source))
            for field in record.fields
        }

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[:1] != b"{":
            return UNFIT
        outside, log.inexact = log.inexact, False
        values: dict[str, Any] = {}
        over: dict[str, str] = {}
        own: list[Member] = []
        members, earlier = members_of(raw)
        for source, slice_ in members.items():
            text = bytes(slice_)
            if text == b"null":
                continue
            if source in self._fields:
                self._convert_field(source, text, log, values, over)
            elif source in _OWN_OVERFLOW:
                own.append((source, text))
            else:
                over[source] = overflow_text(text)
                log.events.append((Outcome.UNDECLARED, self._prefix + source))
        if own or earlier:
            self._keep_others(own_overflow(own), earlier, log, over)
        values[OVERFLOW] = sorted(over.items()) or None
        log.inexact = outside
        return values

    def _convert_field(
        self, source: str, raw: bytes, log: ConversionLog, values: dict[str, Any], over: dict[str, str]
    ) -> None:
        name, rule = self._fields[source]
        value = rule.convert(raw, log)
        if value is not UNFIT:
            values[name] = value
        if value is UNFIT or log.inexact:
            over[source] = overflow_text(raw)
            log.events.append((Outcome.OVERFLOWED, rule.path))
            log.misfits.append(Misfit(rule.path, over[source]))
            log.inexact = False

    def _keep_others(
        self, own: Sequence[Member], earlier: Sequence[Member], log: ConversionLog, over: dict[str, str]
    ) -> None:
        """What the record brings for the overflow map itself, and values of names that stand again behind them."""
        names = OverflowNames(over)
        for name, raw in own:
            own_name = names.take(name)
            over[own_name] = overflow_text(raw)
            log.events.append((Outcome.UNDECLARED, self._prefix + own_name))
        for name, raw in earlier:
            kept = over[names.take(name)] = overflow_text(raw)
            outcome = Outcome.OVERFLOWED if name in self._fields else Outcome.UNDECLARED
            log.events.append((outcome, self._prefix + name))
            if outcome is Outcome.OVERFLOWED:
                log.misfits.append(Misfit(self._prefix + name, kept, is_repeated=True))


class _UnionRule(Rule):
    """Several kinds, in their order: exactly, then coerced, then nearest. `rest` names the member that takes texts of
    no declared branch."""

    def __init__(self, path: str, declared: Sequence[tuple[str, Rule]], rest: str | None) -> None:
        super().__init__(path)
        self._exact = [(name, rule.exact) for name, rule in declared]
        self._coerced = [(name, rule.coerced) for name, rule in declared]
        self._nearest = [(name, rule.nearest) for name, rule in declared]
        self._rest = rest

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        return self._first(raw, log, self._exact)

    def coerced(self, raw: bytes, log: ConversionLog) -> Any:
        return self._first(raw, log, self._coerced)

    def nearest(self, raw: bytes, log: ConversionLog) -> Any:
        value = self._first(raw, log, self._nearest)
        if value is UNFIT and self._rest is not None and raw[0] == _QUOTE:
            return {self._rest: _as_text(raw)}
        return value

    @staticmethod
    def _first(
        raw: bytes, log: ConversionLog, steps: Sequence[tuple[str, Callable[[bytes, ConversionLog], Any]]]
    ) -> Any:
        for name, step in steps:
            if (value := step(raw, log)) is not UNFIT:
                return {name: value}
        return UNFIT


def position_rule(kind: Kind, layout: Layout, path: str, *, fallback: bool = True) -> Rule:
    """The rule of a field or item; `path` is its dotted original name, under which its events are noted."""
    parts = members(kind, layout, fallback=fallback)
    if not parts:
        return _plain_rule(kind, layout, path)
    count = len(members(kind, layout, fallback=False)) or 1
    declared = [(name, _plain_rule(part, layout, path)) for name, part in parts[:count]]
    return _UnionRule(path, declared, parts[count][0] if len(parts) > count else None)


def _plain_rule(kind: Kind, layout: Layout, path: str) -> Rule:
    if isinstance(kind, Array):
        return _ArrayRule(path, position_rule(kind.item, layout, path, fallback=kind.fallback))
    if isinstance(kind, Record):
        return RecordRule(kind, layout, path)
    if kind in PARSERS:
        return _TemporalRule(path, PARSERS[kind])
    if kind is Scalar.FLOAT:
        return _FloatingRule(path, numbers.nearest_float, numbers.is_exact_float)
    return _SIMPLE[kind](path)  # type: ignore[index]


_SIMPLE: dict[Scalar, Callable[[str], Rule]] = {
    Scalar.NULL: _NullRule,
    Scalar.STRING: _StringRule,
    Scalar.BOOLEAN: _BooleanRule,
    Scalar.LONG: _LongRule,
    Scalar.DOUBLE: _FloatingRule,
    Scalar.BYTES: _BytesRule,
}


def _is_number(raw: bytes) -> bool:
    return raw[0] == _MINUS or 48 <= raw[0] <= 57
