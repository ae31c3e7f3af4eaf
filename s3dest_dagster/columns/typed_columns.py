"""Reads record levels by type: pyarrow's JSON reader reads clean fields, and a plan names the fields to read as text.

One decode per record into a generated Struct proves that the record holds only what the plan expects, and returns the
exact texts of the fields to read as text. So the values that pyarrow reads from the same bytes need no second look.
`LevelPlan` learns from earlier records which undeclared names a level has and which fields to read as text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj
from msgspec import Raw

from s3dest_dagster.columns.binary_columns import NOTHING, as_list, as_object
from s3dest_dagster.columns.json_losses import DuplicateNameCheck
from s3dest_dagster.columns.kinds import Column, Kind, ReaderTypes
from s3dest_dagster.columns.kinds.array import ListDecoder
from s3dest_dagster.columns.kinds.record import FieldDecoder, Record, RecordDecoder
from s3dest_dagster.columns.names import OVERFLOW_NAMES
from s3dest_dagster.columns.overflow import OverflowColumn, overflow_texts

COMMON_SHARE = 0.03
"""A name or misfit that at least this share of the records has is expected. Rarer ones cost less one by one."""
OPEN_SHARE = 0.2
"""If a larger share of the records has unexpected names, the names of a level count as data."""
MAX_EXPECTED_NAMES = 64
"""The most undeclared names that a plan expects for a level."""

_NO_STRUCT_NAME = re.compile(r'["\\\x00-\x1f]')
"""Matches names that msgspec refuses: those that JSON writes with an escape."""


def is_struct_name(name: str) -> bool:
    """Whether a generated Struct can have a field of this name."""
    return not _NO_STRUCT_NAME.search(name)


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """The plan for reading one record level. All names are the source's."""

    expected: tuple[str, ...] = ()
    """Undeclared names to expect, sorted."""
    texts: frozenset[str] = frozenset()
    """Declared fields to read as text."""
    inner: Mapping[str, LevelPlan] = field(default_factory=dict)
    """The plans of the levels below, by field."""
    open: bool = False
    """Whether the names of this level cannot be foreseen."""

    @classmethod
    def first(cls, record: Record) -> LevelPlan:
        """The plan for a level before any record is known: only fields that cannot be read by type are read as text."""
        inner = {f.source: cls.first(r) for f in record.fields if (r := _inner_record(f.kind)) and _is_typed(f.kind)}
        texts = frozenset(f.source for f in record.fields if not _is_typed(f.kind))
        return cls(texts=texts, inner=inner, open=not _has_struct_names(record))

    def is_all_typed(self) -> bool:
        """Whether every field of every level is read by type."""
        return not self.open and not self.texts and all(plan.is_all_typed() for plan in self.inner.values())

    def may_round(self, record: Record) -> bool:
        """Whether a field is read by a type that rounds numbers."""
        if any(_is_rounded(f.kind) and f.source not in self.texts and not self.open for f in record.fields):
            return True
        inner = ((name, plan) for name, plan in self.inner.items() if name not in self.texts)
        return any(plan.may_round(_level(record, name)) for name, plan in inner)

    def with_numbers_as_texts(self, record: Record) -> LevelPlan:
        """The plan that reads as text every field whose type rounds numbers."""
        rounded = {f.source for f in record.fields if _is_rounded(f.kind)}
        inner = {name: plan.with_numbers_as_texts(_level(record, name)) for name, plan in self.inner.items()}
        return LevelPlan(self.expected, self.texts | rounded, inner, self.open)

    def learn(self, record: Record, raws: Sequence[bytes], share: float = COMMON_SHARE) -> LevelPlan:
        """The plan that also expects what at least this share of the objects has. If nothing is new, it is equal."""
        sample = _Sample(record, self)
        for raw in raws:
            sample.add(raw)
        return sample.plan(share * len(raws))


