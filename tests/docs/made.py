"""The generated parts of the documentation: tables of variables, types and values, and small examples.

Each function under `_MAKERS` makes one part. Everything in it comes from a run of the library.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, replace
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, get_args

import fastavro
import pyarrow as pa
import pyarrow.parquet as pq
from columns import differences
from docs.effects import avro_effects, parquet_effects
from docs.manifest_fields import manifest_schema
from docs.notebook import TYPED, block
from docs.pages import ROOT, written_table
from docs.read_lake import athena_table
from encoded import batch_of, written
from keys.test_recorded_names import BETTERED, REFUSED
from pydantic import BaseModel
from servers import SEED_ACTIONS

from s3dest_dagster.columns.converter import convert_record
from s3dest_dagster.columns.json_schema import record_type
from s3dest_dagster.columns.kinds import Layout
from s3dest_dagster.columns.kinds.temporal import date_days, time_micros, timestamp_micros
from s3dest_dagster.columns.names import OVERFLOW
from s3dest_dagster.columns.schemas import arrow_schema, avro_schema
from s3dest_dagster.dagster.asset_metadata import partition_values_of
from s3dest_dagster.dagster.component.automation import AutomationSensorModel, FileSensorModel, ScheduleModel
from s3dest_dagster.dagster.component.component import S3DestinationComponent
from s3dest_dagster.dagster.component.landing_checks import OneCheckModel
from s3dest_dagster.dagster.component.sources import SOURCE_KINDS
from s3dest_dagster.dagster.component.streams import StreamModel
from s3dest_dagster.dagster.translator import asset_key
from s3dest_dagster.errors import TemplateError
from s3dest_dagster.formats import encoder
from s3dest_dagster.keys import KeyTemplate, key_name
from s3dest_dagster.keys.date_format import parse_date_format
from s3dest_dagster.keys.placeholders import PLACEHOLDERS, VARIABLES
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, default_of, groups_of
from s3dest_dagster.settings.formats import AvroFormat, CsvFormat, JsonlFormat, ParquetFormat, TypeRules
from s3dest_dagster.settings.partition_fields import partition_rule
from s3dest_dagster.stream import Generation, Scope, Stream, StreamId


def make(name: str) -> str:
    """The part with this name. Raises KeyError if there is none."""
    return _MAKERS[name]()


def code(text: str) -> str:
    return f"`{text}`" if text else ""


# ---------------------------------------------------------------------- settings


def _settings(kind: type) -> Callable[[], str]:
    """A settings class: a table, or one for each of its groups."""
    groups = groups_of(kind)
    return lambda: written_table(*_settings_table(kind)) if groups == [kind] else "\n".join(map(_group, groups))


def _group(kind: type) -> str:
    title, _, text = (kind.__doc__ or "").partition("\n")[0].partition(": ")
    return f"### {title}\n\n{text[0].upper()}{text[1:]}\n\n{written_table(*_settings_table(kind))}"


def _settings_table(kind: type) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of a settings class, made from its fields."""
    found = [(each, about(each)) for each in fields(kind)]
    rows = [(code(each.name), "connector" if a.connector else "ours", _default(each), a.text) for each, a in found]
    header = ("setting", "of", "default", "effect")
    if not any(a.resource for _, a in found):
        return header, rows
    elsewhere = ["; ".join(code(n) for n in (a.connector, a.resource) if n not in ("", each.name)) for each, a in found]
    wider = [(*row[:2], names, *row[2:]) for row, names in zip(rows, elsewhere, strict=True)]
    return ("setting", "of", "elsewhere", "default", "effect"), wider


def _default(each: Field[Any]) -> str:
    value = default_of(each)
    if value is MISSING:
        return "required"
    if each.default_factory is not MISSING:
        return code(f"{type(value).__name__}()")
    plain = value.value if isinstance(value, Enum) else value
    return code(f'"{plain}"' if isinstance(plain, str) else repr(plain))


# ---------------------------------------------------------------------- components in YAML

TRANSLATION = (
    "Attributes of the assets: `key`, `key_prefix`, `group_name`, `owners`, `tags`, `kinds`, `description`, "
    "`metadata`, `deps`, `automation_condition`, `freshness_policy`… with `{{ stream }}`. Tags and metadata are "
    "merged, other attributes are replaced."
)
"""Dagster makes this field, and describes it in no way."""


