"""The demo's folder is never somebody else's, and its connector is a real one where there is one."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from s3dest_dagster.errors import MissingExtraError, SettingsError, SourceError
from s3dest_dagster.local import demo
from s3dest_dagster.local.sample_source import COMMAND

TODAY = date(2026, 3, 10)


def test_a_temporary_folder_is_deleted():
    with demo.demo_folder(None) as folder:
        assert folder.dagster_home.is_dir()
    assert not folder.root.exists()


def test_a_kept_folder_stays_and_serves_the_next_demo(tmp_path):
    kept = tmp_path / "kept"
    for _ in range(2):
        with demo.demo_folder(kept) as folder:
            (folder.root / "object").write_text("landed")
    assert (kept / "object").read_text() == "landed"


@pytest.mark.parametrize(
    "make", [lambda p: (p / "mine").touch(), lambda p: (p.rmdir(), p.touch())], ids=["files", "file"]
)
def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path, make):
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(SettingsError, match=r"holds other files\. Name a folder that does not exist"),
        demo.demo_folder(folder),
    ):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_what_a_user_changed_in_the_kept_project_stays(tmp_path):
    for _ in range(2):
        with demo.demo_folder(tmp_path / "kept") as folder:
            demo.write_demo_project(folder, demo.connector(None), TODAY)
            definitions = folder.project / "shop" / "definitions.py"
            if "mine" in definitions.read_text():
                return
            definitions.write_text("# mine")
    pytest.fail("the project was written again")


def test_the_days_are_the_week_that_ends_yesterday():
    assert demo.days(TODAY) == ("2026-03-03", "2026-03-09")


def test_without_a_connector_the_sample_source_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo.connector(None).command == COMMAND


def connector(folder: Path, streams: list[str]) -> str:
    """An executable that lists these streams."""
    listed = ", ".join(f'{{"name": "{name}", "json_schema": {{}}}}' for name in streams)
    executable = folder / "source-faker"
    executable.write_text(f"""#!/bin/sh\necho '{{"type": "CATALOG", "catalog": {{"streams": [{listed}]}}}}'\n""")
    executable.chmod(0o700)
    return str(executable)


def test_a_connector_on_the_path_is_preferred(tmp_path, monkeypatch):
    connector(tmp_path, ["users", "products", "purchases"])
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert demo.connector(None).command == "source-faker"


def test_a_connector_without_the_streams_is_refused_by_name(tmp_path):
    with pytest.raises(SourceError, match=r"has no stream products, purchases\. The demo needs one like source-faker"):
        demo.connector(connector(tmp_path, ["users"]))


def test_a_missing_package_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setattr(demo, "_NEEDS", {"no-such-package": "no_such_package"})
    with pytest.raises(MissingExtraError, match=r"needs no-such-package.*s3dest-dagster\[demo\]"):
        demo.check_packages()
