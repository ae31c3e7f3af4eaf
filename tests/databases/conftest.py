"""Fixtures: PostgreSQL and MariaDB on loopback, each in a folder of its own, for as long as the tests run."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from real_servers.children import HOST, child, free_ports, run
from scale.deployment import START_TIMEOUT_S, await_answer, postgres

Database = Callable[..., str]


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """Executes statements in PostgreSQL, and returns its URI."""
    adbc = pytest.importorskip("adbc_driver_postgresql.dbapi")
    with postgres(tmp_path_factory.mktemp("postgres")) as server:
        named = {name.removeprefix("DAGSTER_PG_").lower(): value for name, value in server.items()}
        uri = "postgresql://{username}:{password}@{host}:{port}/{db}".format(**named)

        def execute(*statements: str) -> str:
            with adbc.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            return uri

        yield execute


@pytest.fixture(scope="session")
def mariadb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """The same for MariaDB."""
    pytest.importorskip("connectorx")
    (port,), password, logs = free_ports(1), secrets.token_hex(8), tmp_path_factory.mktemp("mariadb")
    # Not below pytest's folder, into which only its owner may look: the server does not run as root.
    folder = Path(tempfile.mkdtemp(prefix="s3dest-mariadb-"))
    shutil.chown(folder, "mysql")
    socket = folder / "socket"
    try:
        run(["mariadb-install-db", "--user=mysql", f"--datadir={folder / 'data'}", "--skip-test-db"])
        options = [f"--datadir={folder / 'data'}", f"--port={port}", f"--bind-address={HOST}", f"--socket={socket}"]
        with child(["mariadbd", "--no-defaults", "--user=mysql", *options], logs / "mariadb.log") as server:
            log = logs / "mariadb.log"
            await_answer(lambda: "ready for connections" in log.read_text(), server, log, START_TIMEOUT_S)

            def execute(*statements: str, database: str = "shop") -> str:
                client = ["mariadb", "--no-defaults", f"--socket={socket}", "--user=root", database]
                subprocess.run(client, input=";\n".join(statements) + ";", text=True, check=True)
                return f"mysql://reader:{password}@{HOST}:{port}/shop"

            grant = f"grant select on shop.* to 'reader'@'{HOST}' identified by '{password}'"
            execute("create database shop character set utf8mb4", grant, database="mysql")
            yield execute
    finally:
        shutil.rmtree(folder)
