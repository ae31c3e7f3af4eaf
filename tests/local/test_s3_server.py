"""The S3 server on this machine serves a folder, and leaves it as it is."""

from __future__ import annotations

import socket

import pytest

from s3dest_dagster import local_s3, open_bucket
from s3dest_dagster.errors import MissingExtraError, SettingsError
from s3dest_dagster.local import s3_server


def test_objects_are_plain_files_that_stay(tmp_path):
    for number in range(2):
        with local_s3(tmp_path, bucket="shop") as s3:
            open_bucket(s3.connection, "shop").put(f"lake/{number}.txt", b"one")
            assert s3.answers()
        assert not s3.answers()
    assert sorted(path.name for path in (tmp_path / "shop" / "lake").iterdir()) == ["0.txt", "1.txt"]


def test_two_servers_have_ports_of_their_own(tmp_path):
    with local_s3(tmp_path / "one") as one, local_s3(tmp_path / "other") as other:
        assert one.port != other.port


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(SettingsError, match=f"uses port {port} .* choose another port"),
            local_s3(tmp_path, port=port),
        ):
            pass


def test_a_missing_rclone_is_an_error_that_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(s3_server.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingExtraError, match=r"s3dest-dagster\[demo\]"), local_s3(tmp_path):
        pass
