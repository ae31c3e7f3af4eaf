"""Readers that are large to install. Opt-in: `make test-readers` installs Spark, and needs a JDK, 17 or newer."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent


@pytest.fixture(scope="session")
def jars() -> Path:
    """Where pyspark keeps the Java libraries, Apache Avro's among them."""
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        pytest.skip("pyspark is not installed; `make test-readers` brings it")
    if shutil.which("javac") is None:
        pytest.skip("a JDK is not installed: javac is not on the path")
    return Path(found.origin).parent / "jars"


@pytest.fixture(scope="session")
def compiled(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Compiles a Java source next to the tests, and returns the folder of its classes."""

    def compile_source(name: str) -> Path:
        classes = tmp_path_factory.mktemp("classes")
        subprocess.run(["javac", "-cp", f"{jars}/*", "-d", str(classes), str(SOURCES / name)], check=True)
        return classes

    return compile_source


@pytest.fixture(scope="session")
def spark(jars: Path, compiled: Callable[[str], Path]) -> Iterator[object]:
    """A Spark session whose LZO codec is aircompressor's."""
    from pyspark.sql import SparkSession

    options = {
        "spark.driver.extraClassPath": str(compiled("LzoCodec.java")),
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.sql.session.timeZone": "UTC",
    }
    builder = SparkSession.builder.master("local[2]")
    for name, value in options.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    yield session
    session.stop()
