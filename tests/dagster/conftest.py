"""A separate bucket for each test, IO managers on it, and an independent reader of what landed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from component_project import TYPE, Load, tree
from scripted_source import ScriptedSource
from servers import S3Server

from s3dest_dagster.dagster.io_manager import S3DestinationIOManager
from s3dest_dagster.errors import SettingsError
from s3dest_dagster.settings.formats import JsonlFormat, TextCompression

PLAIN = JsonlFormat(compression=TextCompression.NONE)


@dataclass(frozen=True)
class Lake:
    """A bucket, and access to it."""

    server: S3Server
    bucket: str
    prepared: set[str] = field(default_factory=set)
    """The server files that were there before the first run."""

    def io(self, **settings: Any) -> S3DestinationIOManager:
        """An IO manager of uncompressed JSON Lines on the bucket."""
        defaults: dict[str, Any] = {"format": PLAIN, "s3": self.server.connection, "encode_workers": 1}
        return S3DestinationIOManager(s3_bucket_name=self.bucket, **{**defaults, **settings})

    def materialize(self, *assets: Any, io: Any = None, **options: Any) -> dg.ExecuteInProcessResult:
        """Calls `dg.materialize` with `io` (or the default one) as the IO manager, on an instance that other tests
        share."""
        io = io or self.io()
        self._prepare(io)
        resources = {"io_manager": io, **options.pop("resources", {})}
        return dg.materialize(list(assets), resources=resources, **{"instance": _instance(), **options})

    def _prepare(self, io: Any) -> None:
        """Spares the first run on the bucket the requests that find out the abilities of the server."""
        if isinstance(io, S3DestinationIOManager) and io.s3_bucket_name == self.bucket and not self.prepared:
            with suppress(SettingsError):  # a setting is a variable, which a run looks up
                self.prepared.add(self.server.store_abilities(io.destination()))

    def data_keys(self) -> list[str]:
        """The keys of all data objects."""
        return [key for key in self.all_keys() if "_s3dest/" not in key]

    def all_keys(self) -> list[str]:
        """The keys of all objects that runs have made."""
        listed = self.server.client().list_objects_v2(Bucket=self.bucket)
        return [each["Key"] for each in listed.get("Contents", []) if each["Key"] not in self.prepared]

    def body(self, key: str) -> bytes:
        return self.server.client().get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def rows(self, prefix: str = "") -> list[dict[str, Any]]:
        """The records of the data objects under the prefix, which hold JSON Lines."""
        lines = [line for key in self.data_keys() if key.startswith(prefix) for line in self.body(key).splitlines()]
        return [json.loads(line)["_airbyte_data"] for line in lines]

    def ids(self, prefix: str = "") -> list[Any]:
        return sorted(row["id"] for row in self.rows(prefix))

    def uploads(self) -> int:
        """The number of open multipart uploads."""
        return len(self.server.client().list_multipart_uploads(Bucket=self.bucket).get("Uploads", []))


@cache
def _instance() -> dg.DagsterInstance:
    """One instance for all runs that need no separate history."""
    return dg.DagsterInstance.ephemeral()


@pytest.fixture
def lake(moto_s3: S3Server) -> Lake:
    return Lake(moto_s3, moto_s3.new_bucket())


@pytest.fixture
def any_lake(any_s3: S3Server) -> Lake:
    """A lake on each server in turn."""
    return Lake(any_s3, any_s3.new_bucket())


@pytest.fixture(scope="session")
def lake_on() -> Callable[[S3Server], Lake]:
    """A lake on the server that the test chooses."""
    return lambda server: Lake(server, server.new_bucket())


@pytest.fixture
def metadata_of() -> Callable[..., dict[str, Any]]:
    """The plain values of metadata, or of the last materialization of an asset in a result."""

    def values(source: Any, node: str | None = None) -> dict[str, Any]:
        return plain(source if node is None else source.asset_materializations_for_node(node)[-1].metadata)

    return values


def plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Metadata as plain values. A table becomes a list of its records."""
    return {
        name: [each.data for each in value.records]
        if isinstance(value, dg.TableMetadataValue)
        else value.value
        if isinstance(value, dg.MetadataValue)
        else value
        for name, value in metadata.items()
    }


# ---------------------------------------------------------------------- components in YAML

_numbers = count(1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a component in its own project."""
    path = tmp_path / f"project_{next(_numbers)}" / "shop"
    path.mkdir(parents=True)
    (path.parent / "__init__.py").touch()
    return path


@pytest.fixture
def load(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """The definitions of a component with these attributes."""

    def loaded(attributes: str) -> dg.Definitions:
        (folder / "defs.yaml").write_text(attributes if attributes.startswith("type:") else TYPE + attributes)
        return tree(folder, monkeypatch).build_defs(folder)

    return loaded


@pytest.fixture
def connector(tmp_path: Path, folder: Path) -> Callable[..., str]:
    """A connector with two streams and a record of one of them. Its catalog is next to the component. Returns its
    YAML."""
    scripted = ScriptedSource(tmp_path)
    for name in ("users", "orders"):
        scripted.stream(name, namespace="crm", source_defined_cursor=True)
    scripted.records("users", {"id": 1}, namespace="crm").source()
    (folder / "catalog.json").write_text(json.dumps(scripted.catalog))

    def attributes_yaml(**config: Any) -> str:
        source = {"type": "airbyte", "command": scripted.command, "config": config, "catalog": "catalog.json"}
        return f"  source: {json.dumps(source)}\n"

    attributes_yaml.scripted = scripted
    return attributes_yaml


@pytest.fixture
def project(folder: Path) -> Path:
    """The root of the project of the component, as `dg` expects it."""
    root = folder.parent.parent
    project = {"root_module": folder.parent.name, "defs_module": folder.parent.name}
    lines = ['[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]']
    lines += [f'{name} = "{value}"' for name, value in project.items()]
    (root / "pyproject.toml").write_text("\n".join(lines))
    return root
