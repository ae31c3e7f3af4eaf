"""Record levels read by type: pyarrow's JSON reader for what is clean, raw texts for what a plan distrusts.

One decode per record into a generated Struct proves that the record holds nothing but what the plan foresees, and hands
out the exact text of what it distrusts; what pyarrow then reads from the same bytes needs no second look. It must not
know how plans are learnt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.json as pj
from msgspec import Raw

from s3dest_dagster.columns.conversion_log import Event, Outcome
from s3dest_dagster.columns.duplicate_names import NameCensus
from s3dest_dagster.columns.json_texts import NOTHING, json_texts, overflow_texts
from s3dest_dagster.columns.level_plan import LevelPlan
from s3dest_dagster.columns.nested_columns import FieldDecoder, ListDecoder, RecordDecoder, place
from s3dest_dagster.columns.overflow import OverflowColumn
from s3dest_dagster.columns.scalar_columns import Column, TemporalDecoder
from s3dest_dagster.columns.types import TEMPORAL, Array, Kind, Record, Scalar

Row = tuple[Any, ...]
"""What a level's plan distrusts in one object: raw texts, and objects of inner levels that distrust something."""

_LONG = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_PYTHON: dict[Scalar, Any] = {
    Scalar.NULL: None,
    Scalar.STRING: str,
    Scalar.BOOLEAN: bool,
    Scalar.LONG: _LONG,
    Scalar.DOUBLE: float,
    **dict.fromkeys(TEMPORAL, str),
}
_ARROW: dict[Scalar, pa.DataType] = {
    Scalar.NULL: pa.null(),
    Scalar.STRING: pa.string(),
    Scalar.BOOLEAN: pa.bool_(),
    Scalar.LONG: pa.int64(),
    Scalar.DOUBLE: pa.float64(),
    **dict.fromkeys(TEMPORAL, pa.string()),
}


