"""Land streams of records in S3 from Dagster: all at once or not at all.

Every public name is found here, and imported when it is first used: `import s3dest_dagster` imports neither Dagster
nor boto3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from s3dest_dagster.connection import S3Connection as S3Connection
    from s3dest_dagster.destination import AvroFormat as AvroFormat
    from s3dest_dagster.destination import CsvFormat as CsvFormat
    from s3dest_dagster.destination import JsonlFormat as JsonlFormat
    from s3dest_dagster.destination import ParquetFormat as ParquetFormat
    from s3dest_dagster.destination import S3Destination as S3Destination
    from s3dest_dagster.landing import Sync as Sync
    from s3dest_dagster.landing import check as check
    from s3dest_dagster.landing import land as land
    from s3dest_dagster.landing import open_target as open_target
    from s3dest_dagster.landing import plan as plan
    from s3dest_dagster.landing import recover as recover
    from s3dest_dagster.landing import sweep as sweep
    from s3dest_dagster.landing import verify as verify
    from s3dest_dagster.orchestration.arrivals import build_file_sensor as build_file_sensor
    from s3dest_dagster.orchestration.assets import stream_asset as stream_asset
    from s3dest_dagster.orchestration.checks import build_landing_checks as build_landing_checks
    from s3dest_dagster.orchestration.components.component import S3DestinationComponent as S3DestinationComponent
    from s3dest_dagster.orchestration.io_manager import S3DestinationIOManager as S3DestinationIOManager
    from s3dest_dagster.orchestration.resource import S3Resource as S3Resource
    from s3dest_dagster.orchestration.source_assets import build_stream_assets as build_stream_assets
    from s3dest_dagster.orchestration.translator import S3DestinationTranslator as S3DestinationTranslator
    from s3dest_dagster.sources.airbyte import AirbyteSource as AirbyteSource
    from s3dest_dagster.sources.config_file import ConfigFile as ConfigFile
    from s3dest_dagster.sources.files import FileSource as FileSource
    from s3dest_dagster.sources.records import batches as batches
    from s3dest_dagster.storage import open_bucket as open_bucket
    from s3dest_dagster.stream import Scope as Scope
    from s3dest_dagster.stream import Stream as Stream
    from s3dest_dagster.stream import StreamId as StreamId
    from s3dest_dagster.stream import SyncMode as SyncMode

_ROOMS = {
    "AirbyteSource": "sources.airbyte",
    "AvroFormat": "destination",
    "ConfigFile": "sources.config_file",
    "CsvFormat": "destination",
    "FileSource": "sources.files",
    "JsonlFormat": "destination",
    "ParquetFormat": "destination",
    "S3Connection": "connection",
    "S3Destination": "destination",
    "S3DestinationComponent": "orchestration.components.component",
    "S3DestinationIOManager": "orchestration.io_manager",
    "S3DestinationTranslator": "orchestration.translator",
    "S3Resource": "orchestration.resource",
    "Scope": "stream",
    "Stream": "stream",
    "StreamId": "stream",
    "Sync": "landing",
    "SyncMode": "stream",
    "batches": "sources.records",
    "build_file_sensor": "orchestration.arrivals",
    "build_landing_checks": "orchestration.checks",
    "build_stream_assets": "orchestration.source_assets",
    "check": "landing",
    "land": "landing",
    "open_bucket": "storage",
    "open_target": "landing",
    "plan": "landing",
    "recover": "landing",
    "stream_asset": "orchestration.assets",
    "sweep": "landing",
    "verify": "landing",
}

__all__ = [
    "AirbyteSource",
    "AvroFormat",
    "ConfigFile",
    "CsvFormat",
    "FileSource",
    "JsonlFormat",
    "ParquetFormat",
    "S3Connection",
    "S3Destination",
    "S3DestinationComponent",
    "S3DestinationIOManager",
    "S3DestinationTranslator",
    "S3Resource",
    "Scope",
    "Stream",
    "StreamId",
    "Sync",
    "SyncMode",
    "batches",
    "build_file_sensor",
    "build_landing_checks",
    "build_stream_assets",
    "check",
    "land",
    "open_bucket",
    "open_target",
    "plan",
    "recover",
    "stream_asset",
    "sweep",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