def component_fields() -> str:
    """The fields of a component."""
    described = S3DestinationComponent.get_model_cls().model_json_schema()["properties"]
    rows = [
        (code(each.name), _component_default(each), described[each.name].get("description", TRANSLATION))
        for each in fields(S3DestinationComponent)
    ]
    return written_table(("field", "default", "meaning"), rows)


def _component_default(each: Field[Any]) -> str:
    if each.name == "defs_state":
        return code("LOCAL_FILESYSTEM")
    return _written_default(each.default, required=each.default is MISSING)


def _model_fields(model: type[BaseModel]) -> Callable[[], str]:
    """The fields of a model, apart from the type that names it."""
    return lambda: written_table(
        ("field", "default", "meaning"),
        [
            (
                code(each.alias or name),
                _written_default(each.default, required=each.is_required()),
                each.description or "",
            )
            for name, each in model.model_fields.items()
            if name != "type"
        ],
    )


def _written_default(value: Any, *, required: bool) -> str:
    if required:
        return "required"
    if value is None or value == ():
        return ""
    return code(str(value).lower() if isinstance(value, bool) else str(value))


def landing_checks() -> str:
    """The checks of a component, with the settings of each."""
    rows = []
    for name, each in OneCheckModel.model_fields.items():
        (kind,) = (member for member in get_args(each.annotation) if member is not type(None))
        settings = ", ".join(code(setting) for setting in kind.model_fields)
        rows.append((code(each.alias or name), each.description or "", settings))
    return written_table(("check", "passes when", "settings"), rows)


# ---------------------------------------------------------------------- paths

NOW = datetime(2021, 5, 27, 17, 16, 45, 678_000, tzinfo=UTC)
UPLOADED = datetime(2021, 5, 27, 17, 17, 2, 91_000, tzinfo=UTC)
UUID = "8f14e45f-ceea-467f-a9f0-5d2b6c1c3f3e"
SCOPE = Scope(StreamId("public", "users"), "2021-05-27|eu", {"day": "2021-05-27", "region": "eu"})

RULE = partition_rule([{"field": "created_at", "as": "day", "name": "dt"}, "region"])
VARIABLE_MEANINGS = {
    "${NAMESPACE}": "the stream's namespace, sanitised; nothing where it has none",
    "${STREAM_NAME}": "the stream's name with its prefix, sanitised",
    "${YEAR}": "year of the sync, UTC",
    "${MONTH}": "month, 2 digits",
    "${DAY}": "day, 2 digits",
    "${HOUR}": "hour, 2 digits, 00 to 23",
    "${MINUTE}": "minute, 2 digits",
    "${SECOND}": "second, 2 digits",
    "${MILLISECOND}": "millisecond, **4** digits, as the connector writes it",
    "${EPOCH}": "milliseconds since 1970 of the sync",
    "${UUID}": "a random UUID, one for each sync of a scope",
    "${PARTITION}": "the partition's key, sanitised, `/` as `_`; ours",
    "${FIELDS}": "the directories of the stream's `partition_by`; nothing where it has none; ours",
    "${PARTITION:dimension}": "the key of one dimension of a multi-dimensional partition; ours",
}
PLACEHOLDER_MEANINGS = {
    "{date}": "day of the upload, UTC",
    "{date:yyyy_MM}": "the moment of the upload in a date format, see below",
    "{timestamp}": "milliseconds since 1970 of the upload",
    "{timestamp:millis}": "the same",
    "{timestamp:micro}": "microseconds since 1970 of the upload",
    "{timestamp:micros}": "the same",
    "{part_number}": "part id of the object: 0, 1, 2 …",
    "{sync_id}": "the environment's `WORKER_JOB_ID`, else the sync's id",
    "{format_extension}": "ending of the format, with its dot",
}


