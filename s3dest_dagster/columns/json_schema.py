"""Converts a stream's JSON schema to the record type of its Avro and Parquet objects.

The rules are those of the connector, version 0.6.2 (`JsonToAvroSchemaConverter`, `JsonSchemaType`). In addition, names
that become the same are distinguished, local references (`#/…`) are followed, and a definition that refers to itself or
nests deeper than 100 levels becomes JSON text. Must not know: Avro's JSON, Arrow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from s3dest_dagster.columns.branches import (
    Branch,
    distinct,
    kind_of,
    merge_records,
    tuple_of,
    with_fallback,
    without_shadowed_timestamps,
)
from s3dest_dagster.columns.column_names import suffixed_name, unique_names
from s3dest_dagster.columns.decimals import KEYWORD, declared_decimal
from s3dest_dagster.columns.kinds import Kind
from s3dest_dagster.columns.kinds.array import Array
from s3dest_dagster.columns.kinds.json_text import JSON_TEXT, LIST_TEXT
from s3dest_dagster.columns.kinds.number import DOUBLE, FLOAT, LONG
from s3dest_dagster.columns.kinds.record import Field, Record
from s3dest_dagster.columns.kinds.scalar import BOOLEAN, BYTES, NULL, STRING, String
from s3dest_dagster.columns.kinds.temporal import DATE, LOCAL_TIMESTAMP, TIME, TIMESTAMP
from s3dest_dagster.columns.names import (
    OVERFLOW_NAMES,
    original_name_doc,
    standard_name,
    standard_namespace,
)
from s3dest_dagster.columns.schemas import ENVELOPES
from s3dest_dagster.errors import SchemaError
from s3dest_dagster.settings.formats import CONNECTOR_TYPES, TypeRules
from s3dest_dagster.stream import is_unicode

MAX_DEPTH = 100
"""The most levels of objects and arrays that have types. Deeper ones are JSON text."""
_MAX_LEVELS = 120
"""The same limit including combinations (anyOf, …). A higher one would come close to Python's recursion limit."""
MAX_DEFINITIONS = 100_000
"""The most definitions that are read for one stream. A definition counts again for every reference to it."""
MAX_FIELDS = 50_000
"""The most fields of all levels together, since references can make a small schema large."""

_Structured = Literal["string", "object", "array", "combined"]
_WELL_KNOWN = "WellKnownTypes.json#/definitions/"
_NAIVE = _WELL_KNOWN + "TimestampWithoutTimezone"
_TYPES: dict[tuple[str, str | None], Kind | _Structured] = {
    ("string", None): "string",
    ("string", "big_integer"): STRING,
    ("number", None): DOUBLE,
    ("number", "integer"): LONG,
    ("number", "float"): FLOAT,
    ("integer", None): LONG,
    ("boolean", None): BOOLEAN,
    ("null", None): NULL,
    ("object", None): "object",
    ("array", None): "array",
    (_WELL_KNOWN + "String", None): STRING,
    (_WELL_KNOWN + "Boolean", None): BOOLEAN,
    (_WELL_KNOWN + "Number", None): DOUBLE,
    (_WELL_KNOWN + "Integer", None): LONG,
    (_WELL_KNOWN + "BinaryData", None): BYTES,
    (_WELL_KNOWN + "Date", None): DATE,
    (_WELL_KNOWN + "TimestampWithTimezone", None): TIMESTAMP,
    (_NAIVE, None): TIMESTAMP,
    (_WELL_KNOWN + "TimeWithoutTimezone", None): TIME,
    (_WELL_KNOWN + "TimeWithTimezone", None): STRING,
}
_FORMATS = {"date-time": TIMESTAMP, "date": DATE, "time": TIME}
_NamesByNamespace: TypeAlias = defaultdict[str | None, set[str]]
_PRIMITIVE_TYPES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
"""No record of Avro can have such a full name: https://avro.apache.org/docs/1.12.0/specification/#names."""
_PLAIN_KEYWORDS = frozenset({"type", "format", "airbyte_type", "title", "description"})
"""A definition of a scalar with no other keywords is the same kind wherever it stands."""
COMBINATIONS = ("anyOf", "allOf", "oneOf")
"""Keywords that combine definitions, in the order of precedence."""


