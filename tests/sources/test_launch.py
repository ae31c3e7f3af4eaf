"""A connector is an executable, a container image, or installed by PyAirbyte; each ends with its run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from fake_docker import FakeDocker
from scripted_source import ScriptedSource, is_soon_gone

from s3dest_dagster import AirbyteSource, DockerImage, PyAirbyteConnector
from s3dest_dagster.errors import MissingExtraError, SettingsError, SourceError
from s3dest_dagster.stream import Stream

IMAGE = "airbyte/source-shop:2.1.0"
USERS = [Stream(name="users")]


@pytest.fixture
def scripted(tmp_path) -> ScriptedSource:
    return ScriptedSource(tmp_path).stream("users").records("users", {"id": 1})


@pytest.fixture
def docker(tmp_path, scripted, monkeypatch) -> FakeDocker:
    installed = FakeDocker(tmp_path, scripted.command, label="2.1.7")
    monkeypatch.setenv("PATH", installed.path)
    return installed


def ids(source: AirbyteSource) -> list[bytes]:
    with source.read(USERS) as items:
        return [bytes(raw) for item in items for raw in item.batch.raws]


class TestImages:
    @pytest.mark.parametrize("command", [DockerImage(IMAGE), f"docker://{IMAGE}"])
    def test_an_image_is_read_twice_like_an_executable(self, scripted, docker, command):
        scripted.source()
        source = AirbyteSource(command, {"token": "hush-token"})
        assert source.spec()["connectionSpecification"] == {"type": "object"}
        for _ in range(2):
            assert ids(source) == [b'{"id": 1}']
        assert source.name == "source-shop"

    def test_the_files_are_private_and_the_container_may_only_read_them(self, scripted, docker):
        scripted.source()
        ids(AirbyteSource(DockerImage(IMAGE), {"token": "hush-token"}))
        (call,) = scripted.calls("read")
        assert set(call["modes"].values()) == {"0o600"}
        assert call["files"]["config"] == {"token": "hush-token"}
        arguments = docker.calls("run")[-1]
        directory = os.path.dirname(call["paths"][0])
        assert f"type=bind,source={directory},target={directory},readonly" in arguments
        assert arguments[arguments.index("--user") + 1] == f"{os.getuid()}:{os.getgid()}"

    def test_variables_reach_the_container_and_no_value_is_on_the_command_line(self, scripted, docker, monkeypatch):
        monkeypatch.setenv("OUTSIDE", "not for containers")
        scripted.stderr("").source()
        show = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
        (docker.directory / "settings.json").write_text(json.dumps({"command": show, "label": ""}))
        lines: list[str] = []
        source = AirbyteSource(DockerImage(IMAGE), env={"REGION_TOKEN": "hush-token", "REGION": "eu"})
        with pytest.raises(SourceError):
            source.spec(log=lambda level, text: lines.append(text))
        seen = json.loads(lines[0])
        assert (seen["REGION"], seen["REGION_TOKEN"]) == ("eu", "****")
        assert "OUTSIDE" not in seen
        assert "hush-token" not in " ".join(docker.calls("run")[-1])

    def test_options_and_another_user_are_passed_on(self, scripted, docker):
        scripted.source()
        ids(AirbyteSource(DockerImage(IMAGE, options=["--network=host"], user="0:0")))
        arguments = docker.calls("run")[-1]
        assert arguments[arguments.index("--user") + 1] == "0:0"
        assert arguments[arguments.index(IMAGE) - 1] == "--network=host"

    def test_a_container_that_ignores_sigterm_ends_with_the_run(self, scripted, docker):
        scripted.on("read").ignores_sigterm().generated("users", 20_000, text="x" * 100).sleeps(60)
        scripted.source()
        with AirbyteSource(DockerImage(IMAGE), stop_grace_s=0.2).read(USERS) as items:
            next(items)
        assert [is_soon_gone(pid) for pid in docker.containers()] == [True] * len(docker.containers())
        assert docker.calls("rm")[-1][:2] == ["rm", "--force"]

    def test_a_container_ends_if_the_process_that_reads_it_is_killed(self, scripted, docker, tmp_path):
        scripted.on("read").ignores_sigterm().generated("users", 20_000, text="x" * 100).sleeps(60)
        scripted.source()
        code = (
            "from s3dest_dagster import AirbyteSource, Stream\n"
            f"with AirbyteSource('docker://{IMAGE}', stop_grace_s=0.2).read([Stream(name='users')]) as items:\n"
            "    next(items)\n"
            "    print('reading', flush=True)\n"
            "    list(items)\n"
        )
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"reading\n"
            os.kill(reader.pid, signal.SIGKILL)
        assert [is_soon_gone(pid) for pid in docker.containers()] == [True] * len(docker.containers())

    def test_an_engine_that_is_missing_is_named(self):
        with pytest.raises(SettingsError, match="no-such-engine"):
            AirbyteSource(DockerImage(IMAGE, docker="no-such-engine")).spec()

    @pytest.mark.parametrize("image", ["", "--privileged"])
    def test_what_is_no_image_is_refused(self, image):
        with pytest.raises(SettingsError, match="no container image"):
            AirbyteSource(f"docker://{image}")


class TestVersions:
    @pytest.mark.parametrize(
        ("image", "version"),
        [
            ("airbyte/source-shop:2.1.0", "2.1.0"),
            ("registry:5000/airbyte/source-shop:2.1.0", "2.1.0"),
            ("airbyte/source-shop:2.1.0@sha256:0123", "2.1.0"),
            ("airbyte/source-shop:latest", None),
            ("registry:5000/airbyte/source-shop", None),
        ],
    )
    def test_the_tag_of_an_image_is_its_declared_version(self, image, version):
        assert DockerImage(image).declared_version() == version
        assert DockerImage(image).name == "source-shop"

    def test_the_label_of_an_image_is_its_reported_version(self, docker):
        assert DockerImage("airbyte/source-shop:latest").reported_version() == "2.1.7"

    def test_an_image_without_a_label_has_the_version_of_its_tag(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", FakeDocker(tmp_path, []).path)
        assert DockerImage(IMAGE).reported_version() == "2.1.0"

    def test_an_executable_has_the_version_of_its_package(self, tmp_path):
        script = installed(tmp_path, "source-shop", "3.0.1")
        assert AirbyteSource(str(script)).declared_version() == "3.0.1"
        assert AirbyteSource([sys.executable, str(script)]).declared_version() is None

    def test_a_script_that_links_to_its_environment_has_its_version(self, tmp_path):
        link = tmp_path / "source-shop"
        link.symlink_to(installed(tmp_path, "source-shop", "3.0.1"))
        assert AirbyteSource(str(link)).declared_version() == "3.0.1"


def installed(directory: Path, name: str, version: str) -> Path:
    """A script in an environment of its own, as an installer leaves it."""
    package = directory / "environment/lib/python3.12/site-packages/shop.dist-info"
    package.mkdir(parents=True)
    (package / "METADATA").write_text(f"Metadata-Version: 2.1\nName: shop\nVersion: {version}\n")
    (package / "entry_points.txt").write_text(f"[console_scripts]\n{name} = shop:main\n")
    script = directory / "environment/bin" / name
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    return script


PYAIRBYTE = """
import json, os, pathlib, time

