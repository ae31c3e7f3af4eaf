"""Reads record levels by type: pyarrow's JSON reader reads clean fields, and a plan names the fields to read as text.

One decode per record into a generated Struct proves that the record holds only what the plan expects, and returns the
exact texts of the fields to read as text. So the values that pyarrow reads from the same bytes need no second look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from operator import attrgetter
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pj
from msgspec import Raw

from s3dest_dagster.columns.binary_columns import NOTHING
from s3dest_dagster.columns.json_losses import DuplicateNameCheck
from s3dest_dagster.columns.kinds import Column, Kind, ReaderTypes
from s3dest_dagster.columns.kinds.array import ListDecoder
from s3dest_dagster.columns.kinds.record import FieldDecoder, RecordDecoder
from s3dest_dagster.columns.level_plans import LevelPlan
from s3dest_dagster.columns.overflow import OverflowColumn, overflow_texts

Row = tuple[Any, ...]
"""The parts of one object that are not read by type: the texts of some fields, and inner objects with such fields."""


class TypedLevel:
    """Reads one record level under one plan."""

    def __init__(self, decoder: RecordDecoder, plan: LevelPlan) -> None:
        self._decoder = decoder
        self._present = [field for field in decoder.fields if field.source not in plan.absent]
        self._expected = plan.expected
        self._texts = plan.texts
        self._inner = {
            field.source: TypedLevel(_record_decoder(field), plan.inner[field.source])
            for field in self._present
            if field.source in plan.inner and field.source not in plan.texts
        }
        self._row_index = self._indexes_in_row()
        self._attributes = self._attribute_names()
        self.pick = self._row_getter()
        """Returns the `Row` of a decoded object. It is None if everything is read by type."""
        self.fields = [
            pa.field(field.source, self._read_type(field)) for field in self._present if field.source not in plan.texts
        ]
        """The fields that pyarrow reads."""
        self._empty_row = tuple(NOTHING if self._is_text(name) else None for name in self._row_index)

    @cached_property
    def struct(self) -> type[msgspec.Struct]:
        """The Struct class that objects of this level are decoded into."""
        python_types = {field.source: self._python_type(field) for field in self._present}
        fields: list[Any] = [
            (attribute, *((Raw, NOTHING) if self._is_text(name) else (python_types[name], None)))
            for name, attribute in self._attributes.items()
        ]
        names = {attribute: name for name, attribute in self._attributes.items()}
        return msgspec.defstruct("Object", fields, rename=names, gc=False, forbid_unknown_fields=True)

    @cached_property
    def decode(self) -> Callable[[Any], Any]:
        """Decodes an object to the Struct. Raises ValidationError if the plan does not expect something."""
        return msgspec.json.Decoder(self.struct).decode

    def _indexes_in_row(self) -> dict[str, int]:
        """The index of every name in a row: expected names first, then declared fields in the schema's order."""
        declared = [
            field.source
            for field in self._present
            if field.source in self._texts or (field.source in self._inner and self._inner[field.source].pick)
        ]
        return {name: index for index, name in enumerate([*self._expected, *declared])}

    def _is_text(self, name: str) -> bool:
        return name in self._texts or name in self._expected

    def _attribute_names(self) -> dict[str, str]:
        """The Struct's attribute for every name. They are numbered: the source's names may be invalid in Python."""
        names = [*(field.source for field in self._present), *self._expected]
        return {name: f"f{number}" for number, name in enumerate(names)}

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
        present = {field.source: self._field(field, read, rows, overflow, duplicates) for field in self._present}
        columns = [
            present[field.source] if field.source in present else field.nulls(length) for field in self._decoder.fields
        ]
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
