"""The wheel and the source distribution contain the library and nothing of this project, and describe it rightly."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "s3dest_dagster"
BUILT_FROM = [
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "s3dest_dagster",
    "assets",
    "resources",
    "tests",
]
BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"


@dataclass(frozen=True)
class Built:
    """The names in both files, and the wheel's metadata."""

    wheel: list[str]
    sdist: list[str]
    metadata: Metadata


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project, so that nothing is left behind in it. It is no clone: git knows nothing of it."""
    copy = tmp_path_factory.mktemp("project")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    return copy


@pytest.fixture(scope="module")
def built(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What is built from the copy, with what is installed here."""
    folder = tmp_path_factory.mktemp("built")
    for step in ("build_sdist", "build_wheel"):
        subprocess.run([sys.executable, "-c", BUILD, step, str(folder)], cwd=project, check=True, capture_output=True)
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        sdist = [name.partition("/")[2] for name in archive.getnames()]
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        names = archive.namelist()
        (described,) = (name for name in names if name.endswith(".dist-info/METADATA"))
        return Built(names, sdist, Metadata.from_email(archive.read(described)))


def modules() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py")} - {"s3dest_dagster/definitions.py"}


def test_the_wheel_contains_every_module_of_the_library(built):
    assert modules() == {name for name in built.wheel if name.endswith(".py")}


def test_the_wheel_contains_only_the_library_its_licence_and_its_type_marker(built):
    assert {name.split("/")[0].partition("-")[0] for name in built.wheel} == {"s3dest_dagster"}
    assert any(name.endswith("/LICENSE") for name in built.wheel)
    assert "s3dest_dagster/py.typed" in built.wheel


def test_the_source_distribution_builds_the_same_and_has_no_tests(built):
    assert modules() == {name for name in built.sdist if name.startswith("s3dest_dagster/") and name.endswith(".py")}
    assert {"LICENSE", "README.md", "pyproject.toml", "s3dest_dagster/py.typed", "setup.py"} <= set(built.sdist)
    assert [name for name in built.sdist if name.split("/")[0] in ("assets", "resources", "tests")] == []


def test_both_contain_the_files_of_a_new_project(built):
    templates = {path.relative_to(ROOT).as_posix() for path in (PACKAGE / "local" / "templates").iterdir()}
    assert templates <= set(built.wheel)
    assert templates <= set(built.sdist)


def test_the_metadata_are_valid_and_complete(built):
    """`Metadata` refuses values that a package index refuses."""
    assert built.metadata.license_expression == "Apache-2.0"
    assert built.metadata.license_files == ["LICENSE"]
    assert built.metadata.summary
    assert built.metadata.description == (ROOT / "README.md").read_text("utf-8")
    assert built.metadata.description_content_type == "text/markdown"
    assert {"demo", "duckdb", "ui"} <= set(built.metadata.provides_extra or ())


def test_the_description_has_whole_links_if_the_repository_is_known(project, tmp_path):
    repository = "https://github.com/you/s3dest"
    environment = {**os.environ, "S3DEST_REPOSITORY": f"{repository}/"}
    command = [sys.executable, "-c", BUILD, "prepare_metadata_for_build_wheel", str(tmp_path)]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
    (described,) = tmp_path.glob("*.dist-info/METADATA")
    description = Metadata.from_email(described.read_bytes()).description or ""
    links = re.findall(r"\]\(([^)]+)\)", description)
    assert f"{repository}/blob/v0.1.0/docs/start.md" in links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    pictures = re.findall(r'src(?:set)?="([^"]+)"', description)
    assert f"{repository}/raw/v0.1.0/docs/images/asset.png" in pictures
    assert [picture for picture in pictures if not picture.startswith("https://")] == []


def test_without_git_the_version_is_one_that_can_be_installed(built):
    assert str(built.metadata.version) == "0.1.0"


@pytest.mark.parametrize(
    ("commits_after", "version"), [(0, "1.2.3"), (2, "1.2.4.dev2")], ids=["at the tag", "after it"]
)
def test_the_version_comes_from_the_tag(tmp_path, commits_after, version):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]

    def git(*arguments: str) -> None:
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "--message", "first")
    git("tag", "v1.2.3")
    for _ in range(commits_after):
        git("commit", "--quiet", "--allow-empty", "--message", "next")
    asked = subprocess.run(
        [sys.executable, "-m", "setuptools_scm"], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert asked.stdout.split()[-1] == version
