"""The command inspects the landed assets of a module with definitions, by a selection."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from s3dest_dagster import stream_asset
from s3dest_dagster.cli.entry import run
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
        select_landed(module, selection)


def test_a_module_without_definitions_is_refused():
    with pytest.raises(SettingsError, match="has 0 Definitions"):
        select_landed("json", "*")


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
    (found,) = select_landed("late_location", "*")
    assert found.bucket.name == found.destination.s3_bucket_name == "lake-of-the-environment"
    assert {str(each) for each in found.streams} == {"users"}