def rendered_variable(variable: str) -> str:
    """The value of a variable in the example sync."""
    template = KeyTemplate("lake", variable.replace("dimension", "region") + "/", partition_by=RULE)
    keys = template.bind(SCOPE, now=NOW, uuid=UUID, sync_id="42")
    return (
        keys.key(0, ".parquet", uploaded_at=UPLOADED, fields=("2021-05-27", "eu"))
        .removeprefix("lake/")
        .removesuffix("/0.parquet")
    )


def rendered_placeholder(placeholder: str) -> str:
    """The value of a placeholder for the fourth object of the example sync."""
    keys = KeyTemplate("", "x/", placeholder).bind(SCOPE, now=NOW, uuid=UUID, sync_id="42")
    return keys.key(3, ".csv.gz", uploaded_at=UPLOADED).removeprefix("x/")


def variables() -> str:
    known = [*VARIABLES, "${PARTITION:dimension}"]
    rows = [(code(each), code(rendered_variable(each)), VARIABLE_MEANINGS[each]) for each in known]
    return written_table(("variable", "example", "what it is"), rows)


def placeholders() -> str:
    known = ["{date}", "{date:yyyy_MM}", *PLACEHOLDERS]
    rows = [(code(each), code(rendered_placeholder(each)), PLACEHOLDER_MEANINGS[each]) for each in known]
    return written_table(("placeholder", "example", "what it is"), rows)


LETTERS = {
    "yyyy": "year", "yy": "year, 2 digits", "MM": "month", "MMM": "month's short name", "MMMM": "month's name",
    "dd": "day of the month", "D": "day of the year", "EEE": "weekday's short name", "EEEE": "weekday's name",
    "u": "weekday, Monday is 1", "F": "which such weekday of the month", "HH": "hour, 00 to 23", "kk": "hour, 01 to 24",
    "hh": "hour, 01 to 12", "KK": "hour, 00 to 11", "a": "half of the day", "mm": "minute", "ss": "second",
    "SSS": "millisecond", "Z": "offset", "X": "offset, ISO 8601", "LL": "month", "'T'": "quoted text", "''": "a quote",
}  # fmt: skip


def rendered_date(form: str) -> str:
    return "".join(part if isinstance(part, str) else part.render(UPLOADED) for part in parse_date_format(form))


def date_letters() -> str:
    rows = [(code(form), code(rendered_date(form)), meaning) for form, meaning in LETTERS.items()]
    return written_table(("letters", "example", "what it is"), rows)


NAMES = ["users", "My Stream", "Straße/2021", "year=2021", "café", "用户表", "a\\b", "100%", "A.B", "../etc"]


def sanitised_names() -> str:
    template = KeyTemplate("", "x/${PARTITION}/")
    rows = []
    for name in NAMES:
        key = template.bind(Scope(StreamId(None, "s"), name), now=NOW, uuid=UUID, sync_id="").prefix
        refused = any(part in (".", "..") for part in name.split("/"))
        in_key = "refused" if refused else code(key_name(name))
        rows.append((code(name), in_key, code(key.removeprefix("x/").removesuffix("/"))))
    return written_table(("text", "as stream name or namespace", "as partition"), rows)


DEFAULT = "${NAMESPACE}/${STREAM_NAME}/${YEAR}_${MONTH}_${DAY}_${EPOCH}_"
UNPARTITIONED = Scope(SCOPE.stream)
LAYOUT_SCOPES = {"${PARTITION}": Scope(SCOPE.stream, "2021-05-27"), "${PARTITION:": SCOPE}
LAYOUTS = [
    ("lake", DEFAULT, "", ".csv.gz"),
    ("", DEFAULT, "", ".parquet"),
    ("lake", "${NAMESPACE}/${STREAM_NAME}/${PARTITION}/", "", ".parquet"),
    ("lake", "${STREAM_NAME}/region=${PARTITION:region}/day=${PARTITION:day}/", "", ".parquet"),
    ("lake", "${STREAM_NAME}/year=${YEAR}/month=${MONTH}/", "{timestamp}_{part_number}{format_extension}", ".jsonl.gz"),
    ("lake//raw/", "${STREAM_NAME}//", "{date:yyyy_MM}-{sync_id}-{part_number}{format_extension}", ".avro"),
    ("lake", "${STREAM_NAME}/", "latest{format_extension}", ".csv"),
]


