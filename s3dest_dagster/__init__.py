"""Lands streams of records in S3 from Dagster: either all records become visible, or none do.

Every public name is available here and is imported on first use: `import s3dest_dagster` imports neither Dagster nor
boto3.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from s3dest_dagster.settings.formats import __all__ as _FORMATS

if TYPE_CHECKING:
    from s3dest_dagster.commit.maintenance import recover as recover
    from s3dest_dagster.commit.maintenance import sweep as sweep
    from s3dest_dagster.dagster.assets import stream_asset as stream_asset
    from s3dest_dagster.dagster.checks import build_landing_checks as build_landing_checks
    from s3dest_dagster.dagster.component.component import S3DestinationComponent as S3DestinationComponent
    from s3dest_dagster.dagster.connector_assets import build_stream_assets as build_stream_assets
    from s3dest_dagster.dagster.connector_assets import connector_assets as connector_assets
    from s3dest_dagster.dagster.file_sensor import build_file_sensor as build_file_sensor
    from s3dest_dagster.dagster.io_manager import S3DestinationIOManager as S3DestinationIOManager
    from s3dest_dagster.dagster.resource import S3Resource as S3Resource
    from s3dest_dagster.dagster.run_config import StreamRunConfig as StreamRunConfig
    from s3dest_dagster.dagster.sharded_asset import sharded_stream_asset as sharded_stream_asset
    from s3dest_dagster.dagster.translator import S3DestinationTranslator as S3DestinationTranslator
    from s3dest_dagster.ingest.landing import land as land
    from s3dest_dagster.ingest.target import open_target as open_target
    from s3dest_dagster.inspection.check import check as check
    from s3dest_dagster.inspection.plan import plan as plan
    from s3dest_dagster.inspection.stream_reader import StreamReader as StreamReader
    from s3dest_dagster.inspection.stream_reader import read as read
    from s3dest_dagster.inspection.verify import verify as verify
    from s3dest_dagster.local.s3_server import local_s3 as local_s3
    from s3dest_dagster.settings.connection import S3Connection as S3Connection
    from s3dest_dagster.settings.destination import S3Destination as S3Destination
    from s3dest_dagster.settings.formats import *  # noqa: F403
    from s3dest_dagster.settings.stream_settings import FieldSelection as FieldSelection
    from s3dest_dagster.settings.stream_settings import StreamSettings as StreamSettings
    from s3dest_dagster.sources.airbyte.config import ConfigFile as ConfigFile
    from s3dest_dagster.sources.airbyte.connector import AirbyteSource as AirbyteSource
    from s3dest_dagster.sources.airbyte.launch import DockerImage as DockerImage
    from s3dest_dagster.sources.airbyte.launch import PyAirbyteConnector as PyAirbyteConnector
    from s3dest_dagster.sources.files import FileSource as FileSource
    from s3dest_dagster.sources.python import batches as batches
    from s3dest_dagster.sources.sql.source import SqlSource as SqlSource
    from s3dest_dagster.storage import open_bucket as open_bucket
    from s3dest_dagster.stream import Generation as Generation
    from s3dest_dagster.stream import Scope as Scope
    from s3dest_dagster.stream import Stream as Stream
    from s3dest_dagster.stream import StreamId as StreamId
    from s3dest_dagster.stream import Sync as Sync
    from s3dest_dagster.stream import SyncMode as SyncMode

_MODULES = {
    "AirbyteSource": "sources.airbyte.connector",
    "ConfigFile": "sources.airbyte.config",
    "DockerImage": "sources.airbyte.launch",
    "FieldSelection": "settings.stream_settings",
    "FileSource": "sources.files",
    "Generation": "stream",
    "PyAirbyteConnector": "sources.airbyte.launch",
    "S3Connection": "settings.connection",
    "S3Destination": "settings.destination",
    "S3DestinationComponent": "dagster.component.component",
    "S3DestinationIOManager": "dagster.io_manager",
    "S3DestinationTranslator": "dagster.translator",
    "S3Resource": "dagster.resource",
    "Scope": "stream",
    "SqlSource": "sources.sql.source",
    "Stream": "stream",
    "StreamId": "stream",
    "StreamReader": "inspection.stream_reader",
    "StreamRunConfig": "dagster.run_config",
    "StreamSettings": "settings.stream_settings",
    "Sync": "stream",
    "SyncMode": "stream",
    "batches": "sources.python",
    "build_file_sensor": "dagster.file_sensor",
    "build_landing_checks": "dagster.checks",
    "build_stream_assets": "dagster.connector_assets",
    "check": "inspection.check",
    "connector_assets": "dagster.connector_assets",
    "land": "ingest.landing",
    "local_s3": "local.s3_server",
    "open_bucket": "storage",
    "open_target": "ingest.target",
    "plan": "inspection.plan",
    "read": "inspection.stream_reader",
    "recover": "commit.maintenance",
    "sharded_stream_asset": "dagster.sharded_asset",
    "stream_asset": "dagster.assets",
    "sweep": "commit.maintenance",
    "verify": "inspection.verify",
    **dict.fromkeys(_FORMATS, "settings.formats"),
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