class TypedLevel:
    """One record level under one plan. `decode` makes the generated Struct of an object; `fields` is what pyarrow reads
    of them; `pick` gives an object's `Row`, None where the plan distrusts nothing in it."""

    def __init__(self, decoder: RecordDecoder, plan: LevelPlan) -> None:
        self._decoder = decoder
        self._expected = plan.expected
        self._texts = plan.texts
        self._inner = {
            field.source: TypedLevel(_record_decoder(field), plan.inner[field.source])
            for field in decoder.fields
            if field.source in plan.inner and field.source not in plan.texts
        }
        self._slots = self._numbered_slots()
        self.struct = self._struct()
        self.decode: Callable[[Any], Any] = msgspec.json.Decoder(self.struct).decode
        self.pick = self._picker()
        self.blank = tuple(NOTHING if self._is_raw(name) else None for name in self._slots)
        self.fields = [
            pa.field(field.source, self._read_type(field)) for field in decoder.fields if field.source not in plan.texts
        ]

    def _numbered_slots(self) -> dict[str, int]:
        """The places in a row: expected names first, then distrusted fields and inner levels, in schema order."""
        distrusted = [
            field.source
            for field in self._decoder.fields
            if field.source in self._texts or (field.source in self._inner and self._inner[field.source].pick)
        ]
        return {name: place_ for place_, name in enumerate([*self._expected, *distrusted])}

    def _is_raw(self, name: str) -> bool:
        return name in self._texts or name in self._expected

    def _struct(self) -> type[msgspec.Struct]:
        """Attributes are numbered, since the source's names need not be Python's."""
        fields: list[Any] = []
        rename = {}
        for number, name in enumerate([field.source for field in self._decoder.fields] + list(self._expected)):
            rename[f"f{number}"] = name
            fields.append((f"f{number}", *((Raw, NOTHING) if self._is_raw(name) else (self._python(name), None))))
        self._attributes = {name: attribute for attribute, name in rename.items()}
        return msgspec.defstruct("Object", fields, rename=rename, gc=False, forbid_unknown_fields=True)

    def _python(self, name: str) -> Any:
        kind = next(field.kind for field in self._decoder.fields if field.source == name)
        if isinstance(kind, Array):
            return list[self._python_item(name, kind.item) | None] | None  # type: ignore[misc]
        return None if kind is Scalar.NULL else self._python_item(name, kind) | None

    def _python_item(self, name: str, kind: Kind) -> Any:
        return self._inner[name].struct if isinstance(kind, Record) else _PYTHON[kind]  # type: ignore[index]

    def _picker(self) -> Callable[[Any], Row] | None:
        kept = [self._attributes[name] for name in self._slots]
        if not kept:
            return None
        return attrgetter(*kept, kept[0]) if len(kept) == 1 else attrgetter(*kept)

    def _read_type(self, field: FieldDecoder) -> pa.DataType:
        kind, name = field.kind, field.source
        item = kind.item if isinstance(kind, Array) else kind
        type_ = pa.struct(self._inner[name].fields) if isinstance(item, Record) else _ARROW[item]  # type: ignore[index]
        return pa.list_(type_) if isinstance(kind, Array) else type_

    def column(
        self, read: pa.StructArray | None, rows: Sequence[Row] | None, length: int, duplicate_names: NameCensus
    ) -> Column:
        """The level's column of what pyarrow read (None where it reads nothing) and the rows' distrusted parts (None
        where the plan distrusts nothing). The names that it is made of are added to the census."""
        over, counts = OverflowColumn(length), Counter[Event]()
        columns = [self._field(field, read, rows, over, counts, duplicate_names) for field in self._decoder.fields]
        if self._expected and rows:
            self._add_expected(rows, over, counts, duplicate_names)
        mask = read.is_null() if read is not None and read.null_count else None
        fields = list(self._decoder.type)
        return Column(pa.StructArray.from_arrays([*columns, over.column()], fields=fields, mask=mask), counts=counts)

    def _field(
        self,
        field: FieldDecoder,
        read: pa.StructArray | None,
        rows: Sequence[Row] | None,
        over: OverflowColumn,
        counts: Counter[Event],
        duplicate_names: NameCensus,
    ) -> pa.Array:
        name, slot = field.source, self._slots.get(field.source)
        if name in self._texts:
            assert rows is not None
            assert slot is not None
            raws = [row[slot] for row in rows]
            duplicate_names.add_texts(raws)
            return place(field, field.decoder.decode(raws), partial(overflow_texts, raws), over, counts)
        assert read is not None
        data = read.field(name)
        duplicate_names.add_column(data)
        if name in self._inner:
            objects = None if slot is None or rows is None else [row[slot] for row in rows]
            return self._inner_column(field, data, objects, counts, duplicate_names)
        if isinstance(field.decoder, TemporalDecoder):
            return _parsed(field, field.decoder, data, over, counts)
        return data

    def _inner_column(
        self,
        field: FieldDecoder,
        data: pa.Array,
        objects: Sequence[Any] | None,
        counts: Counter[Event],
        duplicate_names: NameCensus,
    ) -> pa.Array:
        """The column of an inner record, or of a list of them."""
        level = self._inner[field.source]
        listed = isinstance(field.decoder, ListDecoder)
        if listed and objects is not None:
            objects = [item for items in objects if items for item in items]
        read = data.flatten() if listed else data
        column = level.column(read, level.rows(objects), len(read), duplicate_names)
        counts.update(column.counts)
        if not listed:
            return column.data
        mask = data.is_null() if data.null_count else None
        return pa.ListArray.from_arrays(data.offsets, column.data, type=field.decoder.type, mask=mask)

    def rows(self, objects: Sequence[Any] | None) -> list[Row] | None:
        """The rows of decoded objects, None among them being null."""
        if objects is None or self.pick is None:
            return None
        pick, blank = self.pick, self.blank
        return [blank if item is None else pick(item) for item in objects]

    def _add_expected(
        self, rows: Sequence[Row], over: OverflowColumn, counts: Counter[Event], duplicate_names: NameCensus
    ) -> None:
        """The texts of the expected names, as one grid: row by row, name by name."""
        width = len(self._expected)
        raws = [raw for row in rows for raw in row[:width]]
        duplicate_names.add_texts(raws)
        texts = json_texts(raws)
        present = np.flatnonzero(texts.strings.is_valid())
        if not present.size:
            return
        strings = texts.strings if len(present) == len(texts.kinds) else texts.strings.take(pa.array(present))
        over.add_named(self._expected, present // width, present % width, strings)
        for name, count in zip(self._expected, np.bincount(present % width, minlength=width).tolist(), strict=True):
            if count:
                counts[(Outcome.UNDECLARED, self._decoder.prefix + name)] += count


def read_objects(block: bytes, fields: Sequence[pa.Field], *, strict: bool) -> pa.StructArray | None:
    """The named fields of one JSON object per line, as pyarrow reads them; None when there are none to read.

    `strict` refuses any other field, else they are passed over. Raises ArrowInvalid at the first text of another type.
    """
    if not fields:
        return None
    table = pj.read_json(
        pa.BufferReader(block),
        pj.ReadOptions(use_threads=False, block_size=len(block) + 64),
        pj.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="error" if strict else "ignore"),
    )
    return table.to_struct_array().combine_chunks()


def _parsed(
    field: FieldDecoder, decoder: TemporalDecoder, strings: pa.Array, over: OverflowColumn, counts: Counter[Event]
) -> pa.Array:
    """The temporal column of texts; those that do not parse overflow where there is no fallback."""
    return place(field, decoder.of_strings(strings), lambda rows: strings.take(pa.array(rows)), over, counts)


def _record_decoder(field: FieldDecoder) -> RecordDecoder:
    decoder = field.decoder.item if isinstance(field.decoder, ListDecoder) else field.decoder
    assert isinstance(decoder, RecordDecoder)
    return decoder