class _Sample:
    """The unexpected names and values in a sample of one level's objects."""

    def __init__(self, record: Record, plan: LevelPlan) -> None:
        self._record = record
        self._plan = plan
        self._kinds = {f.source: f.kind for f in record.fields}
        self._undeclared: list[list[str]] = []
        self._misfits: Counter[str] = Counter()
        self._inner: dict[str, list[bytes]] = {name: [] for name in plan.inner}

    def add(self, raw: bytes) -> None:
        undeclared = []
        for name, slice_ in as_object(raw).items():
            if name not in self._kinds:
                undeclared.append(name)
            elif name not in self._plan.texts and (value := bytes(slice_)) != b"null":
                self._add_value(name, value)
        self._undeclared.append(undeclared)

    def _add_value(self, name: str, value: bytes) -> None:
        kind = self._kinds[name]
        element = kind.element()
        items = [value] if element is kind else _items(value)
        if not all(_is_typical(element, item) for item in items):
            self._misfits[name] += 1
        elif name in self._inner:
            self._inner[name] += items

    def plan(self, floor: float) -> LevelPlan:
        """The plan that also expects what at least this many objects have."""
        inner = {
            name: self._plan.inner[name].learn(_level(self._record, name), raws) if raws else self._plan.inner[name]
            for name, raws in self._inner.items()
        }
        texts = {name for name, count in self._misfits.items() if count >= floor}
        texts |= {name for name, below in inner.items() if below.open}
        expected = self._expected(floor)
        surprised = sum(any(name not in expected for name in names) for names in self._undeclared)
        return LevelPlan(
            tuple(sorted(expected)),
            self._plan.texts | texts,
            {name: below for name, below in inner.items() if name not in texts},
            self._plan.open or surprised > OPEN_SHARE * len(self._undeclared),
        )

    def _expected(self, floor: float) -> set[str]:
        counts = Counter(name for names in self._undeclared for name in names)
        expected = set(self._plan.expected)
        for name, count in counts.most_common():
            fits = is_struct_name(name) and name not in OVERFLOW_NAMES
            if count >= floor and fits and len(expected) < MAX_EXPECTED_NAMES:
                expected.add(name)
        return expected


def _items(value: bytes) -> list[bytes]:
    """The items of a list that are not null; for any other value, a text that is typical of no kind."""
    return [item for item in map(bytes, as_list(value)) if item != b"null"] if value[:1] == b"[" else [b""]


def _inner_record(kind: Kind) -> Record | None:
    """The record of a field that holds a record or a list of records; None for any other field."""
    element = kind.element()
    return element if isinstance(element, Record) else None


def _is_typed(kind: Kind) -> bool:
    """Whether the typed tiers can read a field of this kind."""
    element = kind.element()
    if isinstance(element, Record):
        return _has_struct_names(element)
    return element.reader is not None and (element is kind or element.reader.is_listable)


def _is_rounded(kind: Kind) -> bool:
    reader = kind.element().reader
    return reader is not None and reader.may_round


def _has_struct_names(record: Record) -> bool:
    return all(is_struct_name(f.source) for f in record.fields)


def _is_typical(kind: Kind, value: bytes) -> bool:
    if isinstance(kind, Record):
        return value[:1] == b"{"
    assert kind.reader is not None  # otherwise the field is read as text
    return kind.reader.typical.match(value) is not None


def _level(record: Record, name: str) -> Record:
    """The record of the field that the source calls `name`."""
    level: Any = next(_inner_record(f.kind) for f in record.fields if f.source == name)
    assert isinstance(level, Record)
    return level


Row = tuple[Any, ...]
"""The parts of one object that are not read by type: the texts of some fields, and inner objects with such fields."""