def record_type(
    json_schema: Mapping[str, Any], name: str, namespace: str | None, rules: TypeRules = CONNECTOR_TYPES
) -> Record:
    """The record type of a stream, without envelope and overflow.

    Properties with a name of the overflow map are left out, and their values are merged into the map. At the root,
    properties with the name of an envelope column are also left out, and their values go to the map under that name.

    Args:
        json_schema: The stream's JSON schema.
        name: The stream's name.
        namespace: The stream's namespace; None if it has none.
        rules: The types of what the schema leaves open. By default, they are the connector's.

    Raises:
        SchemaError: `json_schema` is not a JSON schema, or it has an unknown type and `rules` refuse it.
    """
    record = _Parser(json_schema, name, rules).record(json_schema, name, namespace, root=True)
    names: _NamesByNamespace = defaultdict(set, {None: set(_PRIMITIVE_TYPES)})
    return replace(_record_named_once(record, names, ()), envelope=rules.envelope)


class _Parser:
    """One pass over one schema. Errors name the `stream`."""

    def __init__(self, root: Mapping[str, Any], stream: str, rules: TypeRules) -> None:
        self._root = root
        self._stream = stream
        self._rules = rules
        self._path: list[str] = []
        self._following: list[str] = []
        self._combined = 0
        self._scalars: dict[str, Kind] = {}
        """The kinds of plain definitions, by their types."""
        self._fields = 0
        self._definitions = 0

    def record(self, definition: Mapping[str, Any], name: str, namespace: str | None, *, root: bool = False) -> Record:
        """The record of an object definition. A nested record has its field's name, and its path as its namespace."""
        written, own_namespace = standard_name(name), standard_namespace(namespace)
        inner = None if root else f"{own_namespace}.{written}" if own_namespace else written
        left_out = OVERFLOW_NAMES.union(ENVELOPES[self._rules.envelope].names) if root else OVERFLOW_NAMES
        declared = {k: v for k, v in self._properties(definition).items() if k not in left_out}
        names = unique_names(list(declared), reserved=left_out)
        fields = tuple(
            Field(unique, source, self._kind(source, inner, definition_), original_name_doc(source, unique))
            for unique, (source, definition_) in zip(names, declared.items(), strict=True)
        )
        return Record(written, own_namespace, fields, original_name_doc(name, written))

    def _properties(self, definition: Mapping[str, Any]) -> Mapping[str, Any]:
        properties = definition.get("properties") if isinstance(definition, Mapping) else definition
        if properties is None:
            return {}
        if not isinstance(properties, Mapping):
            raise self._error('"properties" must be an object that maps names to JSON schemas')
        self._fields += len(properties)
        if self._fields > MAX_FIELDS:
            raise self._error(f"it declares more than {MAX_FIELDS:,} fields")
        if broken := [name for name in properties if isinstance(name, str) and not is_unicode(name)]:
            raise self._error(f"the name {broken[0]!r} has half of a surrogate pair, which no text can hold")
        return properties

    def _kind(self, name: str, namespace: str | None, definition: object) -> Kind:
        """The kind of a field or of an array's items."""
        if len(self._path) == MAX_DEPTH or len(self._path) + self._combined >= _MAX_LEVELS:
            return STRING
        types = _plain_types(definition)
        if types is not None and types in self._scalars:
            self._count_definition()
            return self._scalars[types]
        self._path.append(name)
        kind = kind_of(with_fallback(distinct(self._branches(name, namespace, definition))))
        self._path.pop()
        if types is not None and not kind.has_structure:
            self._scalars[types] = kind
        return kind

    def _count_definition(self) -> None:
        self._definitions += 1
        if self._definitions > MAX_DEFINITIONS:
            raise self._error(f"its references lead to more than {MAX_DEFINITIONS:,} definitions")

    def _branches(self, name: str, namespace: str | None, definition: object) -> list[Branch]:
        self._count_definition()
        reference = _local_reference(definition)
        if reference is None:
            return [b for t in self._types(definition) for b in self._single(name, namespace, t, definition)]
        if reference in self._following:
            return [STRING]
        target = resolve(self._root, reference)
        if not isinstance(target, Mapping):
            return [self._unknown(f"the reference {reference!r} points to no definition in this schema")]
        self._following.append(reference)
        branches = self._branches(name, namespace, target)
        self._following.pop()
        return branches

    def _types(self, definition: object) -> list[Kind | _Structured]:
        """The types that a definition names, without null.

        Without a type, it is an object if it has properties, else a string, as in the connector.
        """
        if not isinstance(definition, Mapping):
            return [STRING]
        if any(word in definition for word in COMBINATIONS):
            return ["combined"]
        named, airbyte_type = definition.get("type"), definition.get("airbyte_type")
        if isinstance(named, list | tuple):
            types = [self._decimal(entry, definition) or self._type(entry, None) for entry in named]
        elif isinstance(named, str):
            types = [self._decimal(named, definition) or self._type(named, airbyte_type)]
        elif isinstance(definition.get("$ref"), str):
            types = [self._type(definition["$ref"], airbyte_type)]
        else:
            types = ["object" if isinstance(definition.get("properties"), Mapping) else STRING]
        return [type_ for type_ in types if type_ != NULL]

    def _decimal(self, name: object, definition: Mapping[str, Any]) -> Kind | None:
        """The decimal that is declared with this JSON type; None if there is none."""
        if self._rules.decimals == "connector" and KEYWORD not in definition:
            return None
        try:
            return declared_decimal(name, definition)
        except ValueError as error:
            raise self._error(str(error)) from None

    def _type(self, name: object, airbyte_type: object) -> Kind | _Structured:
        if name == _NAIVE:
            return self._local()
        if (known := known_type(name, airbyte_type)) is not None:
            return known
        return self._unknown(
            f"type {name!r} is not known; use string, number, integer, boolean, object, array, null, "
            f"or a reference to {_WELL_KNOWN}…"
        )

    def _unknown(self, what: str) -> String:
        """Returns a string, which holds every value, or raises SchemaError, which says `what` is not known."""
        if self._rules.unknown_types == "fail":
            raise self._error(what, "or set on_unknown_type to 'text', which lands such fields as text")
        return STRING

    def _single(self, name: str, namespace: str | None, named: Kind | _Structured, definition: object) -> list[Branch]:
        if isinstance(named, Kind):
            return [named]
        assert isinstance(definition, Mapping)  # no other definition names a structured type
        if named == "string":
            return [self._text_kind(definition)]
        if named == "object":
            is_open = self._rules.open_objects == "text" and not definition.get("properties")
            return [JSON_TEXT if is_open else self.record(definition, name, namespace)]
        if named == "array":
            is_open = self._rules.open_lists == "text" and not definition.get("items")
            return [LIST_TEXT if is_open else self._array(name, namespace, definition.get("items"))]
        return without_shadowed_timestamps(self._union(name, namespace, self._combined_definitions(definition)))

    def _text_kind(self, definition: Mapping[str, Any]) -> Kind:
        """The kind of a text, by its format."""
        kind = _FORMATS.get(str(definition.get("format")), STRING)
        is_local = kind is TIMESTAMP and definition.get("airbyte_type") == "timestamp_without_timezone"
        return self._local() if is_local else kind

    def _local(self) -> Kind:
        """The kind of moments without a zone."""
        return LOCAL_TIMESTAMP if self._rules.naive_moments == "keep" else TIMESTAMP

    def _array(self, name: str, namespace: str | None, items: object) -> Array:
        if isinstance(items, Mapping) and any(items.get(word) is not None for word in ("type", "$ref", "properties")):
            return Array(self._kind(f"{name}.items", namespace, items))
        if isinstance(items, list | tuple):
            return tuple_of(self._union(name, namespace, list(items)))
        return Array(STRING)

    def _union(self, name: str, namespace: str | None, definitions: list[object]) -> list[Branch]:
        """The branches of a combined definition or a tuple, with records merged, as the connector merges them."""
        if len(self._path) + self._combined >= _MAX_LEVELS:
            return [STRING]
        inner = f"{namespace}.{name}" if namespace else name
        self._combined += 1
        branches = distinct(b for d in _without_repetitions(definitions) for b in self._branches(name, inner, d))
        self._combined -= 1
        return merge_records(name, namespace, branches)

    def _combined_definitions(self, definition: Mapping[str, Any]) -> list[object]:
        word = next(word for word in COMBINATIONS if word in definition)
        if not isinstance(definition[word], list | tuple):
            raise self._error(f"{word!r} must be a list of JSON schemas")
        return list(definition[word])

    def _error(self, what: str, also: str = "") -> SchemaError:
        where = f"field {'.'.join(self._path)!r}" if self._path else "the schema"
        return SchemaError(
            f"Stream {self._stream!r}: {where} cannot be understood: {what}. "
            f"Correct the stream's JSON schema (in the catalog or where the stream is declared){also and f', {also}'}.",
            stream=self._stream,
        )