def get_source(name, *, version, install_if_missing, install_root):
    with open(install_root / "calls", "a") as log:
        log.write(json.dumps([name, version, install_if_missing]) + "\\n")
    if name == "source-broken":
        raise RuntimeError("no such package")
    script = pathlib.Path(install_root) / f".venv-{name}" / "bin" / name
    if name != "source-manifest" and not script.exists():
        script.parent.mkdir(parents=True)
        script.write_text("#!/bin/sh\\nexec " + os.environ["INSTALLED"] + ' "$@"\\n')
        script.chmod(0o755)
"""


@pytest.fixture
def pyairbyte(tmp_path, scripted, monkeypatch) -> Path:
    """A package `airbyte` that installs the scripted connector. Returns the directory in which it installs."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages/airbyte.py").write_text(PYAIRBYTE)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.delitem(sys.modules, "airbyte", raising=False)
    monkeypatch.setenv("INSTALLED", " ".join(scripted.command))
    return tmp_path / "connectors"


class TestPyAirbyte:
    def test_a_connector_is_installed_and_read_twice(self, scripted, pyairbyte):
        scripted.source()
        source = AirbyteSource(PyAirbyteConnector("source-shop", version="2.1.0", install_root=pyairbyte))
        for _ in range(2):
            assert ids(source) == [b'{"id": 1}']
        calls = [json.loads(line) for line in (pyairbyte / "calls").read_text().splitlines()]
        assert calls[0] == ["source-shop", "2.1.0", True]

    def test_a_text_names_the_connector_and_its_version(self):
        source = AirbyteSource("pyairbyte://source-shop==2.1.0")
        assert source.command == PyAirbyteConnector("source-shop", version="2.1.0")
        assert (source.name, source.declared_version()) == ("source-shop", "2.1.0")

    def test_a_missing_pyairbyte_is_named_with_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "airbyte", None)
        with pytest.raises(MissingExtraError, match="pip install airbyte"):
            AirbyteSource("pyairbyte://source-shop").spec()

    @pytest.mark.parametrize(
        ("name", "words"), [("source-broken", "no such package"), ("source-manifest", "docker://")]
    )
    def test_an_installation_that_fails_says_what_to_do(self, pyairbyte, name, words):
        with pytest.raises(SourceError, match=words):
            AirbyteSource(PyAirbyteConnector(name, install_root=pyairbyte)).spec()
