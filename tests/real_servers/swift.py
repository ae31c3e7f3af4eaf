"""OpenStack Swift with its S3 interface, from Debian's packages: a proxy in front of one server of each kind."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from real_servers.children import HOST, await_answer, child, free_ports, run
from servers import S3Server

KINDS = ("object", "container", "account")
_KEYS = ("test:loader", "swift-secret-key")
_STORE = """
[DEFAULT]
bind_ip = {host}
bind_port = {port}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
workers = 0
user = {user}
log_level = WARNING
fallocate_reserve = 0
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""
_PROXY = """
[DEFAULT]
bind_ip = {host}
bind_port = {port}
swift_dir = {folder}
workers = 0
user = {user}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper cache bulk s3api tempauth slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:cache]
use = egg:swift#memcache
memcache_servers = {host}:1
[filter:bulk]
use = egg:swift#bulk
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_loader = {secret} .admin
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
[filter:versioned_writes]
use = egg:swift#versioned_writes
allow_versioned_writes = true
"""


def version() -> str:
    """As Debian says."""
    return run(["dpkg-query", "--show", "--showformat", "${Version}", "swift-proxy"]).split("-")[0]


@contextmanager
def swift_server(folder: Path) -> Iterator[S3Server]:
    """A cluster of one node with its data in the folder."""
    *stores, proxy = free_ports(len(KINDS) + 1)
    log, common = folder / "log", {"host": HOST, "folder": folder, "user": getpass.getuser(), "secret": _KEYS[1]}
    (folder / "devices" / "d1").mkdir(parents=True)
    (folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = tests\n")
    for kind, port in zip(KINDS, stores, strict=True):
        (folder / f"{kind}-server.conf").write_text(_STORE.format(kind=kind, port=port, **common))
        ring = ["swift-ring-builder", folder / f"{kind}.builder"]
        run([*ring, "create", "2", "1", "0"])
        run([*ring, "add", f"r1z1-{HOST}:{port}/d1", "1"])
        run([*ring, "rebalance"])
    (folder / "proxy-server.conf").write_text(_PROXY.format(port=proxy, **common))
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                child([f"swift-{kind}-server", folder / f"{kind}-server.conf"], log, {"SWIFT_DIR": str(folder)})
            )
            for kind in (*KINDS, "proxy")
        ]
        server = S3Server(f"http://{HOST}:{proxy}", *_KEYS)
        await_answer(server, processes, log)
        yield server