def known_type(name: object, airbyte_type: object) -> Kind | _Structured | None:
    """The meaning of a type's name, which an `airbyte_type` may refine; None if it is not known."""
    if not isinstance(name, str):
        return None
    return _TYPES.get((name, str(airbyte_type))) or _TYPES.get((name, None))


def resolve(root: Mapping[str, Any], reference: str) -> object:
    """The target of a local reference (a JSON pointer into the schema `root`); None if there is none."""
    target: Any = root
    for token in reference.removeprefix("#").split("/")[1:]:
        key = token.replace("~1", "/").replace("~0", "~")
        target = target.get(key) if isinstance(target, Mapping) else None
    return target


def _plain_types(definition: object) -> str | None:
    """What a plain definition says about its type; None for any other definition."""
    if type(definition) is not dict or not definition.keys() <= _PLAIN_KEYWORDS:
        return None
    return repr((definition.get("type"), definition.get("format"), definition.get("airbyte_type")))


def _without_repetitions(definitions: Iterable[object]) -> Iterator[object]:
    """Yields the definitions without repeated references, since the target of a reference counts only once."""
    seen = set()
    for definition in definitions:
        reference = _local_reference(definition)
        if reference is None or reference not in seen:
            seen.add(reference)
            yield definition


def _local_reference(definition: object) -> str | None:
    """The local reference that determines the type of a definition; None if something else determines it."""
    if not isinstance(definition, Mapping) or definition.get("type") is not None:
        return None
    reference = definition.get("$ref")
    combined = any(word in definition for word in COMBINATIONS)
    return reference if isinstance(reference, str) and reference.startswith("#") and not combined else None


def _record_named_once(record: Record, names: _NamesByNamespace, path: tuple[str, ...]) -> Record:
    """The same record, in which every record has a unique full name, since Avro allows only one definition of a name.

    A later record with the same name gets a suffix, made from the path of its field.
    """
    name = suffixed_name(record.name, ".".join(path), names[record.namespace])
    names[record.namespace].add(name)
    kinds = [_kind_named_once(field.kind, names, (*path, field.source)) for field in record.fields]
    renamed = record.with_kinds(kinds)
    if name == record.name:
        return renamed
    return replace(renamed, name=name, doc=record.doc or original_name_doc(record.name, name))


def _kind_named_once(kind: Kind, names: _NamesByNamespace, path: tuple[str, ...]) -> Kind:
    return kind.map_records(lambda inner: _record_named_once(inner, names, path))
