"""The command inspects the landed assets of a module with definitions, by a selection."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from s3dest_dagster import stream_asset
from s3dest_dagster.cli.entry import run
from s3dest_dagster.dagster.code_location import CodeLocation
from s3dest_dagster.dagster.selection import select_landed
from s3dest_dagster.errors import SettingsError


@stream_asset(namespace="shop")
def users():
    return [{"id": 1}, {"id": 2}]


@stream_asset(namespace="shop", partitions_def=dg.StaticPartitionsDefinition(["eu", "us"]))
def orders():
    return [{"id": 3}]


@dg.asset(io_manager_key="elsewhere")
def report():
    return 1


@pytest.fixture
def module(lake, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with landed assets. Another IO manager stores one of them."""
    lake.materialize(users)
    for partition in ("eu", "us"):
        lake.materialize(orders, partition_key=partition)
    resources = {"io_manager": lake.io(), "elsewhere": dg.mem_io_manager}
    made = ModuleType("shop_location")
    made.defs = dg.Definitions([users, orders, report], resources=resources)
    monkeypatch.setitem(sys.modules, "shop_location", made)
    return "shop_location"


def output_lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert run(arguments) == 0
    return sorted(capsys.readouterr().out.splitlines())


def test_all_streams_of_a_module_or_the_selected_ones_are_verified(module, capsys):
    one, both = "✓ shop.users: 1 object, 2 rows", "✓ shop.orders: 2 objects, 2 rows, 2 partitions"
    assert output_lines(capsys, "verify", "-m", module, "--deep") == [both, one]
    assert output_lines(capsys, "verify", "-m", module, "--select", "shop/users") == [one]


def test_verify_names_scopes_and_streams_that_the_definitions_no_longer_have(module, lake, capsys):
    @stream_asset(namespace="shop", name="orders")
    def whole():
        return [{"id": 4}]

    location = sys.modules["shop_location"]
    location.defs = dg.Definitions([whole], resources={"io_manager": lake.io()})
    assert run(("verify", "-m", module)) == 0
    told = capsys.readouterr().err
    assert "shop.orders [eu] and 1 more. If nobody needs it, run `s3dest retire shop.orders --scope eu`." in told
    assert "not defined here: shop.users." in told


def test_one_partition_is_verified(module, capsys):
    assert output_lines(capsys, "verify", "-m", module, "--partition", "eu") == [
        "✓ shop.orders: 1 object, 1 row, 1 partition"
    ]
    line, header = output_lines(capsys, "ls", "-m", module, "--select", "key:shop/orders", "--partition", "us")
    assert header.startswith("LANDED")
    assert line.split()[-5:-1] == ["1", "121", "bytes", "us"]


def test_other_commands_accept_a_selection_too(module, capsys):
    assert output_lines(capsys, "recover", "-m", module, "--select", "shop/users") == [
        "✓ shop.users: nothing to finish"
    ]
    swept = "shop.users: 0 abandoned uploads aborted, 0 kept"
    assert output_lines(capsys, "sweep", "-m", module, "--select", "shop/users") == [swept]
    assert run(["ls", "-m", module, "--json"]) == 0
    assert {each["stream"] for each in json.loads(capsys.readouterr().out)} == {"users", "orders"}


@pytest.mark.parametrize("selection", ["report", "shop/customers", "group:("])
def test_a_selection_that_lands_nothing_is_refused(module, selection):
    with pytest.raises(SettingsError, match="select"):
        select_landed(CodeLocation(module), selection)


def test_a_module_without_definitions_is_refused():
    with pytest.raises(SettingsError, match="has 0 Definitions"):
        select_landed(CodeLocation("json"), "*")


def test_lazy_definitions_and_settings_from_the_environment_are_supported(
    lake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "late_location.py").write_text(
        "import dagster as dg\n"
        "from s3dest_dagster import S3DestinationIOManager, stream_asset\n"
        "@stream_asset\n"
        "def users():\n"
        "    return []\n"
        "@dg.definitions\n"
        "def defs():\n"
        "    bucket = dg.EnvVar('LAKE_OF_THE_TEST')\n"
        "    return dg.Definitions([users], resources={'io_manager': S3DestinationIOManager(s3_bucket_name=bucket)})\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAKE_OF_THE_TEST", "lake-of-the-environment")
    (found,) = select_landed(CodeLocation("late_location"), "*")
    assert found.bucket.name == found.destination.s3_bucket_name == "lake-of-the-environment"
    assert {str(each) for each in found.streams} == {"users"}


# ---------------------------------------------------------------------- check and plan of definitions


def test_the_streams_of_definitions_are_planned(module, capsys):
    assert run(("plan", "-m", module, "--json")) == 0
    planned = json.loads(capsys.readouterr().out)["streams"]
    assert [(each["namespace"], each["stream"], each["partition"]) for each in planned] == [
        ("shop", "orders", "us"),
        ("shop", "users", None),
    ]
    assert [len(each["deletes"]) for each in planned] == [1, 1]


