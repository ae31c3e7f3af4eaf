"""A run is interrupted while it lands: by Ctrl-C, or by the signal of a container orchestrator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from fault_proxy import Fault, fault_proxy
from scripted_source import ScriptedSource, is_running, is_soon_gone


def test_an_interrupted_run_leaves_neither_objects_nor_uploads(lake, tmp_path):
    begun = tmp_path / "begun"
    server = lake.server
    arguments = [lake.bucket, server.endpoint, server.access_key_id, server.secret_access_key, str(begun)]
    script = Path(__file__).with_name("interrupted_run.py")
    process = subprocess.Popen([sys.executable, str(script), *arguments], stderr=subprocess.DEVNULL)
    try:
        while not begun.exists():
            assert process.poll() is None
            time.sleep(0.05)
        assert lake.uploads() > 0
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
        process.wait()
    # The abilities of the server are known from now on, and the names of the columns are reserved.
    assert lake.all_keys() == ["_s3dest/server.json", "_s3dest/~/endless/~stream.json"]
    assert lake.uploads() == 0


def test_an_interrupted_run_ends_a_stubborn_connector_though_the_server_hangs(lake, tmp_path):
    """The connector and its child ignore SIGTERM, and S3 answers neither parts nor aborts. The run waits for none of
    them."""
    begun, child = tmp_path / "begun", tmp_path / "child"
    scripted = ScriptedSource(tmp_path).ignores_sigterm().spawns_grandchild(child)
    scripted.generated("users", 70_000, text=os.urandom(60).hex()).touches(begun).sleeps(600).source()
    with fault_proxy(lake.server) as proxy:
        proxy.always(Fault.HANG, "UploadPart", "AbortMultipartUpload")
        server = proxy.server
        arguments = [lake.bucket, server.endpoint, server.access_key_id, server.secret_access_key, str(scripted.path)]
        script = Path(__file__).with_name("interrupted_connector.py")
        process = subprocess.Popen([sys.executable, str(script), *arguments], stderr=subprocess.DEVNULL)
        try:
            while "UploadPart" not in proxy.calls or not begun.exists():
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) != 0
        finally:
            process.kill()
            process.wait()
    assert not is_running(scripted.calls("read")[0]["pid"])
    assert is_soon_gone(int(child.read_text()))
    # The server hangs while its abilities are probed. The sweep deletes what the probe left behind.
    assert [key for key in lake.all_keys() if not key.startswith("_s3dest/~probe-")] == []
