"""The wheel contains the library and nothing of this project."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILT_FROM = ["pyproject.toml", "setup.py", "README.md", "LICENSE", "s3dest_dagster", "assets", "resources", "tests"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The names in a wheel that is built from a copy, so nothing is left behind in the project."""
    copy, built = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("wheel")
    for name in BUILT_FROM:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(built)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True, capture_output=True)
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        return archive.namelist()


def test_the_wheel_contains_every_module_of_the_library(wheel):
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "s3dest_dagster").rglob("*.py")}
    assert modules - {"s3dest_dagster/definitions.py"} == {name for name in wheel if name.endswith(".py")}


def test_the_wheel_contains_only_the_library_its_licence_and_its_type_marker(wheel):
    assert {name.split("/")[0].partition("-")[0] for name in wheel} == {"s3dest_dagster"}
    assert any(name.endswith("/LICENSE") for name in wheel)
    assert "s3dest_dagster/py.typed" in wheel


def test_the_wheel_contains_the_files_of_a_new_project(wheel):
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "s3dest_dagster/local/templates").iterdir()}
    assert templates <= set(wheel)