def layouts() -> str:
    rows = []
    for bucket_path, path_format, pattern, extension in LAYOUTS:
        scope = next((scope for part, scope in LAYOUT_SCOPES.items() if part in path_format), UNPARTITIONED)
        keys = KeyTemplate(bucket_path, path_format, pattern).bind(scope, now=NOW, uuid=UUID, sync_id="42")
        assert keys.names_partition
        key = keys.key(0, extension, uploaded_at=UPLOADED)
        rows.append((code(bucket_path), code(path_format), code(pattern), code(key)))
    return written_table(("`s3_bucket_path`", "`s3_path_format`", "`file_name_pattern`", "first key"), rows)


TAGGED = [
    (DEFAULT, ""),
    ("${STREAM_NAME}/${PARTITION}/", ""),
    ("${STREAM_NAME}/${PARTITION:region}/${PARTITION:day}/", ""),
    ("${STREAM_NAME}/${PARTITION:day}/", ""),
    ("${STREAM_NAME}/${UUID}/", ""),
    ("${STREAM_NAME}/", "{timestamp}{format_extension}"),
]


def tags() -> str:
    rows = []
    for path_format, pattern in TAGGED:
        keys = KeyTemplate("lake", path_format, pattern).bind(SCOPE, now=NOW, uuid=UUID, sync_id="42")
        tag = "" if keys.names_partition else "_3f9a1c2e"
        key = keys.key(0, ".parquet", uploaded_at=UPLOADED, tag=tag)
        rows.append((code(path_format), code(pattern), "yes" if tag else "no", code(key)))
    return written_table(("`s3_path_format`", "`file_name_pattern`", "tag", "first key"), rows)


MATCHED = [
    "lake/public/users/2021_05_27_1622135805678_0.csv.gz",
    "lake/public/users/2019_01_01_1546300800000_17.parquet",
    "lake/public/users/2021_05_27_1622135805678_8f14e45f-ceea-467f-a9f0-5d2b6c1c3f3e.avro",
    "lake/public/users/2021_05_27_1622135805678_0_3f9a1c2e.csv",
    "lake/public/users/2021_05_27_1622135805678_0.txt",
    "lake/public/users/2021_05_27_1622135805678_latest.csv",
    "lake/public/users/archive/2021_05_27_1622135805678_0.csv",
    "lake/public/users2/2021_05_27_1622135805678_0.csv",
    "lake/public/users/notes.csv",
]


def matched() -> str:
    pattern = KeyTemplate("lake", DEFAULT).untagged_matcher(SCOPE.stream)
    assert pattern is not None, "the default template tells whose a key is"
    rows = [(code(key), "yes" if pattern.fullmatch(key) else "no") for key in MATCHED]
    return written_table(("key", "matches"), rows)


PAIR = [StreamId("a", "b_c"), StreamId("a_b", "c")]
TWO = [StreamId("public", "users"), StreamId("public", "orders")]
REFUSALS: list[tuple[str, str, str, str, Any]] = [
    ("an unknown variable", "lake", "${NAMESPACE}/${STREAM}/", "", None),
    ("a placeholder in the path", "lake", "${STREAM_NAME}/{date}/", "", None),
    ("a variable in the file name", "lake", "${STREAM_NAME}/", "${YEAR}_{part_number}", None),
    ("a date format with a second colon", "lake", "${STREAM_NAME}/", "{date:HH:mm}", None),
    ("letters that depend on a locale", "lake", "${STREAM_NAME}/", "{date:YYYY}_{part_number}", None),
    ("a name with nothing behind it", "lake", "${STREAM_NAME}", "", None),
    ("a part number twice", "lake", "${STREAM_NAME}/", "{part_number}_{part_number}", None),
    ("a key that ends like a directory", "lake", "${STREAM_NAME}/", "{part_number}/", None),
    ("a key that climbs", "lake", "${STREAM_NAME}/../", "", None),
    ("the place of the manifests", "lake/_s3dest", "${STREAM_NAME}/", "", None),
    ("a partition where there is none", "lake", "${STREAM_NAME}/${PARTITION}/", "", Scope(StreamId(None, "users"))),
    ("two streams with one key", "lake", "${NAMESPACE}_${STREAM_NAME}/", "", PAIR),
    ("no stream name for several streams", "lake", "${YEAR}/${EPOCH}_", "", TWO),
]


