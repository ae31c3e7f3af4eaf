"""From a stream to the asset that it is: key, group, kinds, tags, description, columns. The one place to say it.

It must not know how the asset is made or landed.
"""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Iterable

import dagster as dg

from s3dest_dagster.dagster.asset_metadata import stream_metadata
from s3dest_dagster.dagster.metadata import STORAGE_KIND, code_version, column_schema
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.printable import markdown
from s3dest_dagster.settings.formats import FormatSettings
from s3dest_dagster.stream import Stream

_FOREIGN = re.compile(r"[^A-Za-z0-9_]")
_DAGSTERS = "arg_dict bool conf config context dict float input input_arg_dict int meta output output_arg_dict str type"
_RESERVED = frozenset({*_DAGSTERS.split(), *keyword.kwlist})
"""Names that Dagster refuses when they stand alone."""


class S3DestinationTranslator:
    """Says which asset a stream is. Override `get_asset_spec`, and begin with what this one gives:

        class Ours(S3DestinationTranslator):
            def get_asset_spec(self, stream):
                return super().get_asset_spec(stream).replace_attributes(group_name="crm")

    `format`, if given, is shown as one of the asset's kinds.
    """

    def __init__(self, format: FormatSettings | None = None) -> None:
        self.format = format

    def get_asset_spec(self, stream: Stream) -> dg.AssetSpec:
        """The asset: its key from namespace and name, as far as Dagster's names allow; the stream's description, or
        its schema's; its columns, if it declares them; a code version (see `code_version`). Raises SchemaError for a
        schema that cannot be understood."""
        columns = column_schema(stream)
        return dg.AssetSpec(
            key=asset_key(stream),
            description=_shown_description(stream),
            kinds={STORAGE_KIND} | ({_kind(self.format)} if self.format is not None else set()),
            code_version=code_version(stream, self.format),
            metadata={
                **stream_metadata(stream),
                "dagster/storage_kind": STORAGE_KIND,
                "dagster/table_name": str(stream.id),
                **({"dagster/column_schema": columns} if columns is not None else {}),
            },
        )


def asset_key(stream: Stream) -> dg.AssetKey:
    """The stream's namespace and name as an asset key: marks dropped, each foreign character an underscore."""
    parts = [part for part in (stream.namespace, stream.name) if part]
    key = [asset_name(part) for part in parts]
    return dg.AssetKey([f"{key[0]}_"] if len(key) == 1 and key[0] in _RESERVED else key)


def asset_name(text: str) -> str:
    """The text as Dagster allows it for (a part of) an asset's name."""
    plain = "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    return _FOREIGN.sub("_", plain)


def check_distinct(specs: Iterable[tuple[Stream, dg.AssetKey]]) -> None:
    """Raises SettingsError when two streams would be one asset, with both of their names."""
    taken: dict[str, Stream] = {}
    for stream, key in specs:
        other = taken.setdefault(key.to_python_identifier(), stream)
        if other is not stream:
            raise SettingsError(
                f"The streams {str(other.id)!r} and {str(stream.id)!r} would both be the asset "
                f"{key.to_user_string()!r}: Dagster's names have only letters, digits and underscores. Give one of "
                "them another key in a translator, or select only one.",
                stream=str(stream.id),
            )


def _shown_description(stream: Stream) -> str | None:
    """The stream's own description, as Markdown; what its schema says comes from a source, and is shown as it is."""
    declared = _schema_description(stream)
    if stream.description and stream.description != declared:
        return stream.description
    return declared and markdown(declared)


def _schema_description(stream: Stream) -> str | None:
    text = (stream.json_schema or {}).get("description")
    return text if isinstance(text, str) else None


def _kind(settings: FormatSettings) -> str:
    """The format's name as Dagster knows it: it has icons for Parquet, CSV and JSON."""
    name = type(settings).__name__.removesuffix("Format").lower()
    return "json" if name == "jsonl" else name
