"""Settings as JSON values: those of a destination and of a stream, as an order carries them.

Only what differs from a default is written, and no secret is. Must not know: what an order is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.settings.fields import about, default_of
from s3dest_dagster.settings.formats import FormatSettings, format_class
from s3dest_dagster.settings.stream_settings import RULES, FieldSelection, StreamSettings
from s3dest_dagster.stream import Stream

_FORMAT, _TYPE = "format", "format_type"


def destination_to_json(destination: S3Destination) -> dict[str, Any]:
    """The settings of a destination without its secrets."""
    secrets = {each.name for each in fields(S3Destination) if about(each).secret}
    settings = {name: value for name, value in _changed(destination).items() if name not in secrets}
    format_ = settings.pop(_FORMAT, None)
    return settings | ({_FORMAT: _format_to_json(format_)} if format_ is not None else {})


def destination_from_json(value: Mapping[str, Any], hash_key: str | None) -> S3Destination:
    """The destination that `destination_to_json` wrote, with the key of its hashed fields."""
    settings = dict(value)
    if (format_ := settings.pop(_FORMAT, None)) is not None:
        own = {name: each for name, each in format_.items() if name != _TYPE}
        settings[_FORMAT] = format_class(format_[_TYPE])(**own)
    return S3Destination(**settings, hash_key=hash_key)


def stream_to_json(stream: Stream) -> dict[str, Any]:
    """The settings of a stream, and the fields that its catalog leaves out."""
    settings = stream.settings
    written: dict[str, Any] = {
        "owner": settings.owner,
        "rename": {str(path): name for path, name in settings.rename.items()},
        "fields": _selection_to_json(settings.fields),
        "partition_by": [each.to_mapping() for each in settings.partition_by],
        "schema_contract": settings.schema_contract.to_mapping() if settings.schema_contract is not None else None,
        "expire_partitions_after": settings.expire_partitions_after,
    }
    # What the catalogs deselect does not land. `Stream.selection` has applied `deselected_fields` already.
    written["deselected"] = [str(path) for path in stream.selection.deselected]
    return {name: value for name, value in written.items() if value or value == 0}


def stream_settings_from_json(value: Mapping[str, Any]) -> tuple[StreamSettings, tuple[str, ...]]:
    """The settings that `stream_to_json` wrote, and the deselected fields."""
    settings = dict(value)
    deselected = tuple(settings.pop("deselected", ()))
    return StreamSettings.of(settings), deselected


def _format_to_json(settings: FormatSettings) -> dict[str, Any]:
    return {_TYPE: settings.format_type, **_changed(settings)}


def _selection_to_json(selection: FieldSelection) -> dict[str, list[str]]:
    lists = {name: getattr(selection, name) for name in ("include", *RULES)}
    return {name: [str(path) for path in paths] for name, paths in lists.items() if paths}


def _changed(settings: Any) -> dict[str, Any]:
    """The settings that do not have their default."""
    values = {each.name: (getattr(settings, each.name), default_of(each)) for each in fields(settings)}
    return {name: value for name, (value, default) in values.items() if value != default}
