"""Applies field rules to Arrow columns. A column that no rule concerns stays the same array.

Must not know: JSON records, where data comes from, what a hash key is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from s3dest_dagster.batch import ArrowBatch
from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.arrow_types import as_list_column, as_pairs, is_any_list, is_any_string, unpacked
from s3dest_dagster.columns.binary_columns import NOTHING
from s3dest_dagster.columns.field_rules import KEEP, Action, Leaf, Level, Node
from s3dest_dagster.columns.hidden_values import MASK_TEXT
from s3dest_dagster.columns.json_fields import Counts
from s3dest_dagster.errors import RecordError

_Named = list[tuple[pa.Field, pa.Array]]


class ArrowFieldRules:
    """Applies the rules of a tree to Arrow data.

    Args:
        rules: The tree.
        hash_value: Returns the hash of a JSON text.
    """

    def __init__(self, rules: Level, hash_value: Callable[[bytes], str]) -> None:
        self._rules = rules
        self._hash_value = hash_value

    def apply(self, batch: ArrowBatch, counts: Counts) -> ArrowBatch:
        """The batch as it lands. Raises RecordError if rules lead into a column whose type has nothing within it."""
        data = batch.data
        landed = self._members(data.schema, data.columns, self._rules, counts)
        if not landed:
            # Only a struct array can have rows without columns.
            none = pa.RecordBatch.from_struct_array(pa.array([{}] * data.num_rows, pa.struct([])))
            return replace(batch, data=none)
        fields, columns = zip(*landed, strict=True)
        return replace(batch, data=pa.RecordBatch.from_arrays(list(columns), schema=pa.schema(fields)))

    def _members(self, fields: Sequence[pa.Field], columns: Sequence[pa.Array], level: Level, counts: Counts) -> _Named:
        """The fields and columns of an object that land."""
        landed = []
        for field, column in zip(fields, columns, strict=True):
            new = self._column(column, level.member(field.name), counts)
            if new is not None:
                landed.append((field if new is column else pa.field(field.name, new.type), new))
        return landed

    def _column(self, column: pa.Array, node: Node, counts: Counts) -> pa.Array | None:
        """What lands in place of a column; None if nothing does."""
        if node is KEEP:
            return column
        values = unpacked(column)
        if isinstance(node, Level):
            return self._nested(values, node, counts)
        counts[node.action][node.path] += len(values) - values.null_count
        if node.action is Action.EXCLUDE:
            return None
        if node.action is Action.MASK:
            return pc.if_else(values.is_valid(), MASK_TEXT, pa.scalar(None, pa.string()))
        return self._hashes(values)

    def _hashes(self, column: pa.Array) -> pa.Array:
        texts = texts_of_column(column)
        of_text = {text: self._hash_value(text) for text in {bytes(each) for each in texts if each is not NOTHING}}
        return pa.array([None if text is NOTHING else of_text[bytes(text)] for text in texts], pa.string())

    def _nested(self, column: pa.Array, level: Level, counts: Counts) -> pa.Array:
        """A column with rules within its values."""
        if pt.is_null(column.type):
            return column
        if pt.is_struct(column.type) and (level.names or not level.steps_into_items):
            return self._struct(column, level, counts)
        if is_any_list(column.type) and level.steps_into_items:
            lists = as_list_column(column)
            return _as_lists(lists, self._column(lists.flatten(), level.items, counts))
        if pt.is_map(column.type) and is_any_string(column.type.key_type) and not level.steps_into_items:
            return self._map(column, level, counts)
        raise RecordError(
            f"Field {level.path} has the Arrow type {column.type}, and the rules for its fields lead to something else "
            f"within it. Correct the paths, or name {level.path} as a whole.",
            setting="fields",
        )

    def _struct(self, column: pa.StructArray, level: Level, counts: Counts) -> pa.Array:
        landed = self._members(list(column.type), column.flatten(), level, counts)
        if not landed:
            return pa.array([{} if valid else None for valid in column.is_valid().to_pylist()], pa.struct([]))
        fields, columns = zip(*landed, strict=True)
        return pa.StructArray.from_arrays(list(columns), fields=list(fields), mask=column.is_null())

    def _map(self, column: pa.MapArray, level: Level, counts: Counts) -> pa.Array:
        """A column of maps, whose entries have rules by their keys."""
        pairs = as_pairs(column)
        entries = pairs.flatten()
        keys, values = entries.flatten()
        nodes = [level.member(key) for key in keys.to_pylist()]
        for node in {id(node): node for node in nodes if node is not KEEP}.values():
            rows = np.array([each is node for each in nodes])
            if isinstance(node, Level) or (node.action is not Action.EXCLUDE and not is_any_string(values.type)):
                raise RecordError(
                    f"Field {node.path} is an entry of an Arrow map of {values.type}, which holds no hash, no mask and "
                    "no other type. Exclude it, or name the whole map.",
                    setting="fields",
                )
            new = self._column(values.filter(pa.array(rows)), node, counts)
            if new is not None:
                values = pc.replace_with_mask(values, pa.array(rows), new.cast(values.type))
        kept = np.array([not (isinstance(node, Leaf) and node.action is Action.EXCLUDE) for node in nodes], np.bool_)
        offsets = np.concatenate([[0], np.cumsum(kept)])[_ends(pairs)]
        # A null offset makes a null map.
        is_null = np.append(column.is_null().to_numpy(zero_copy_only=False), False)
        landed = pa.array(kept)
        return pa.MapArray.from_arrays(
            pa.array(offsets, pa.int32(), mask=is_null), keys.filter(landed), values.filter(landed), column.type
        )


def _ends(lists: pa.ListArray) -> np.ndarray:
    """The positions in the flattened items at which every list begins, and where the last one ends."""
    lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(lengths)])


def _as_lists(lists: pa.ListArray, items: pa.Array | None) -> pa.ListArray:
    """The lists with other items; None makes the lists empty."""
    if items is None:
        offsets, items = np.zeros(len(lists) + 1, np.int32), pa.nulls(0)
    else:
        offsets = _ends(lists).astype(np.int32)
    mask = lists.is_null() if lists.null_count else None
    return pa.ListArray.from_arrays(pa.array(offsets), items, mask=mask)
