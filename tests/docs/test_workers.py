"""What the page of shells, Kubernetes jobs and Pipes shows works. Its shell is run with the other pages' commands."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from land_and_read import destination, open_uploads, stream, sync, target
from servers import S3Server

from docs import pages
from s3dest_dagster import S3DestinationIOManager
from s3dest_dagster.shards import ShardReceipt, begin

PAGE = "docs/engines/commands.md"


@pytest.fixture
def identity(moto_s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity that the machine has."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", moto_s3.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", moto_s3.secret_access_key)


@pytest.mark.usefixtures("identity")
def test_processes_that_pipes_starts_land_one_sync(
    moto_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = {block.name: block.text for block in pages.blocks(PAGE, "py")}
    (tmp_path / "worker.py").write_text(texts["worker.py"])
    names: dict[str, Any] = {"__name__": "definitions"}
    exec(compile(texts["definitions.py"], "definitions.py", "exec", dont_inherit=True), names)
    names["SHARDS"] = range(2)  # of the page's four, since each starts Python and imports Dagster
    bucket = moto_s3.new_bucket()
    lake = S3DestinationIOManager(s3_bucket_name=bucket, s3=moto_s3.connection)
    result = dg.materialize([names["orders"]], resources={**names["defs"].resources, "lake": lake})
    (event,) = result.get_asset_materialization_events()
    assert event.materialization.metadata["dagster/row_count"].value == 50
    assert open_uploads(moto_s3, bucket) == 0


@pytest.mark.usefixtures("identity")
def test_a_pod_of_the_job_prints_its_receipt_and_nothing_else(moto_s3: S3Server, tmp_path: Path) -> None:
    (block,) = pages.blocks(PAGE, "yaml")
    job = yaml.safe_load(block.text)
    assert job["spec"]["completionMode"] == "Indexed"
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {each["name"] for each in container["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    (text,) = [each.text for each in pages.blocks(PAGE, "text")]
    commit = shlex.split(text.splitlines()[-1])
    assert commit[commit.index("--shards") + 1] == str(job["spec"]["completions"])

    settings = destination(moto_s3.new_bucket())
    with target(moto_s3, settings) as opened:
        (tmp_path / "order.json").write_text(begin(opened, stream(), sync("first")).to_json())
    (tmp_path / "part-3.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    script = container["args"][0]
    for there, here in (("/order/", f"{tmp_path}/"), ("/data/", f"{tmp_path}/"), ("/dev/", f"{tmp_path}/")):
        script = script.replace(there, here)
    environment = {**os.environ, "JOB_COMPLETION_INDEX": "3"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run([*container["command"], script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (tmp_path / "termination-log").read_text()
    receipt = ShardReceipt.from_json(done.stdout)
    assert (receipt.shard, receipt.rows, done.stderr) == ("3", 2, "")