class TypedLevel:
    """Reads one record level under one plan."""

    def __init__(self, decoder: RecordDecoder, plan: LevelPlan) -> None:
        self._decoder = decoder
        self._expected = plan.expected
        self._texts = plan.texts
        self._inner = {
            field.source: TypedLevel(_record_decoder(field), plan.inner[field.source])
            for field in decoder.fields
            if field.source in plan.inner and field.source not in plan.texts
        }
        self._row_index = self._indexes_in_row()
        self._attributes = self._attribute_names()
        self.struct = self._struct()
        self.decode: Callable[[Any], Any] = msgspec.json.Decoder(self.struct).decode
        """Decodes an object to the generated Struct. Raises ValidationError if the plan does not expect something."""
        self.pick = self._row_getter()
        """Returns the `Row` of a decoded object. It is None if everything is read by type."""
        self.fields = [
            pa.field(field.source, self._read_type(field)) for field in decoder.fields if field.source not in plan.texts
        ]
        """The fields that pyarrow reads."""
        self._empty_row = tuple(NOTHING if self._is_text(name) else None for name in self._row_index)

    def _indexes_in_row(self) -> dict[str, int]:
        """The index of every name in a row: expected names first, then declared fields in the schema's order."""
        declared = [
            field.source
            for field in self._decoder.fields
            if field.source in self._texts or (field.source in self._inner and self._inner[field.source].pick)
        ]
        return {name: index for index, name in enumerate([*self._expected, *declared])}

    def _is_text(self, name: str) -> bool:
        return name in self._texts or name in self._expected

    def _attribute_names(self) -> dict[str, str]:
        """The Struct's attribute for every name. They are numbered: the source's names may be invalid in Python."""
        names = [*(field.source for field in self._decoder.fields), *self._expected]
        return {name: f"f{number}" for number, name in enumerate(names)}

    def _struct(self) -> type[msgspec.Struct]:
        """The Struct class that objects of this level are decoded into."""
        python_types = {field.source: self._python_type(field) for field in self._decoder.fields}
        fields: list[Any] = [
            (attribute, *((Raw, NOTHING) if self._is_text(name) else (python_types[name], None)))
            for name, attribute in self._attributes.items()
        ]
        names = {attribute: name for name, attribute in self._attributes.items()}
        return msgspec.defstruct("Object", fields, rename=names, gc=False, forbid_unknown_fields=True)

    def _python_type(self, field: FieldDecoder) -> Any:
        if field.source in self._texts:
            return Raw
        element = field.kind.element()
        item = self._inner[field.source].struct if field.source in self._inner else _reader_types(element).python
        nullable = None if item is None else item | None
        return nullable if element is field.kind else list[nullable] | None  # type: ignore[valid-type]

    def _row_getter(self) -> Callable[[Any], Row] | None:
        attributes = [self._attributes[name] for name in self._row_index]
        if not attributes:
            return None
        # For a single attribute, attrgetter does not return a tuple.
        return attrgetter(*attributes, attributes[0]) if len(attributes) == 1 else attrgetter(*attributes)

    def _read_type(self, field: FieldDecoder) -> pa.DataType:
        element, inner = field.kind.element(), self._inner.get(field.source)
        type_ = pa.struct(inner.fields) if inner else _reader_types(element).arrow
        return type_ if element is field.kind else pa.list_(type_)

    def column(
        self, read: pa.StructArray | None, rows: Sequence[Row] | None, length: int, duplicates: DuplicateNameCheck
    ) -> Column:
        """The column of the level.

        Args:
            read: The `fields` as pyarrow read them; None if there are none.
            rows: The parts that are not read by type; None if everything is.
            length: The number of objects.
            duplicates: Counts the values in the column.
        """
        overflow = self._decoder.new_overflow(length)
        columns = [self._field(field, read, rows, overflow, duplicates) for field in self._decoder.fields]
        if self._expected and rows:
            width = len(self._expected)
            raws = [raw for row in rows for raw in row[:width]]
            duplicates.add_texts(raws)
            overflow.add_undeclared_grid(self._expected, raws)
        return self._decoder.column(columns, overflow, read.is_null() if read is not None and read.null_count else None)

    def _field(
        self,
        field: FieldDecoder,
        read: pa.StructArray | None,
        rows: Sequence[Row] | None,
        overflow: OverflowColumn,
        duplicates: DuplicateNameCheck,
    ) -> pa.Array:
        name, index = field.source, self._row_index.get(field.source)
        if name in self._texts:
            assert rows is not None
            assert index is not None
            raws = [row[index] for row in rows]
            duplicates.add_texts(raws)
            return overflow.route_misfits(name, field.decoder.decode(raws), partial(overflow_texts, raws))
        assert read is not None
        data = read.field(name)
        duplicates.add_column(data)
        if name in self._inner:
            objects = None if index is None or rows is None else [row[index] for row in rows]
            column = self._inner_column(field, data, objects, duplicates)
        elif data.type == field.decoder.type:
            return data
        else:
            column = field.decoder.decode_read(data)
        return overflow.route_misfits(name, column, lambda unfit: data.take(pa.array(unfit)))

    def _inner_column(
        self, field: FieldDecoder, data: pa.Array, objects: Sequence[Any] | None, duplicates: DuplicateNameCheck
    ) -> Column:
        """The column of an inner record, or of a list of them."""
        level = self._inner[field.source]
        is_list = isinstance(field.decoder, ListDecoder)
        if is_list and objects is not None:
            objects = [item for items in objects if items for item in items]
        read = data.flatten() if is_list else data
        column = level.column(read, level._rows(objects), len(read), duplicates)
        if is_list:
            mask = data.is_null() if data.null_count else None
            column.data = pa.ListArray.from_arrays(data.offsets, column.data, type=field.decoder.type, mask=mask)
        return column

    def _rows(self, objects: Sequence[Any] | None) -> list[Row] | None:
        """The rows of decoded objects. An object that is None is null."""
        if objects is None or self.pick is None:
            return None
        pick, empty = self.pick, self._empty_row
        return [empty if item is None else pick(item) for item in objects]


def read_objects(block: bytes, fields: Sequence[pa.Field], *, strict: bool) -> pa.StructArray | None:
    """The given fields of JSON texts, one object per line, as pyarrow reads them; None if `fields` is empty.

    Args:
        block: The JSON texts.
        fields: The fields to read.
        strict: Whether any other field is an error. Otherwise it is ignored.

    Raises:
        pyarrow.ArrowInvalid: A value has another type, or `strict` is set and there is another field.
    """
    if not fields:
        return None
    table = pj.read_json(
        pa.BufferReader(block),
        pj.ReadOptions(use_threads=False, block_size=len(block) + 64),
        pj.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="error" if strict else "ignore"),
    )
    return table.to_struct_array().combine_chunks()


def _reader_types(kind: Kind) -> ReaderTypes:
    assert kind.reader is not None  # otherwise the plan reads its fields as texts
    return kind.reader


def _record_decoder(field: FieldDecoder) -> RecordDecoder:
    decoder = field.decoder.item if isinstance(field.decoder, ListDecoder) else field.decoder
    assert isinstance(decoder, RecordDecoder)
    return decoder
