"""A new project lands as it is written, and never overwrites anything."""

from __future__ import annotations

import importlib
import json
import re
import tomllib
from datetime import date
from pathlib import Path

import dagster as dg
import pytest
import yaml
from jsonschema import Draft202012Validator
from servers import S3Server

from s3dest_dagster.errors import SettingsError
from s3dest_dagster.local.project import Connector, project_files, write_project
from s3dest_dagster.local.s3_server import ACCESS_KEY_ID, SECRET_ACCESS_KEY

TODAY = date(2026, 3, 10)
DAY = "2026-03-03"


def files(name: str, *, python: bool = False) -> dict[str, str]:
    return project_files(name, TODAY, python=python, connector=Connector())


@pytest.mark.parametrize("python", [False, True], ids=["yaml", "python"])
def test_a_project_lands_a_day_twice_and_has_it_once(python, tmp_path, monkeypatch, rclone_s3: S3Server):
    name = f"project_in_{'python' if python else 'yaml'}"
    write_project(tmp_path, files(name, python=python))
    monkeypatch.syspath_prepend(tmp_path)
    bucket = rclone_s3.new_bucket()
    for variable, value in {
        "S3_BUCKET": bucket,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_S3": rclone_s3.endpoint,
        "AWS_ACCESS_KEY_ID": rclone_s3.access_key_id,
        "AWS_SECRET_ACCESS_KEY": rclone_s3.secret_access_key,
    }.items():
        monkeypatch.setenv(variable, value)
    defs = importlib.import_module(f"{name}.definitions").defs
    job = defs.resolve_implicit_global_asset_job_def()
    for _ in range(2):
        with dg.DagsterInstance.ephemeral() as instance:
            assert job.execute_in_process(partition_key=DAY, instance=instance).success
        lake = rclone_s3.root / bucket / "lake"
        landed = [path.relative_to(lake).parent.as_posix() for path in lake.glob("*/**/*.parquet")]
        assert sorted(landed) == ["products", f"purchases/day={DAY}", f"users/day={DAY}"]


def test_both_kinds_of_project_define_the_same_assets(tmp_path, monkeypatch):
    found = []
    for python in (False, True):
        name = f"same_{python}".lower()
        write_project(tmp_path / name, files(name, python=python))
        monkeypatch.syspath_prepend(tmp_path / name)
        defs = importlib.import_module(f"{name}.definitions").defs
        found.append(
            {
                (spec.key.to_user_string(), spec.group_name, str(spec.partitions_def))
                for spec in defs.resolve_all_asset_specs()
            }
        )
    assert found[0] == found[1]


def test_the_partitions_begin_a_week_ago():
    (first, second) = yaml.safe_load_all(files("shop")["shop/defs/shop/defs.yaml"])
    assert first["attributes"]["partitions_def"]["start_date"] == date(2026, 3, 3)
    assert "partitions_def" not in second["attributes"]


def test_the_streams_in_yaml_name_their_schema_for_editors_and_fit_it(tmp_path):
    write_project(tmp_path, files("shop"))
    streams = tmp_path / "shop" / "defs" / "shop" / "defs.yaml"
    named = re.match(r"# yaml-language-server: \$schema=(\S+)\n", streams.read_text())
    assert named is not None
    schema = Draft202012Validator(json.loads((streams.parent / named[1]).read_text()))
    for text in streams.read_text().split("\n---\n"):
        assert list(schema.iter_errors(as_editors_read(text))) == []
        assert list(schema.iter_errors(as_editors_read(text.replace("sync_mode:", "sync_mod:")))) != []


def as_editors_read(text: str) -> object:
    """To an editor, which reads YAML 1.2, a date is text."""
    return json.loads(json.dumps(yaml.safe_load(text), default=date.isoformat))


def test_the_environment_file_is_that_of_the_server_and_of_nothing_secret():
    pairs = dict(line.split("=") for line in files("shop")[".env"].splitlines() if not line.startswith("#"))
    assert (pairs["AWS_ACCESS_KEY_ID"], pairs["AWS_SECRET_ACCESS_KEY"]) == (ACCESS_KEY_ID, SECRET_ACCESS_KEY)
    assert pairs["AWS_ENDPOINT_URL_S3"].startswith("http://127.0.0.1:")


def test_files_are_valid_and_name_the_project_alone():
    for python in (False, True):
        written = files("shop", python=python)
        assert tomllib.loads(written["pyproject.toml"])["tool"]["dg"]["project"]["root_module"] == "shop"
        assert yaml.safe_load(written[".github/workflows/ci.yml"])["jobs"]
        written.pop(".s3dest/defs.schema.json", None)  # that of the library, as it is
        for path, text in written.items():
            assert not any(word in text + path for word in ("my_project", "FIRST_DAY", "COMMAND", "CONFIG")), path
            if path.endswith(".py"):
                compile(text, path, "exec")


@pytest.mark.parametrize("name", ["My-Project", "1st", "class", "", "a b"])
def test_a_name_that_no_package_can_have_is_refused(name):
    with pytest.raises(SettingsError, match="cannot be the name of a project"):
        files(name)


@pytest.mark.parametrize("existing", ["README.md", "shop/definitions.py", "pyproject.toml"])
def test_no_existing_file_is_overwritten_and_then_nothing_is_written(tmp_path, existing):
    (tmp_path / existing).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / existing).write_text("mine")
    with pytest.raises(SettingsError, match=f"has {existing} already. Nothing was written"):
        write_project(tmp_path, files("shop"))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_a_link_that_leads_nowhere_is_not_overwritten_either(tmp_path):
    (tmp_path / ".env").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SettingsError, match=r"has \.env already"):
        write_project(tmp_path, files("shop"))
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=f"cannot be written to {tmp_path / 'file'}"):
        write_project(tmp_path / "file", files("shop"))


def test_other_files_of_the_folder_stay(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write_project(tmp_path, files("shop"))
    assert Path(tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "shop" / "definitions.py").exists()
