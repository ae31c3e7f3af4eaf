"""The files in deploy/ are correct, as far as can be said without Docker, a cluster and servers.

`make test-scale` starts what they start.
"""

from __future__ import annotations

import ast
import copy
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from dagster._core.errors import DagsterInvalidConfigError
from dagster._core.instance.config import dagster_instance_config
from dagster._core.workspace.load import location_origins_from_yaml_paths
from jsonschema import Draft202012Validator

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
HOURS = 3600


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text("utf-8")


def yaml_of(name: str) -> dict[str, Any]:
    return yaml.safe_load(text_of(name))


def instance_config(settings: dict[str, Any], home: Path) -> dict[str, Any]:
    """What Dagster makes of a dagster.yaml, without a server."""
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    return dict(dagster_instance_config(str(home))[0])


def celery_config(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of deploy/dagster_celery_config.py."""
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://redis:6379/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "redis://redis:6379/1")
    names: dict[str, Any] = {}
    exec(compile(text_of("dagster_celery_config.py"), "dagster_celery_config.py", "exec"), names)
    return names


# ---------------------------------------------------------------------- dagster.yaml and celery


def test_dagster_accepts_the_instance(tmp_path):
    settings = yaml_of("dagster.yaml")
    assert instance_config(settings, tmp_path)["run_monitoring"]["max_runtime_seconds"] == 4 * HOURS
    settings["run_monitoring"]["max_runtime"] = settings["run_monitoring"].pop("max_runtime_seconds")
    with pytest.raises(DagsterInvalidConfigError, match="max_runtime"):
        instance_config(settings, tmp_path)


def test_the_instance_outlives_lost_workers():
    settings = yaml_of("dagster.yaml")
    assert settings["storage"]["postgres"]["postgres_db"]["scheme"] == "postgresql+psycopg2"
    assert settings["run_monitoring"]["enabled"] is settings["run_retries"]["enabled"] is True
    assert settings["run_monitoring"]["max_runtime_seconds"] > 0
    assert settings["run_retries"]["max_retries"] > 0
    assert settings["concurrency"]["pools"]["granularity"] == "run"


def test_workers_and_runs_agree_and_no_step_is_delivered_twice_while_its_run_waits(monkeypatch):
    settings, monitoring = celery_config(monkeypatch), yaml_of("dagster.yaml")["run_monitoring"]
    assert settings["task_acks_late"] is settings["task_reject_on_worker_lost"] is True
    assert settings["worker_prefetch_multiplier"] == 1
    visible_after = settings["broker_transport_options"]["visibility_timeout"]
    ended_after = sum(monitoring[f"{name}_seconds"] for name in ("max_runtime", "cancel_timeout", "poll_interval"))
    assert visible_after > ended_after
    executor = settings["EXECUTOR_CONFIG"]
    assert (executor["broker"], executor["backend"]) == ("redis://redis:6379/0", "redis://redis:6379/1")
    assert all(settings[name] == value for name, value in executor["config_source"].items())


def test_no_run_waits_for_a_worker():
    worker = yaml_of("compose.yaml")["services"]["worker"]
    processes = int(worker["command"][worker["command"].index("--concurrency") + 1])
    runs = yaml_of("dagster.yaml")["concurrency"]["runs"]["max_concurrent_runs"]
    assert runs <= worker["deploy"]["replicas"] * processes


# ---------------------------------------------------------------------- compose.yaml


def environment_of(service: str) -> dict[str, str]:
    return yaml_of("compose.yaml")["services"][service]["environment"]


def test_compose_starts_one_of_each_and_two_workers():
    services = yaml_of("compose.yaml")["services"]
    assert list(services) == ["postgres", "redis", "code", "webserver", "daemon", "worker"]
    assert services["worker"]["deploy"]["replicas"] == 2
    for service in services.values():
        assert set(service.get("depends_on", ())) <= services.keys()
        assert all(services[name].get("healthcheck") for name in service.get("depends_on", ()))
    build = services["code"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def compose_command() -> list[str]:
    """Docker Compose, if this machine has it. It needs no daemon to check a file."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and subprocess.run([*command, "version"], capture_output=True).returncode == 0:
            return command
    pytest.skip("Docker Compose is not on this machine")


def test_docker_compose_accepts_the_file_if_all_variables_are_set(tmp_path):
    filled, faulty = tmp_path / ".env", tmp_path / "compose.yaml"
    filled.write_text(text_of("example.env").replace("PASSWORD=\n", "PASSWORD=a\n", 1))
    faulty.write_text(text_of("compose.yaml").replace("mem_limit", "memory_limit"))
    command = compose_command()

    def errors(file: Path, variables: Path) -> str:
        words = [*command, "--file", str(file), "--env-file", str(variables), "config", "--quiet"]
        return subprocess.run(words, capture_output=True, text=True).stderr

    assert errors(DEPLOY / "compose.yaml", filled) == ""
    assert "DAGSTER_PG_PASSWORD" in errors(DEPLOY / "compose.yaml", DEPLOY / "example.env")
    assert "memory_limit" in errors(faulty, filled)


@pytest.mark.parametrize("service", ["code", "webserver", "daemon", "worker"])
def test_every_variable_that_a_file_of_the_image_reads_is_set(service):
    named = set(re.findall(r"\{env: (\w+)\}", text_of("dagster.yaml") + text_of("workspace.yaml")))
    named |= variables_of_the_files("definitions.py", "dagster_celery_config.py")
    assert len(named) >= 12
    assert named <= environment_of(service).keys()


def test_variables_that_people_must_set_are_in_the_example():
    needed = set(re.findall(r"\$\{(\w+)", text_of("compose.yaml")))
    assert needed == {line.partition("=")[0] for line in text_of("example.env").splitlines() if "=" in line}


def test_no_port_but_the_web_interface_on_loopback_is_published():
    published = {name: each["ports"] for name, each in yaml_of("compose.yaml")["services"].items() if "ports" in each}
    assert published == {"webserver": ["127.0.0.1:3000:3000"]}


def test_the_workspace_is_the_process_of_the_code_location(monkeypatch):
    for name in ("LAKE_CODE_HOST", "LAKE_CODE_PORT"):
        monkeypatch.setenv(name, environment_of("daemon")[name])
    (origin,) = location_origins_from_yaml_paths([str(DEPLOY / "workspace.yaml")])
    command = next(json.loads(arguments) for name, arguments in instructions() if name == "CMD")
    assert origin.host in yaml_of("compose.yaml")["services"]
    assert str(origin.port) == command[command.index("--port") + 1]
    assert origin.location_name == command[command.index("--location-name") + 1] == "lake"


# ---------------------------------------------------------------------- Dockerfile


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile with their arguments, lines joined."""
    lines = [line for line in text_of("Dockerfile").splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, rest.strip()) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


KNOWN = {
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "RUN",
    "STOPSIGNAL",
    "USER",
}
KNOWN |= {"VOLUME", "WORKDIR"}


def test_instructions_of_the_image_exist():
    found = instructions()
    assert {name for name, _ in found} <= KNOWN
    assert found[0][0] == "FROM"
    assert re.fullmatch(r"python:3\.1[1-4]-slim", found[0][1])
    for name, arguments in found:
        if name in ("CMD", "ENTRYPOINT"):
            assert isinstance(json.loads(arguments), list)
        if name == "RUN":
            assert shlex.split(arguments)
    assert [arguments for name, arguments in found if name == "USER"] == ["dagster"]


def test_files_that_the_image_copies_exist_and_build_the_library():
    copied = [shlex.split(arguments) for name, arguments in instructions() if name == "COPY"]
    sources = [source for words in copied for source in words[:-1]]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {"pyproject.toml", "setup.py", "s3dest_dagster", project["readme"], *project["license-files"]} <= set(
        sources
    )
    assert all(len(words) == 2 or words[-1].endswith("/") for words in copied)


def test_the_image_has_what_its_processes_import_and_start():
    locked = (ROOT / "requirements" / "scale.txt").read_text("utf-8")
    distributions = {line.partition("==")[0] for line in locked.splitlines() if line[:1].isalnum()}
    imported = {
        node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
        for file in ("definitions.py", "dagster_celery_config.py")
        for node in ast.walk(ast.parse(text_of(file)))
        if isinstance(node, ast.Import | ast.ImportFrom)
    } - {"os", "dagster_celery_config", "s3dest_dagster"}
    assert {name.replace("_", "-") for name in imported} - {"dagster-celery"} <= distributions
    assert {"dagster-celery[redis]", "dagster-postgres", "dagster-webserver", "dagster-aws"} <= distributions


def test_extras_that_the_image_asks_for_exist():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    asked = re.findall(r"(?:s3dest-dagster|/tmp/library)\[([\w,-]+)\]", text_of("Dockerfile"))
    assert {extra for each in asked for extra in each.split(",")} <= extras.keys()


def test_the_code_location_loads_with_each_executor_that_is_installed(monkeypatch):
    import dagster as dg

    for executor in (None, "processes"):
        monkeypatch.delenv("LAKE_EXECUTOR", raising=False)
        if executor:
            monkeypatch.setenv("LAKE_EXECUTOR", executor)
        names: dict[str, Any] = {"__name__": "definitions"}
        exec(compile(text_of("definitions.py"), "definitions.py", "exec"), names)
        dg.Definitions.validate_loadable(names["defs"])
        assert names["defs"].executor is dg.multiprocess_executor
    monkeypatch.setenv("LAKE_EXECUTOR", "cluster")
    with pytest.raises(ValueError, match="'cluster'"):
        names["executor"]()


# ---------------------------------------------------------------------- values.yaml

SCHEMA = json.loads(text_of("values.schema.json"))


def problems(values: dict[str, Any]) -> list[str]:
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(values)]


def test_the_values_match_their_schema():
    Draft202012Validator.check_schema(SCHEMA)
    assert problems(yaml_of("values.yaml")) == []


def changed(path: str, value: Any) -> dict[str, Any]:
    """The values with another value; None removes it."""
    values = copy.deepcopy(yaml_of("values.yaml"))
    *parents, last = path.split("/")
    inner: Any = values
    for name in parents:
        inner = inner[int(name) if isinstance(inner, list) else name]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return values


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("postgresql/postgresqlScheme", "postgresql"),
        ("serviceAccount/annotations/eks.amazonaws.com/role-arn", "lake"),
        ("dagster-user-deployments/deployments/0/image/tag", "latest"),
        ("dagster-user-deployments/deployments/0/env", {"S3_BUCKET": "lake"}),
        ("dagster-user-deployments/deployments/0/resources/limits", {"memory": "2 GB"}),
        ("dagsterDaemon/runMonitoring/maxRuntimeSeconds", None),
        ("dagsterDaemon/runMonitoring/max_runtime_seconds", 60),
        ("dagsterDaemon/runCoordinator/enabled", True),
        ("runLauncher/config/k8sRunLauncher/jobSpecConfig", {}),
        ("dagit", {}),
    ],
)
def test_values_with_a_fault_do_not_match(path, value):
    if "role-arn" in path:
        values = changed("serviceAccount/annotations", {"eks.amazonaws.com/role-arn": value})
    else:
        values = changed(path, value)
    assert len(problems(values)) == 1


def variables_of_the_files(*files: str) -> set[str]:
    """The variables that these files of the image read."""
    texts = "".join(map(text_of, files))
    return set(re.findall(r"""(?:environ\[|environ\.get\(|EnvVar\()"(\w+)""", texts))


def test_the_pods_of_runs_have_what_the_code_location_reads():
    (deployment,) = yaml_of("values.yaml")["dagster-user-deployments"]["deployments"]
    given = {each["name"]: each["value"] for each in deployment["env"]}
    assert variables_of_the_files("definitions.py") <= given.keys()
    assert deployment["includeConfigInLaunchedRuns"]["enabled"]
    # What the SDK reads, and no secret.
    assert given.keys() - variables_of_the_files("definitions.py") == {"AWS_REGION"}
    command = next(json.loads(arguments) for name, arguments in instructions() if name == "CMD")
    assert deployment["port"] == int(command[command.index("--port") + 1])
    assert " ".join(deployment["dagsterApiGrpcArgs"]) in " ".join(command)


def test_one_image_is_named_everywhere():
    values = yaml_of("values.yaml")
    images = [values[name]["image"] for name in ("dagsterWebserver", "dagsterDaemon")]
    images += [each["image"] for each in values["dagster-user-deployments"]["deployments"]]
    (name,) = {f"{each['repository']}:{each['tag']}" for each in images}
    for text in (text_of("Dockerfile"), (ROOT / "docs" / "deploying.md").read_text("utf-8")):
        assert re.findall(r"registry\.example\.com/\S+", text) == [name]
    service = yaml_of("compose.yaml")["services"]
    local = {each["image"] for each in service.values() if "build" in each}
    assert local == {name.rpartition("/")[2]}


def test_dagster_reads_its_home_where_the_image_has_it():
    (home,) = re.findall(r"DAGSTER_HOME=(\S+)", text_of("Dockerfile"))
    copied = [
        arguments.split()[-1] for name, arguments in instructions() if name == "COPY" and "dagster.yaml" in arguments
    ]
    assert copied == [f"{home}/"]
    services = yaml_of("compose.yaml")["services"]
    paths = [word for each in services.values() for word in each.get("command", ()) if word.endswith("workspace.yaml")]
    assert paths == [f"{home}/workspace.yaml"] * 2


def test_dagster_accepts_what_the_values_add_to_the_instance(tmp_path):
    values = yaml_of("values.yaml")
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    names = {re.sub("(?=[A-Z])", "_", name).lower(): value for name, value in monitoring.items()}
    found = instance_config({**values["additionalInstanceConfig"], "run_monitoring": names}, tmp_path)
    assert found["concurrency"]["pools"] == {"default_limit": 4, "granularity": "run"}
    deadline = values["runLauncher"]["config"]["k8sRunLauncher"]["runK8sConfig"]["jobSpecConfig"]
    assert deadline["active_deadline_seconds"] > monitoring["maxRuntimeSeconds"]


# ---------------------------------------------------------------------- the connector image


def test_the_image_of_the_destination_runs_a_command_of_the_project_with_files_that_exist():
    text = text_of("destination.Dockerfile")
    (entry,) = re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["scripts"]
    assert json.loads(entry)[0] in scripts
    copied = [name for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE) for name in line.split()[:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_image_of_the_destination_has_every_dependency_and_no_root():
    """The library is installed without its dependencies, after the locked packages."""
    text = text_of("destination.Dockerfile")
    assert "COPY requirements/scale.txt /tmp/requirements.txt" in text
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "requirements" / "scale.txt").read_text("utf-8"), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = {re.match(r"[\w.-]+", each)[0].replace(".", "-").lower() for each in project["dependencies"]}
    assert needed - {each.replace(".", "-").lower() for each in locked} == set()
    user = re.findall(r"^USER (.*)$", text, re.MULTILINE)
    assert user == ["airbyte"]
    assert text.index("useradd") < text.index("USER airbyte") < text.index("ENTRYPOINT [")


def test_the_metadata_of_the_destination_describe_that_image():
    data = yaml_of("metadata.yaml")["data"]
    assert (data["connectorType"], data["license"]) == ("destination", "Apache-2.0")
    assert data["supportsRefreshes"] is data["supportsFileTransfer"] is True
    image = f"{data['dockerRepository']}:{data['dockerImageTag']}"
    assert f"--tag {image} " in text_of("destination.Dockerfile")