def test_a_partition_of_definitions_is_planned(module, capsys):
    assert run(("plan", "-m", module, "--partition", "eu", "--json")) == 0
    (planned,) = json.loads(capsys.readouterr().out)["streams"]
    assert (planned["stream"], planned["partition"]) == ("orders", "eu")
    assert run(("plan", "-m", module, "--partition", "mars")) == 2
    assert "None of the selected assets has a partition 'mars'." in capsys.readouterr().err


def test_the_streams_of_definitions_are_checked_as_their_assets_land_them(module, capsys):
    assert run(("check", "-m", module)) == 0
    shown = capsys.readouterr().out.splitlines()
    assert "✓ look at stream shop.users" in shown
    assert "✓ look at stream shop.orders" in shown


def test_several_io_managers_are_told_apart(module, lake, capsys):
    location = sys.modules["shop_location"]
    cold = lake.io(s3_bucket_path="cold")
    other = stream_asset(name="archive", io_manager_key="cold")(lambda: [{"id": 1}])
    location.defs = dg.Definitions([users, other], resources={"io_manager": lake.io(), "cold": cold})
    for verb in ("check", "plan"):
        assert run((verb, "-m", module)) == 2
        told = capsys.readouterr().err
        assert "landed by 2 IO managers: " in told
        assert "cold (s3://" in told
        assert "Choose one by --io-manager" in told
    assert run(("plan", "-m", module, "--io-manager", "cold", "--json")) == 0
    (planned,) = json.loads(capsys.readouterr().out)["streams"]
    assert planned["first_key"].startswith("cold/")
    assert run(("plan", "-m", module, "--io-manager", "clod")) == 2
    assert "Did you mean 'cold'?" in capsys.readouterr().err


DEFINITIONS = """\
import dagster as dg
from s3dest_dagster import S3Connection, S3DestinationIOManager, stream_asset
from rows_of_planets import rows


@stream_asset
def planets():
    return rows()


defs = dg.Definitions(
    [planets], resources={"io_manager": S3DestinationIOManager(s3_bucket_name=%r, s3=S3Connection(**%r))}
)
"""


def test_definitions_of_a_file_are_found_with_what_they_import(lake, tmp_path: Path, capsys):
    server = asdict(lake.server.connection)
    path = tmp_path / "planet_location.py"
    path.write_text(DEFINITIONS % (lake.server.new_bucket(), server))
    (tmp_path / "rows_of_planets.py").write_text("def rows():\n    return []\n")
    assert run(("plan", "--defs", str(path), "--json")) == 0
    (planned,) = json.loads(capsys.readouterr().out)["streams"]
    assert planned["stream"] == "planets"
    assert output_lines(capsys, "ls", "--defs", str(path)) == []
    assert run(("state", "show", "--defs", str(path))) == 0


PROJECT = """\
[tool.dg]
directory_type = "project"

[tool.dg.project]
root_module = "moons_of_the_test"
"""
COMPONENT = """\
type: s3dest_dagster.S3DestinationComponent

attributes:
  source:
    type: files
    path: "*.jsonl"
  destination:
    s3_bucket_name: {bucket}
    s3_bucket_region: us-east-1
    s3_endpoint: {endpoint}
    access_key_id: {key}
    secret_access_key: {secret}
  streams:
    - name: moons
"""


def test_a_project_of_components_is_found_from_any_folder_in_it(lake, tmp_path: Path, capsys):
    folder = tmp_path / "src" / "moons_of_the_test" / "defs" / "moons"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    server, bucket = lake.server, lake.server.new_bucket()
    keys = {"key": server.access_key_id, "secret": server.secret_access_key}
    (folder / "defs.yaml").write_text(COMPONENT.format(bucket=bucket, endpoint=server.endpoint, **keys))
    for path in (tmp_path, folder / "defs.yaml"):
        assert run(("plan", "--defs", str(path), "--json")) == 0, capsys.readouterr().err
        planned = json.loads(capsys.readouterr().out)
        assert [each["stream"] for each in planned["streams"]] == ["moons"]
        assert planned["streams"][0]["uri"].startswith(f"s3://{bucket}/")
    (folder / "defs.yaml").write_text(COMPONENT.replace("destination:", "destinatoin:"))
    assert run(("plan", "--defs", str(tmp_path))) == 2
    assert "destinatoin" in capsys.readouterr().err


def test_a_path_without_definitions_is_told(tmp_path: Path, capsys):
    (tmp_path / "empty.py").touch()
    for path, words in (("nowhere", "does not exist"), ("", "in no project"), ("empty.py", "has 0 Definitions")):
        assert run(("ls", "--defs", str(tmp_path / path if path != "" else Path("/")))) == 2
        assert words in capsys.readouterr().err
