"""Records: declared fields become columns, and everything else goes to the level's overflow map."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain, compress
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.types as pt

from s3dest_dagster.columns.arrow_json_texts import texts_of_column
from s3dest_dagster.columns.arrow_types import refuse_repeated_names, unpacked, values_at
from s3dest_dagster.columns.binary_columns import NOTHING, Member, Rows, json_texts, members_of
from s3dest_dagster.columns.conversion_log import ConversionLog
from s3dest_dagster.columns.kinds import UNFIT, Column, ColumnDecoder, Kind, Layout, Rule, Widening
from s3dest_dagster.columns.kinds.array import StructureDecoder
from s3dest_dagster.columns.kinds.union import Position
from s3dest_dagster.columns.names import OVERFLOW, OVERFLOW_NAMES
from s3dest_dagster.columns.overflow import (
    AVRO_OVERFLOW,
    OVERFLOW_LEVELS,
    OVERFLOW_TYPE,
    OverflowColumn,
    OverflowMap,
    overflow_texts,
)
from s3dest_dagster.settings.formats import EnvelopeName

Object = Mapping[str, Any]
"""The members of one JSON object as texts."""
_NO_MEMBERS: Final[Object] = {}
_NONE_REPEATED: Final[Mapping[int, Sequence[Member]]] = {}


@dataclass(frozen=True)
class Field:
    """A field of a record."""

    name: str
    """The name in Avro and Parquet."""
    source: str
    """The source's spelling."""
    kind: Kind
    doc: str | None = None
    """The Avro field's doc, which has the original name if it was changed."""
    id: int = 0
    """The column's id in its stream, which is Parquet's field id. 0 if the stream does not remember its columns."""
    is_titled: bool = False
    """Whether text formats have the column's name in place of the source's."""

    def position(self) -> Position:
        """The position of its values."""
        return Position(self.kind)

    def with_kind(self, kind: Kind) -> Field:
        """The same field with another kind, or the field itself if it has this one."""
        return self if kind is self.kind else replace(self, kind=kind)