def refusals() -> str:
    parts = []
    for what, bucket_path, path_format, pattern, of in REFUSALS:
        given = f"`{path_format}`" + (f" and `{pattern}`" if pattern else "")
        given += f" under `{bucket_path}`" if bucket_path != "lake" else ""
        message = _refusal(bucket_path, path_format, pattern, of)
        parts.append(f"**{what[0].upper()}{what[1:]}**: {given}\n\n```text\n{message}\n```\n")
    return "\n".join(parts)


def _refusal(bucket_path: str, path_format: str, pattern: str, of: Any) -> str:
    try:
        template = KeyTemplate(bucket_path, path_format, pattern)
        if isinstance(of, Scope):
            template.bind(of, now=NOW, uuid=UUID, sync_id="")
        elif of:
            template.check_streams(of)
    except TemplateError as error:
        return str(error)
    raise AssertionError(f"{path_format} {pattern} is not refused")


# ---------------------------------------------------------------------- the first project


def ten_lines() -> str:
    return _fenced((ROOT / "examples" / "ten_lines" / "definitions.py").read_text("utf-8"), "python")


# ---------------------------------------------------------------------- formats

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "user_id": {"type": "integer"},
        "name": {"type": "object", "properties": {"first": {"type": "string"}, "last": {"type": "string"}}},
        "joined": {"type": "string", "format": "date"},
        "code": {"type": ["integer", "string"]},
    },
}
RECORDS = [
    b'{"user_id":123,"name":{"first":"John","last":"Doe"},"joined":"2021-05-27","code":7}',
    b'{"user_id":"n/a","name":null,"joined":"soon","code":"x7","plan":{"tier":"gold"}}',
]
STREAM = Stream(name="users", namespace="public", json_schema=SCHEMA)
PLAIN: Any = {"compression": "No Compression"}
FLAT: Any = {**PLAIN, "flattening": "Root level flattening"}


def _object(settings: Any) -> bytes:
    return written(settings, STREAM, [batch_of(RECORDS)])


