"""A run that is interrupted while it lands: Ctrl-C, and what an orchestrator of containers sends."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_neither_objects_nor_uploads(lake, tmp_path, sent):
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
        process.send_signal(sent)
        assert process.wait(timeout=60) != 0
    finally:
        process.kill()
        process.wait()
    assert lake.all_keys() == []
    assert lake.uploads() == 0