@dataclass(frozen=True)
class Record(Kind):
    """A record level. It always ends with the overflow map, which is not listed among the fields."""

    name: str
    """The Avro record's name."""
    namespace: str | None
    """The Avro record's namespace."""
    fields: tuple[Field, ...]
    doc: str | None = None
    """The Avro record's doc, which has the original name if it was changed."""
    drops_undeclared: bool = False
    """Whether undeclared fields are counted and dropped, instead of kept in the overflow."""
    envelope: EnvelopeName = "airbyte_0"
    """The columns before the fields, at the root level."""
    _hash: int | None = dataclasses.field(default=None, init=False, repr=False, compare=False)
    _arrow_types: dict[Layout, pa.DataType] = dataclasses.field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    word = "object"
    avro_name = ""
    python_type = dict
    has_structure = True

    def __hash__(self) -> int:
        """The hash, which is computed only once, since otherwise every enclosing level would compute it again."""
        if self._hash is None:
            own = (self.name, self.namespace, self.fields, self.doc, self.drops_undeclared, self.envelope)
            object.__setattr__(self, "_hash", hash(own))
        return self._hash  # type: ignore[return-value]  # it is set by now

    def with_fields(self, fields: Iterable[Field]) -> Record:
        """The same record with other fields, or the record itself if they are its own.

        Keeping unchanged records makes later comparisons cheap: equal parts of large schemas are then identical.
        """
        fields = tuple(fields)
        is_same = len(fields) == len(self.fields) and all(map(operator.is_, fields, self.fields))
        return self if is_same else replace(self, fields=fields)

    def with_kinds(self, kinds: Iterable[Kind]) -> Record:
        """The same record with other kinds for its fields."""
        return self.with_fields(field.with_kind(kind) for field, kind in zip(self.fields, kinds, strict=True))

    def dropping_undeclared(self) -> Record:
        """The same record, in which undeclared fields of every level are counted and dropped."""
        kinds = (field.kind.map_records(Record.dropping_undeclared) for field in self.fields)
        return replace(self.with_kinds(kinds), drops_undeclared=True)

    def arrow_type(self, layout: Layout) -> pa.DataType:
        """The Arrow type, which is made only once, since otherwise every enclosing level would make it again."""
        type_ = self._arrow_types.get(layout)
        if type_ is None:
            fields = [pa.field(field.name, field.position().arrow_type(layout)) for field in self.fields]
            type_ = self._arrow_types[layout] = pa.struct([*fields, pa.field(OVERFLOW, OVERFLOW_TYPE)])
        return type_

    def avro_type(self, enclosing: str | None, envelope: Sequence[Mapping[str, Any]] = ()) -> Any:
        """The Avro type, with the fields of the `envelope` first.

        It has a namespace only if that differs from the enclosing one, which Avro inherits. "" means no namespace.
        """
        avro: dict[str, Any] = {"type": "record", "name": self.name}
        if self.namespace != enclosing:
            avro["namespace"] = self.namespace or ""
        if self.doc:
            avro["doc"] = self.doc
        avro["fields"] = [*envelope, *(self._avro_field(field) for field in self.fields), AVRO_OVERFLOW]
        return avro

    def _avro_field(self, field: Field) -> dict[str, Any]:
        doc = {"doc": field.doc} if field.doc else {}
        return {"name": field.name, **doc, "type": field.position().avro_type(self.namespace), "default": None}

    def rule(self, layout: Layout, path: str) -> RecordRule:
        return RecordRule(self, layout, path)

    def decoder(self, layout: Layout, path: str) -> RecordDecoder:
        return RecordDecoder(self, layout, path)

    def words(self) -> str:
        return f"object ({', '.join(field.name for field in self.fields)})" if self.fields else self.word

    def paths(self, path: str) -> Iterator[tuple[str, str]]:
        yield path, self.word
        yield from self.field_paths(f"{path}.")

    def field_paths(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Yields the dotted path and words of every field of every level."""
        for field in self.fields:
            yield from field.kind.paths(prefix + field.name)

    def map_records(self, change: Callable[[Any], Kind]) -> Kind:
        return change(self)

    def levels(self) -> int:
        return 1 + max([OVERFLOW_LEVELS, *(field.position().levels() for field in self.fields)])

    def within_levels(self, levels: int) -> Record | None:
        if levels <= OVERFLOW_LEVELS:
            return None
        return self.with_kinds(field.position().within_levels(levels - 1) for field in self.fields)

    def is_read_as(self, value: Any) -> bool:
        return isinstance(value, dict) and OVERFLOW in value

    def widened_by(self, other: Kind, widening: Widening) -> Kind | None:
        if not isinstance(other, Record):
            return None
        merged: Record = widening.merge(self, other, widening.path)
        return merged


_ANY_RECORD = Record("", None, ())


def outline(kind: Kind) -> Kind:
    """The kind without the fields of its records."""
    return kind.map_records(lambda record: _ANY_RECORD)


class RecordRule(Rule):
    """Converts one JSON object to a dict with the fields' written names as keys."""

    def __init__(self, record: Record, layout: Layout, path: str) -> None:
        super().__init__(path)
        self._prefix = f"{path}." if path else ""
        self._drops_undeclared = record.drops_undeclared
        self._record = record
        self._layout = layout

    @cached_property
    def _fields(self) -> dict[str, tuple[str, Rule]]:
        """The written name and the rule of every field, by the source's name. Made when the first object needs them."""
        return {
            field.source: (field.name, field.position().rule(self._layout, self._prefix + field.source))
            for field in self._record.fields
        }

    def exact(self, raw: bytes, log: ConversionLog) -> Any:
        if raw[:1] != b"{":
            return UNFIT
        outer_is_inexact, log.is_inexact = log.is_inexact, False
        values: dict[str, Any] = {}
        overflow = OverflowMap(self._prefix, log, drops_undeclared=self._drops_undeclared)
        own: list[Member] = []
        members, repeated = members_of(raw)
        for source, slice_ in members.items():
            text = bytes(slice_)
            if text == b"null":
                continue
            if source in self._fields:
                name, rule = self._fields[source]
                value = overflow.convert_field(source, rule, text)
                if value is not UNFIT:
                    values[name] = value
            elif source in OVERFLOW_NAMES:
                own.append((source, text))
            else:
                overflow.add_undeclared(source, text)
        if own or repeated:
            overflow.add_extras(own, repeated, self._fields.keys())
        values[OVERFLOW] = overflow.entries()
        log.is_inexact = outer_is_inexact
        return values


class FieldDecoder:
    """A declared field with the decoder of its column.

    The decoder is made when it is first needed: records may have few of the fields that their schema declares.
    """

    def __init__(self, field: Field, type_: pa.DataType, layout: Layout, path: str) -> None:
        self.source = field.source
        """The source's spelling of the field's name."""
        self.kind = field.kind
        self.type = type_
        """The Arrow type of the column."""
        self._position = field.position()
        self._layout = layout
        self._path = path
        self._nulls = pa.nulls(0, type_)

    @cached_property
    def decoder(self) -> ColumnDecoder:
        """The decoder of the column."""
        return self._position.decoder(self._layout, self._path)

    def nulls(self, length: int) -> pa.Array:
        """The column of a field that no object has. The longest one so far is kept, and shorter ones are slices."""
        nulls = self._nulls
        if len(nulls) < length:
            self._nulls = nulls = pa.nulls(length, self.type)
        return nulls.slice(0, length)


class RecordDecoder(StructureDecoder):
    """Decodes a record level without any assumption about its names and types.

    All objects are split once, and then converted field by field. This is the way for records that are too dirty for
    the typed tiers, and for levels whose names cannot be foreseen.
    """

    opening = b"{"

    def __init__(self, record: Record, layout: Layout, path: str) -> None:
        super().__init__(record.rule(layout, path), record.arrow_type(layout))
        self.record = record
        self.prefix = f"{path}." if path else ""
        self.fields = [
            FieldDecoder(field, self.type.field(number).type, layout, self.prefix + field.source)
            for number, field in enumerate(record.fields)
        ]
        self._declared = frozenset(field.source for field in record.fields)
        self._known = self._declared | OVERFLOW_NAMES

    def decode(self, raws: Sequence[Any]) -> Column:
        parsed, unfit = self._split(raws, members_of)
        objects = [None if each is None else each[0] for each in parsed]
        repeated = {row: each[1] for row, each in enumerate(parsed) if each is not None and each[1]}
        column = self._of_objects(objects, repeated)
        column.unfit = unfit
        return column

    def _of_objects(self, objects: Sequence[Object | None], repeated: Mapping[int, Sequence[Member]]) -> Column:
        """The column of objects, null for None. `repeated` has the earlier values of repeated names, by row."""
        absent = [members is None for members in objects]
        present = [_NO_MEMBERS if members is None else members for members in objects]
        overflow = self.new_overflow(len(objects))
        columns = []
        names = frozenset().union(*present)
        for field in self.fields:
            if field.source not in names:
                columns.append(field.nulls(len(objects)))
                continue
            raws = [members.get(field.source, NOTHING) for members in present]
            column = field.decoder.decode(raws)
            columns.append(overflow.route_misfits(field.source, column, partial(overflow_texts, raws)))
        self._add_undeclared(present, overflow, repeated)
        return self.column(columns, overflow, pa.array(absent) if any(absent) else None)

    def new_overflow(self, length: int) -> OverflowColumn:
        """The empty overflow maps of this many rows."""
        return OverflowColumn(length, self.prefix, drops_undeclared=self.record.drops_undeclared)

    def column(self, columns: Sequence[pa.Array], overflow: OverflowColumn, absent: pa.Array | None) -> Column:
        """The level's column, made of its fields' columns. It is null in rows for which `absent` is true."""
        data = pa.StructArray.from_arrays([*columns, overflow.column()], fields=list(self.type), mask=absent)
        return Column(data, counts=overflow.counts)

    def decode_arrow(self, data: pa.Array) -> Column:
        """The level's column from a struct with the source's names. Raises RecordError if two members share a name."""
        data = unpacked(data)
        if not pt.is_struct(data.type):
            return super().decode_arrow(data)
        children = _children_by_name(data)
        overflow = self.new_overflow(len(data))
        columns = []
        for field in self.fields:
            child = children.pop(field.source, None)
            if child is None:
                columns.append(field.nulls(len(data)))
                continue
            column = field.decoder.decode_arrow(child)
            columns.append(overflow.route_misfits(field.source, column, partial(_arrow_overflow_texts, child)))
        if children:
            texts = {name: texts_of_column(child) for name, child in children.items()}
            objects = [{name: raws[row] for name, raws in texts.items() if raws[row]} for row in range(len(data))]
            self._add_undeclared(objects, overflow, _NONE_REPEATED)
        return self.column(columns, overflow, data.is_null() if data.null_count else None)

    def _add_undeclared(
        self, objects: Sequence[Object], overflow: OverflowColumn, repeated: Mapping[int, Sequence[Member]]
    ) -> None:
        """Adds the undeclared members and the earlier values of `repeated` names to the overflow."""
        names = [*chain.from_iterable(objects)]
        is_other = [name not in self._known for name in names]
        rows = np.repeat(np.arange(len(objects)), np.fromiter(map(len, objects), np.int64, len(objects)))
        raws = chain.from_iterable(members.values() for members in objects)
        overflow.add_undeclared(
            rows[np.array(is_other, np.bool_)], [*compress(names, is_other)], [*compress(raws, is_other)]
        )
        own = {} if OVERFLOW_NAMES.isdisjoint(names) else _own_members(objects)
        if own or repeated:
            overflow.add_extras(own, repeated, self._declared)


def _own_members(objects: Sequence[Object]) -> dict[int, list[Member]]:
    """The members with a name of the overflow map, by the row of their object."""
    own = {
        row: [(name, bytes(raw)) for name, raw in members.items() if name in OVERFLOW_NAMES]
        for row, members in enumerate(objects)
    }
    return {row: members for row, members in own.items() if members}


def _arrow_overflow_texts(data: pa.Array, rows: Rows) -> pa.Array:
    return json_texts(texts_of_column(values_at(data, rows))).strings


def _children_by_name(data: pa.StructArray) -> dict[str, pa.Array]:
    refuse_repeated_names(data.type)
    return dict(zip((field.name for field in data.type), data.flatten(), strict=True))
