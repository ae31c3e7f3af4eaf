"""`init` writes a project, and `serve` serves a folder until a signal comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from s3dest_dagster.local.s3_server import LocalS3


def test_init_writes_a_project_and_says_how_to_go_on(lake):
    answer = lake.run("init", str(lake.folder / "my_project"))
    assert answer.returncode == 0
    assert (lake.folder / "my_project" / "my_project" / "defs" / "shop" / "defs.yaml").exists()
    assert "s3dest serve lake --port 9710" in answer.stdout
    assert "my_project/README.md says how to go on" in answer.stdout


def test_a_second_init_is_refused_and_changes_nothing(lake):
    assert lake.run("init", str(lake.folder / "my_project"), "--python").returncode == 0
    readme = lake.folder / "my_project" / "README.md"
    readme.write_text("mine")
    answer = lake.run("init", str(lake.folder / "my_project"))
    assert answer.returncode == 2
    assert "already. Nothing was written" in answer.stderr
    assert readme.read_text() == "mine"
    assert not (lake.folder / "my_project" / "my_project" / "defs" / "shop" / "defs.yaml").exists()


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)], ids=["ctrl-c", "sigterm"])
def test_serve_prints_the_variables_and_ends_with_its_server(stop, code, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "s3dest_dagster.cli", "serve", str(tmp_path / "lake"), "--bucket", "shop"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ,
    )
    printed = [process.stdout.readline() for _ in range(6)]
    variables = dict(line.removeprefix("export ").strip().split("=") for line in printed[1:])
    port = int(variables["AWS_ENDPOINT_URL_S3"].rpartition(":")[2])
    server = LocalS3(tmp_path / "lake", variables["S3_BUCKET"], port)
    assert server.answers()
    process.send_signal(stop)
    assert process.wait(timeout=60) == code
    process.stdout.close()
    assert not server.answers()
    assert (tmp_path / "lake" / "shop").is_dir()
