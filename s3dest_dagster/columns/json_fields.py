"""Applies field rules to the JSON texts of records. A value that no rule concerns stays as the source wrote it.

Must not know: Arrow, where records come from, what a hash key is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import msgspec

from s3dest_dagster.batch import FieldPath, JsonBatch
from s3dest_dagster.columns.binary_columns import all_members, as_list
from s3dest_dagster.columns.field_rules import KEEP, Action, Leaf, Level, Node
from s3dest_dagster.columns.hidden_values import MASK_JSON
from s3dest_dagster.errors import RecordError

Counts = dict[Action, Counter[str]]
"""The number of values by what happened to them and by the path of their rule."""
_NULL = b"null"
_MAX_NAMES = 10_000


def new_counts() -> Counts:
    """Counts of nothing."""
    return {action: Counter() for action in Action}


class JsonFieldRules:
    """Applies the rules of a tree to records.

    Args:
        rules: The tree.
        hash_value: Returns the JSON text that lands in place of a JSON text to be hashed.
    """

    def __init__(self, rules: Level, hash_value: Callable[[bytes], bytes]) -> None:
        self._rules = rules
        self._hash_value = hash_value
        self._names: dict[str, bytes] = {}
        self._marks = _marks(rules)

    def apply(self, batch: JsonBatch, counts: Counts) -> JsonBatch:
        """The batch as it lands. Raises RecordError if a text is not a JSON object; the error does not show it."""
        raws = [self._record(raw, counts) for raw in batch.raws]
        types = frozenset(each for each in batch.types if _keeps(self._rules, each[0]))
        return replace(batch, raws=raws, nbytes=sum(map(len, raws)), types=types)

    def _record(self, raw: bytes, counts: Counts) -> bytes:
        text = bytes(raw)
        if self._marks and b"\\" not in text and not any(mark in text for mark in self._marks):
            return text
        try:
            return self._object(text, self._rules, counts)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            if isinstance(error, RecordError):
                raise
            raise RecordError(
                "A record is no JSON object, or is nested too deeply, so the rules for its fields cannot be applied. "
                "Its text is not shown, since it may hold what must not land. Correct the source."
            ) from None

    def _object(self, text: bytes, level: Level, counts: Counts) -> bytes:
        parts = []
        for name, value in all_members(text):
            node = level.member(name)
            if node is not KEEP:
                landed = self._value(bytes(value), node, counts)
                if landed is None:
                    continue
                value = landed
            parts.append(self._name(name) + bytes(value))
        return b"{%b}" % b",".join(parts)

    def _value(self, text: bytes, node: Leaf | Level, counts: Counts) -> bytes | None:
        """The text that lands in place of a value; None if nothing does."""
        if text == _NULL:
            return None if isinstance(node, Leaf) and node.action is Action.EXCLUDE else text
        if isinstance(node, Level):
            return self._inner(text, node, counts)
        counts[node.action][node.path] += 1
        if node.action is Action.EXCLUDE:
            return None
        return MASK_JSON if node.action is Action.MASK else self._hash_value(text)

    def _inner(self, text: bytes, level: Level, counts: Counts) -> bytes | None:
        """The text of a value with rules within it; None if it is of another kind than the rules expect."""
        if text[:1] == b"{" and (level.names or not level.steps_into_items):
            return self._object(text, level, counts)
        if text[:1] == b"[" and level.steps_into_items:
            return self._list(text, level.items, counts)
        counts[Action.EXCLUDE][level.path] += 1
        return None

    def _list(self, text: bytes, node: Node, counts: Counts) -> bytes:
        if node is KEEP:
            return text
        items = (self._value(bytes(item), node, counts) for item in as_list(text))
        return b"[%b]" % b",".join(item for item in items if item is not None)

    def _name(self, name: str) -> bytes:
        """The text of a member before its value."""
        known = self._names.get(name)
        if known is None:
            known = json.dumps(name, ensure_ascii=False).encode("utf-8", "surrogatepass") + b":"
            if len(self._names) < _MAX_NAMES:
                self._names[name] = known
        return known


def _keeps(rules: Level, path: FieldPath) -> bool:
    """Whether a field lands as it is."""
    node: Node = rules
    for step in path:
        if not isinstance(node, Level):
            break
        node = node.items if step is None else node.member(step)
    return node is KEEP


def _marks(rules: Level) -> list[bytes]:
    """Texts of which a record without escapes has at least one if a rule concerns it. Empty if there are none."""
    if not rules.keeps_others:
        return []
    return [b'"%b"' % name.encode("utf-8", "surrogatepass") for name in rules.names]