def _fenced(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.replace(chr(13), '').rstrip()}\n```\n"


def _text_example(settings: Any) -> Callable[[], str]:
    return lambda: _fenced(_object(settings).decode())


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def example_records() -> str:
    return _fenced("".join(f"{each.decode()}\n" for each in RECORDS), "json")


def example_schema() -> str:
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kind)}" for name, kind in SCHEMA["properties"].items())
    return _fenced(f'{{"type": "object", "properties": {{\n{lines}\n}}}}', "json")


def avro_example() -> str:
    rows = list(fastavro.reader(io.BytesIO(_object(AvroFormat()))))
    return _fenced("\n".join(_json({k: v for k, v in row.items() if k != "_airbyte_ab_id"}) for row in rows))


def avro_schema_example() -> str:
    schema = json.loads(fastavro.reader(io.BytesIO(_object(AvroFormat()))).metadata["avro.schema"])
    fields = ",\n".join(f"  {json.dumps(each)}" for each in schema["fields"])
    head = json.dumps({name: value for name, value in schema.items() if name != "fields"})
    return _fenced(f'{head[:-1]}, "fields": [\n{fields}\n]}}', "json")


def _parquet(layout: Any) -> str:
    table = pq.read_table(io.BytesIO(_object(ParquetFormat(union_layout=layout))))
    shown = table.drop_columns(["_airbyte_ab_id", "_airbyte_emitted_at"])
    kinds = "\n".join(f"{field.name:<31}{_arrow(field.type)}" for field in shown.schema)
    rows = "\n".join(_json({k: dict(v) if k == OVERFLOW and v else v for k, v in row.items()}) for row in _rows(shown))
    return _fenced(f"{kinds}\n\n{rows}")


def newer_envelope() -> str:
    """The envelope of the second record, which has two values that do not fit."""
    stream = replace(STREAM, generation=Generation(14, sync_id=42))
    encoder_ = encoder(ParquetFormat(), stream, rules=TypeRules(envelope="airbyte_1"))
    table = pq.read_table(io.BytesIO(written(ParquetFormat(), stream, [batch_of(RECORDS)], by=encoder_)))
    row = _rows(table.select(["_airbyte_meta", "_airbyte_generation_id"]))[1]
    return _fenced(json.dumps(row, indent=2), "json")


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return table.to_pylist(maps_as_pydicts="strict")


def _arrow(kind: pa.DataType) -> str:
    """An Arrow type in the terms of Parquet readers."""
    if pa.types.is_struct(kind):
        shown = [each for each in kind if each.name != OVERFLOW]
        parts = [f"{each.name}: {_arrow(each.type)}" for each in shown]
        return f"struct<{', '.join([*parts, '…'] if len(shown) < kind.num_fields else parts)}>"
    if pa.types.is_list(kind):
        return f"list<{_arrow(kind.value_type)}>"
    if pa.types.is_map(kind):
        return "map<string, string>"
    names = {"date32[day]": "date", "time64[us]": "time(µs)", "timestamp[us, tz=UTC]": "timestamp(µs, UTC)"}
    return names.get(str(kind), str(kind))


TYPES: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "string", "airbyte_type": "big_integer"},
    {"type": "integer"},
    {"type": "number"},
    {"type": "number", "airbyte_type": "integer"},
    {"type": "number", "airbyte_type": "float"},
    {"type": "number", "x-decimal": {"precision": 10, "scale": 2}},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "date-time"},
    {"type": "string", "format": "time"},
    {"$ref": "WellKnownTypes.json#/definitions/BinaryData"},
    {"$ref": "WellKnownTypes.json#/definitions/TimeWithTimezone"},
    {"type": "array", "items": {"type": "integer"}},
    {"type": "array"},
    {"type": "object", "properties": {"city": {"type": "string"}}},
    {"type": "object"},
    {"type": ["null", "integer", "string"]},
    {"oneOf": [{"type": "string", "format": "date-time"}, {"type": "boolean"}]},
    {},
]


def types() -> str:
    rows = []
    for kind in TYPES:
        record = record_type({"properties": {"f": kind}}, "stream", None, TypeRules(open_objects="text"))
        avro = avro_schema(record, envelope=False)["fields"][0]["type"]
        layouts = [arrow_schema(record, layout=layout).field("f").type for layout in (Layout.NAMED, Layout.MEMBER)]
        rows.append((code(_json(kind)), code(_avro(avro)), *map(_parquet_column, layouts)))
    return written_table(("JSON schema", "Avro", "Parquet", 'Parquet, `union_layout="member"`'), rows)


def _parquet_column(kind: pa.DataType) -> str:
    """The cell of a Parquet column. A column of unknown type is left out of objects."""
    return "no column yet" if pa.types.is_null(kind) else code(_arrow(kind))


def _avro(kind: Any) -> str:
    """An Avro type in short."""
    if isinstance(kind, list):
        return ", ".join(_avro(each) for each in kind if each != "null")
    if isinstance(kind, str):
        return kind
    if kind.get("logicalType") == "decimal":
        return f"{kind['type']} (decimal {kind['precision']}, {kind['scale']})"
    if "logicalType" in kind:
        return f"{kind['type']} ({kind['logicalType']})"
    if kind["type"] == "array":
        return f"array of {_avro(kind['items'])}"
    names = [each["name"] for each in kind["fields"] if each["name"] != OVERFLOW]
    return f"record ({', '.join([*names, '…'])})"


VALUES: list[tuple[dict[str, Any], str]] = [
    ({"type": "integer"}, "12"),
    ({"type": "integer"}, '"12"'),
    ({"type": "integer"}, "3.0"),
    ({"type": "integer"}, "1.9"),
    ({"type": "integer"}, '"007"'),
    ({"type": "integer"}, "9223372036854775808"),
    ({"type": "number"}, '"1.5"'),
    ({"type": "number"}, "0.1234567890123456789"),
    ({"type": "number"}, '"NaN"'),
    ({"type": "string"}, "12"),
    ({"type": "string"}, '{"a": 1}'),
    ({"type": "boolean"}, '"true"'),
    ({"type": "string", "format": "date"}, '"2021-05-27"'),
    ({"type": "string", "format": "date"}, '"soon"'),
    ({"type": "string", "format": "date"}, "18774"),
    ({"type": ["integer", "string"]}, '"12"'),
    ({"type": "array", "items": {"type": "integer"}}, "[1, null, 3]"),
    ({"type": "array", "items": {"type": "integer"}}, '[1, "x"]'),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, '{"a": "x", "b": 2}'),
    ({"type": "object", "properties": {"a": {"type": "integer"}}}, '"text"'),
]


def landed_values() -> str:
    rows = []
    for kind, text in VALUES:
        record = record_type({"properties": {"f": kind}}, "stream", None)
        values, events = convert_record(record, b'{"f":%b}' % text.encode(), layout=Layout.NAMED)
        value, over = values.get("f"), dict(values[OVERFLOW] or ())
        outcome = ", ".join(sorted({event.name.lower() for event, _ in events}))
        rows.append((code(_json(kind)), code(text), code(_shown(value)), code(over.get("f", "")), outcome))
    return written_table(("declared", "value", "column", "overflow", "counted as"), rows)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return _json({k: dict(v) if k == OVERFLOW and v else v for k, v in value.items() if v is not None})
    return _json(value)


DATES = {
    "date": [
        "2021-05-27",
        "2021/5/27",
        "27.05.2021",
        "2021-05-27T00:00:00Z",
        "2021-05-27T10:00:00Z",
        "2021-02-30",
        "0044-03-15 BC",
    ],
    "time": ["12:00", "12:00:01.5", "12:00:00+01:00", "24:00:00", "3661"],
    "date-time": [
        "2021-05-27T17:16:45Z",
        "2021-05-27 17:16:45.123456",
        "2021-05-27T17:16:45.123456789Z",
        "2021-05-27T17:16:45+02:00",
        "2021-05-27T17:16 Europe/Berlin",
        "2021-05-27T17:16:45 EST",
        "9999-12-31T23:59:59.999999Z",
        "9999-12-31T23:59:59-01:00",
        "2021-05-27",
        "1622135805000",
    ],
}
_PARSERS = {
    "date": (date_days, pa.date32()),
    "time": (time_micros, pa.time64("us")),
    "date-time": (timestamp_micros, None),
}


def dates() -> str:
    rows = []
    for form, texts in DATES.items():
        parse, kind = _PARSERS[form]
        for text in texts:
            number = parse(text)
            value = None if number is None else pa.scalar(number, kind or pa.timestamp("us", "UTC")).as_py().isoformat()
            rows.append((code(form), code(text), code(value) if value else "does not parse"))
    return written_table(("format", "text", "value"), rows)


# ---------------------------------------------------------------------- compatibility


def different_values() -> str:
    rows = []
    for (kind, text), (ours, reason) in differences.VALUES.items():
        rows.append((code(_avro(json.loads(kind))), code(text), _difference(ours), reason.name))
    return written_table(("Avro type", "JSON", "what lands here", "reason"), rows)


def _difference(ours: Any) -> str:
    if ours is differences.OVERFLOW:
        return "overflow"
    if isinstance(ours, differences.Inexact):
        return f"`{ours.value!r}`, exact text in the overflow"
    return code(repr(ours) if isinstance(ours, bytes) else _json(ours))


def different_dates() -> str:
    names = {"TS": "date-time", "DATE": "date", "TIME": "time"}
    rows = [
        (code(names[kind]), code(text), code(str(ours)) if ours is not None else "does not parse", reason.name)
        for (kind, text), (ours, reason) in differences.TEMPORALS.items()
    ]
    return written_table(("format", "text", "what lands here (µs)", "reason"), rows)


def different_records() -> str:
    rows = [(code(name), code(_json(ours)), reason.name) for name, (ours, reason) in differences.RECORDS.items()]
    return written_table(("case", "what lands here", "reason"), rows)


def reasons() -> str:
    found = {
        reason.name: reason.text
        for cases in (differences.VALUES, differences.TEMPORALS, differences.RECORDS)
        for _, reason in cases.values()
    }
    return "".join(f"- **{name}**: {text}\n" for name, text in found.items())


def different_schemas() -> str:
    return "".join(f"- **{name}**: {text}\n" for name, text in differences.SCHEMAS.items())


def different_file_names() -> str:
    rows = [(code(pattern), why, "refused") for pattern, why in REFUSED.items()]
    rows += [(code(pattern), "stays literally in the connector's keys", code(key)) for pattern, key in BETTERED.items()]
    return written_table(("`file_name_pattern`", "the connector", "here"), rows)


# ---------------------------------------------------------------------- credentials, Dagster


def policy_document(bucket: str = "YOUR_BUCKET_NAME") -> dict[str, Any]:
    """The IAM policy under which the tests run."""
    resources = [f"arn:aws:s3:::{bucket}/*", f"arn:aws:s3:::{bucket}"]
    statement = {"Effect": "Allow", "Action": list(SEED_ACTIONS), "Resource": resources}
    return {"Version": "2012-10-17", "Statement": [statement]}


def policy() -> str:
    return _fenced(json.dumps(policy_document(), indent=2), "json")


def partition_placeholders() -> str:
    import dagster as dg

    days = dg.DailyPartitionsDefinition("2026-01-01", timezone="Europe/Berlin")
    two = dg.MultiPartitionsDefinition({"day": days, "region": dg.StaticPartitionsDefinition(["eu", "us"])})
    values = partition_values_of(two, "2026-01-05|eu")
    rows = [(f"`{{{{ {name} }}}}`", code(_json(value))) for name, value in values.items()]
    return written_table(("placeholder", "value"), rows)


def asset_keys() -> str:
    streams = [(None, "users"), ("public", "users"), ("public", "order items"), ("my.db", "café"), (None, "type")]
    rows = [
        (code(namespace or ""), code(name), code(asset_key(Stream(name=name, namespace=namespace)).to_user_string()))
        for namespace, name in streams
    ]
    return written_table(("namespace", "name", "asset key"), rows)


_MAKERS: dict[str, Callable[[], str]] = {
    **{
        f"settings-{kind.__name__}": _settings(kind)
        for kind in (S3Destination, S3Connection, CsvFormat, JsonlFormat, AvroFormat, ParquetFormat)
    },
    "component": component_fields,
    "component-stream": _model_fields(StreamModel),
    **{f"component-{name}": _model_fields(kind.model) for name, kind in SOURCE_KINDS.items()},
    "component-checks": landing_checks,
    "component-schedule": _model_fields(ScheduleModel),
    "component-file-sensor": _model_fields(FileSensorModel),
    "component-condition-sensor": _model_fields(AutomationSensorModel),
    "variables": variables,
    "placeholders": placeholders,
    "date-letters": date_letters,
    "sanitised-names": sanitised_names,
    "layouts": layouts,
    "tags": tags,
    "matched": matched,
    "refusals": refusals,
    "ten-lines": ten_lines,
    "example-schema": example_schema,
    "example-records": example_records,
    "csv-example": _text_example(CsvFormat(**PLAIN)),
    "csv-flat-example": _text_example(CsvFormat(**FLAT, additional_properties_column=True)),
    "jsonl-example": _text_example(JsonlFormat(**PLAIN)),
    "jsonl-flat-example": _text_example(JsonlFormat(**FLAT, emitted_at="number")),
    "avro-example": avro_example,
    "parquet-example": lambda: _parquet("named"),
    "parquet-member-example": lambda: _parquet("member"),
    "parquet-typed-example": lambda: _parquet("typed"),
    "newer-envelope": newer_envelope,
    "avro-schema": avro_schema_example,
    "avro-effects": avro_effects,
    "parquet-effects": parquet_effects,
    "types": types,
    "landed-values": landed_values,
    "dates": dates,
    "different-values": different_values,
    "different-dates": different_dates,
    "different-records": different_records,
    "reasons": reasons,
    "different-schemas": different_schemas,
    "different-file-names": different_file_names,
    "policy": policy,
    "partition-placeholders": partition_placeholders,
    "asset-keys": asset_keys,
    "manifest-schema": manifest_schema,
    "read-athena": athena_table,
    **{f"reading-{part}": partial(block, part) for part in TYPED},
}
MADE = frozenset(_MAKERS)
"""Names of all parts."""
