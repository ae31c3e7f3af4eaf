"""The five commands of the page on components, word for word, in an environment with nothing but what the page names.

It needs a package index, and the connector that `make connectors` installs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import duckdb
import pytest
from servers import rclone_server

from docs import pages

pytestmark = [pytest.mark.start, pytest.mark.timeout(1800)]

CONNECTORS = pages.ROOT / ".connectors" / "source-faker" / "bin"
KEYS = ("planets", "planets-secret")


@pytest.mark.skipif(not CONNECTORS.exists(), reason="make connectors has not been run")
def test_the_streams_of_a_connector_land_in_five_commands(installed: Path, tmp_path: Path):
    (block, *_) = pages.blocks("docs/yaml.md", "sh")
    commands = block.text.splitlines()
    assert len(commands) == 5
    root, folder = tmp_path / "lake", tmp_path / "folder"
    (root / "my-bucket").mkdir(parents=True)
    folder.mkdir()
    with rclone_server(root, KEYS) as server:
        variables = {
            "PATH": os.pathsep.join([str(installed), str(CONNECTORS), os.defpath]),
            "HOME": str(folder),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": server.endpoint,
            "AWS_ACCESS_KEY_ID": KEYS[0],
            "AWS_SECRET_ACCESS_KEY": KEYS[1],
        }
        for script in (block.text, f"cd my-lake\n{commands[-1]}"):
            shell = subprocess.run(
                ["bash", "-e", "-c", script], cwd=folder, env=variables, capture_output=True, text=True
            )
            assert shell.returncode == 0, shell.stdout + shell.stderr
            found = {path.parent.name: path for path in root.glob("my-bucket/lake/*/*.parquet")}
            assert set(found) == {"users", "products", "purchases"}
            files = f"{found['users'].parent}/*.parquet"
            counted = duckdb.sql(f"SELECT count(DISTINCT id), count(*) FROM '{files}'").fetchall()
            assert counted == [(1000, 1000)]
