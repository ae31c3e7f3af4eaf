"""Ceph's object gateway from Debian's packages: one monitor, one OSD in a file, and radosgw in front of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from real_servers.children import HOST, await_answer, child, free_ports, run
from servers import S3Server

_KEYS = ("radosgw-access-key", "radosgw-secret-key")
_CONF = """
[global]
fsid = {fsid}
mon host = v2:{host}:{mon_port}/0
public addr = {host}
cluster addr = {host}
ms bind msgr1 = false
auth cluster required = none
auth service required = none
auth client required = none
ms mon client mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail warn = 1
mon data avail crit = 1
run dir = {folder}
admin socket =
log file =
mon cluster log file =
log to stderr = true
err to stderr = true
[mon.a]
mon data = {folder}/mon
[osd.0]
osd data = {folder}/osd
osd objectstore = bluestore
bluestore block size = 10737418240
osd max object name len = 2048
[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast endpoint={host}:{rgw_port}
rgw thread pool size = 64
"""


def version() -> str:
    """As the program says."""
    return run(["radosgw", "--version"]).split()[2]


@contextmanager
def radosgw_server(folder: Path) -> Iterator[S3Server]:
    """A cluster of one node with its data in the folder."""
    mon_port, rgw_port = free_ports(2)
    fsid, osd, conf, log = str(uuid4()), str(uuid4()), folder / "ceph.conf", folder / "log"
    conf.write_text(_CONF.format(fsid=fsid, folder=folder, host=HOST, mon_port=mon_port, rgw_port=rgw_port))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()
    monmap = folder / "monmap"
    run(["monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:{HOST}:{mon_port}]", monmap])
    run(["ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", monmap])
    with ExitStack() as stack:

        def start(*command: str) -> None:
            processes.append(stack.enter_context(child([*command, "-c", str(conf), "-f"], log)))

        processes: list = []
        start("ceph-mon", "-i", "a")
        run(["ceph", "-c", conf, "osd", "new", osd])
        run(["ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", osd])
        start("ceph-osd", "-i", "0")
        of_user = ["--uid", "loader", "--display-name", "loader", "--access-key", _KEYS[0], "--secret-key", _KEYS[1]]
        run(["radosgw-admin", "-c", conf, "-n", "client.rgw.a", "user", "create", *of_user])
        start("radosgw", "-n", "client.rgw.a")
        server = S3Server(f"http://{HOST}:{rgw_port}", *_KEYS)

        await_answer(server, processes, log)
        yield server
