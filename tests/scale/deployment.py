"""PostgreSQL, Redis and the processes of deploy/ on this machine, all of them children that end with the test.

The commands and settings are those of deploy/, but for addresses, and for times and numbers that would let a test last
for hours.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from real_servers.children import HOST, child, free_ports, run
from scale.packages import postgres_program

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
HOME_IN_IMAGE = "/opt/dagster/dagster_home"
BIN = Path(sys.executable).parent
START_TIMEOUT_S = 180


def await_answer(answers: Callable[[], bool], process: subprocess.Popen, log: Path, timeout_s: float) -> None:
    """Waits until `answers`, which may raise an OSError before that. Fails with the end of the log."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        assert process.poll() is None, f"{log.stem} ended at once: {log.read_text('utf-8', 'replace')[-3000:]}"
        try:
            if answers():
                return
        except OSError:
            pass
        time.sleep(0.2)
    raise AssertionError(f"{log.stem} did not answer within {timeout_s} s: {log.read_text('utf-8', 'replace')[-3000:]}")


# ---------------------------------------------------------------------- servers


@contextmanager
def postgres(logs: Path) -> Iterator[dict[str, str]]:
    """PostgreSQL on loopback, in a folder of its own. Yields the variables of deploy/dagster.yaml."""
    (port,), password = free_ports(1), secrets.token_hex(8)
    # Not below pytest's folder, into which only its owner may look: PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="s3dest-postgres-"))
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT"]
    (folder / "password").write_text(password)
    initdb = [*as_user, postgres_program("initdb"), "--pgdata", folder / "data", "--username", "dagster"]
    try:
        run([*initdb, "--auth", "scram-sha-256", "--pwfile", folder / "password", "--no-sync"])
        server = [*as_user, postgres_program("postgres"), "-D", folder / "data", "-p", port, "-k", folder, "-F"]
        with child(
            [*server, "-c", f"listen_addresses={HOST}", "-c", "max_connections=200"], logs / "postgres.log"
        ) as it:
            try:
                log = logs / "postgres.log"
                await_answer(lambda: "ready to accept connections" in log.read_text(), it, log, START_TIMEOUT_S)
                variables = {
                    "HOST": HOST,
                    "PORT": str(port),
                    "USERNAME": "dagster",
                    "PASSWORD": password,
                    "DB": "postgres",
                }
                yield {f"DAGSTER_PG_{name}": value for name, value in variables.items()}
            finally:
                it.send_signal(signal.SIGINT)  # ends its children, too
                it.wait(timeout=30)
    finally:
        shutil.rmtree(folder)


@contextmanager
def redis_server(logs: Path) -> Iterator[dict[str, str]]:
    """Redis on loopback, with the options of deploy/compose.yaml. Yields the variables of dagster_celery_config.py."""
    (port,) = free_ports(1)
    options = compose()["services"]["redis"]["command"]
    with child([*options, "--bind", HOST, "--port", port, "--dir", logs], logs / "redis.log") as it:
        log = logs / "redis.log"
        await_answer(lambda: "Ready to accept connections" in log.read_text(), it, log, START_TIMEOUT_S)
        url = f"redis://{HOST}:{port}"
        yield {"CELERY_BROKER_URL": f"{url}/0", "CELERY_RESULT_BACKEND": f"{url}/1"}


# ---------------------------------------------------------------------- Dagster


def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))


def new_home(home: Path, *, max_runtime_s: int, runs: int, slots: int) -> None:
    """deploy/dagster.yaml with other times and numbers, and deploy/workspace.yaml."""
    settings = yaml.safe_load((DEPLOY / "dagster.yaml").read_text("utf-8"))
    settings["run_monitoring"] |= {"max_runtime_seconds": max_runtime_s, "poll_interval_seconds": 5}
    settings["concurrency"]["runs"]["max_concurrent_runs"] = runs
    settings["concurrency"]["pools"]["default_limit"] = slots
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(DEPLOY / "workspace.yaml", home)


def short_visibility(folder: Path, seconds: int) -> Path:
    """A folder for PYTHONPATH in which deploy/dagster_celery_config.py has another visibility timeout."""
    text = (DEPLOY / "dagster_celery_config.py").read_text("utf-8")
    assert text.count('{"visibility_timeout": 21600}') == 2
    folder.mkdir()
    changed = text.replace('{"visibility_timeout": 21600}', f'{{"visibility_timeout": {seconds}}}')
    (folder / "dagster_celery_config.py").write_text(changed)
    return folder


@dataclass
class Deployment:
    """The running processes, and Dagster's web interface as a person's browser asks it."""

    environment: Mapping[str, str]
    home: Path
    logs: Path
    url: str
    running: ExitStack

    def start(self, name: str, service: str, *, instead: Mapping[str, str] | None = None) -> subprocess.Popen:
        """Starts a service of the compose file by its command, in which words are replaced."""
        words = {HOME_IN_IMAGE + "/workspace.yaml": str(self.home / "workspace.yaml"), **(instead or {})}
        command = [words.get(word, word) for word in compose()["services"][service]["command"]]
        program, *arguments = " ".join(command).split()
        return self.running.enter_context(
            child([BIN / program, *arguments], self.logs / f"{name}.log", dict(self.environment))
        )

    def start_worker(self, name: str, *, processes: int) -> subprocess.Popen:
        """Starts a celery worker with this many processes, as on a machine of its own."""
        return self.start(name, "worker", instead={"4": str(processes), "worker": f"worker --hostname {name}@%h"})

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The answer of the web interface to a GraphQL query."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            found = json.load(answer)
        assert "errors" not in found, found["errors"]
        return found["data"]


@contextmanager
def deployment(environment: Mapping[str, str], home: Path, logs: Path, source: Path) -> Iterator[Deployment]:
    """The code location in `source`, the daemon and the web interface. Workers are started by the test."""
    code_port, web_port = free_ports(2)
    environment = {
        **environment,
        "DAGSTER_HOME": str(home),
        "LAKE_CODE_HOST": HOST,
        "LAKE_CODE_PORT": str(code_port),
        "LAKE_EXECUTOR": "celery",
    }
    with ExitStack() as running:
        code_command = [BIN / "dagster", "api", "grpc", "--host", HOST, "--port", code_port, "--python-file", source]
        code = running.enter_context(child([*code_command, "--location-name", "lake"], logs / "code.log", environment))
        health = [BIN / "dagster", "api", "grpc-health-check", "--port", str(code_port)]
        await_answer(
            lambda: subprocess.run(health, capture_output=True, env=environment).returncode == 0,
            code,
            logs / "code.log",
            START_TIMEOUT_S,
        )
        made = Deployment(environment, home, logs, f"http://{HOST}:{web_port}", running)
        web = made.start("webserver", "webserver", instead={"0.0.0.0": HOST, "3000": str(web_port)})
        await_answer(lambda: _answers(made.url), web, logs / "webserver.log", START_TIMEOUT_S)
        made.start("daemon", "daemon")
        yield made


def _answers(url: str) -> bool:
    with urllib.request.urlopen(f"{url}/server_info", timeout=10) as answer:
        return answer.status == 200
