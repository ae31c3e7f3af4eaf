"""Datasets of Dask, Ray and Spark land from two workers, one of which is killed after it has closed an object."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import sharded_job
from engine_faults import KilledOnce, records
from land_and_read import destination, ids_by_listing, open_uploads, target
from servers import S3Server

from s3dest_dagster import ParquetFormat, S3DestinationIOManager, stream_asset
from s3dest_dagster.engines import engine_of
from s3dest_dagster.inspection.verify import verify
from s3dest_dagster.shards import begin
from s3dest_dagster.stream import Scope, Stream, StreamId, Sync

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]
SHARDS, ROWS = 4, 20_000
SCHEMA = {"type": "object", "properties": {"id": {"type": "integer"}, "text": {"type": "string"}}}


class Lake:
    """A bucket of its own."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        self.settings = destination(server.new_bucket(), object_size_mb=0.5)

    def write(self, dataset: Any, **options: Any) -> Any:
        """Lands a dataset with its adapter."""
        engine = engine_of(dataset)
        assert engine is not None
        schema = engine.arrow_schema(dataset)
        stream = Stream(name="users", json_schema=SCHEMA if schema is None else None)
        sync = Sync(uuid.uuid4().hex, datetime.now(UTC), str(uuid.uuid4()))
        with target(self.server, self.settings) as opened:
            order = begin(opened, stream, sync, schema=schema)
        return engine.write(dataset, order, s3=self.server.connection, **options)

    def check(self, receipt: Any) -> None:
        """Every record is there once, and nothing else is."""
        assert receipt.rows == SHARDS * ROWS
        assert ids_by_listing(self.server, self.settings.s3_bucket_name) == list(range(SHARDS * ROWS))
        bucket = self.server.open(self.settings)
        assert verify(bucket, self.settings.template, Scope(StreamId(None, "users")), deep=True).problems == ()
        assert open_uploads(self.server, self.settings.s3_bucket_name) == 0


@pytest.fixture
def lake(moto_s3: S3Server) -> Lake:
    return Lake(moto_s3)


# ---------------------------------------------------------------------- Dagster


def test_dagster_executes_a_shard_again_whose_process_was_killed(
    moto_s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = moto_s3.new_bucket()
    sharded_job.set_environment(monkeypatch, moto_s3, bucket, tmp_path, fault="kill")
    sharded_job.execute_twice("in_many_processes", tmp_path)
    assert sharded_job.attempts_of(tmp_path) == {"0": 1, "1": 2, "2": 1}
    assert ids_by_listing(moto_s3, bucket) == list(range(3 * sharded_job.ROWS))
    assert open_uploads(moto_s3, bucket) == 0


# ---------------------------------------------------------------------- Dask


@pytest.fixture(scope="module")
def dask_workers() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        yield cluster


def _dask_dataset(kind: str) -> Any:
    import dask
    import dask.bag
    import dask.dataframe
    import pandas as pd

    starts = [shard * ROWS for shard in range(SHARDS)]
    if kind == "delayed":
        return [dask.delayed(records)(first, ROWS) for first in starts]
    if kind == "bag":
        return dask.bag.from_sequence(starts, npartitions=SHARDS).map(records, count=ROWS).flatten()
    return dask.dataframe.from_map(lambda first: pd.DataFrame(records(first, ROWS)), starts)


@pytest.mark.usefixtures("dask_workers")
@pytest.mark.parametrize("kind", ["bag", "frame", "delayed"])
def test_dask_lands_a_dataset_although_a_worker_is_killed(lake: Lake, tmp_path: Path, kind: str) -> None:
    killed = KilledOnce(tmp_path)
    lake.check(lake.write(_dask_dataset(kind), on_progress=killed))
    assert os.path.exists(killed.marker)


# ---------------------------------------------------------------------- Ray


@pytest.fixture(scope="module")
def ray_workers() -> Iterator[Any]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_ray_lands_a_dataset_although_a_worker_is_killed(lake: Lake, tmp_path: Path, ray_workers: Any) -> None:
    killed = KilledOnce(tmp_path)
    tables = [pa.Table.from_pylist(records(shard * ROWS, ROWS)) for shard in range(SHARDS)]
    lake.check(lake.write(ray_workers.data.from_arrow(tables), on_progress=killed))
    assert os.path.exists(killed.marker)


# ---------------------------------------------------------------------- Spark


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql")
    builder = sql.SparkSession.builder.master("local-cluster[2,1,1024]").appName("s3dest")
    settings = {
        "spark.ui.enabled": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "1000",
        "spark.executorEnv.PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    for name, value in settings.items():
        builder = builder.config(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        session = builder.getOrCreate()
        yield session
        session.stop()


def test_spark_lands_a_dataset_although_a_worker_is_killed(lake: Lake, tmp_path: Path, spark: Any) -> None:
    killed = KilledOnce(tmp_path)
    frame = spark.range(0, SHARDS * ROWS, numPartitions=SHARDS).selectExpr("id", "lpad(string(id), 400, '0') as text")
    lake.check(lake.write(frame, on_progress=killed))
    assert os.path.exists(killed.marker)


# ---------------------------------------------------------------------- through the IO manager


def _materialize(server: S3Server, upstream: Any, downstream: Any, **settings: Any) -> Any:
    io = S3DestinationIOManager(
        s3_bucket_name=server.new_bucket(), s3=server.connection, format=ParquetFormat(), **settings
    )
    resources = {"io_manager": io, "memory": dg.mem_io_manager}
    return dg.materialize([upstream, downstream], resources=resources)


def _count_downstream(annotation: Any, count: Any) -> Any:
    def counted(users: Any) -> Any:
        return count(users)

    counted.__annotations__ = {"users": annotation}
    return dg.asset(name="counted", io_manager_key="memory")(counted)


def _check_asset(result: Any) -> None:
    (event, _) = result.get_asset_materialization_events()
    assert event.materialization.metadata["rows"].value == 600
    assert result.asset_value("counted") == (600, sum(range(600)), ["id", "text"])


def _own(names: Any) -> list[str]:
    return [name for name in names if not name.startswith("_airbyte")]


@pytest.mark.usefixtures("dask_workers")
def test_an_asset_returns_a_dask_frame_and_the_next_one_gets_it(moto_s3: S3Server) -> None:
    import dask.dataframe
    import pandas as pd

    @stream_asset
    def users() -> Any:
        return dask.dataframe.from_map(lambda first: pd.DataFrame(records(first, 200)), [0, 200, 400])

    def count(frame: Any) -> Any:
        assert frame.npartitions == 3
        return len(frame), int(frame["id"].sum().compute()), _own(frame.columns)

    _check_asset(_materialize(moto_s3, users, _count_downstream(dask.dataframe.DataFrame, count)))


@pytest.mark.usefixtures("dask_workers")
def test_an_asset_returns_a_dask_bag_and_the_next_one_gets_it(moto_s3: S3Server) -> None:
    import dask.bag

    @stream_asset(json_schema=SCHEMA)
    def users() -> Any:
        return dask.bag.from_sequence([0, 200, 400], npartitions=3).map(records, count=200).flatten()

    def count(bag: Any) -> Any:
        rows = bag.compute()
        return len(rows), sum(row["id"] for row in rows), _own(rows[0])

    _check_asset(_materialize(moto_s3, users, _count_downstream(dask.bag.Bag, count)))


def test_an_asset_returns_a_ray_dataset_and_the_next_one_gets_it(moto_s3: S3Server, ray_workers: Any) -> None:
    @stream_asset
    def users() -> Any:
        return ray_workers.data.from_arrow([pa.Table.from_pylist(records(first, 200)) for first in (0, 200, 400)])

    def count(dataset: Any) -> Any:
        return dataset.count(), dataset.sum("id"), _own(dataset.schema().names)

    _check_asset(_materialize(moto_s3, users, _count_downstream(ray_workers.data.Dataset, count)))


def test_an_asset_returns_a_spark_frame_and_the_next_one_gets_it(moto_s3: S3Server, spark: Any) -> None:
    from pyspark.sql import DataFrame

    @stream_asset
    def users() -> Any:
        return spark.range(0, 600, numPartitions=3).selectExpr(
            "id", "string(id) as text", "timestamp_seconds(id) as at"
        )

    def count(frame: Any) -> Any:
        assert frame.where("at = timestamp_seconds(id)").count() == 600
        return frame.count(), frame.selectExpr("sum(id) as s").collect()[0].s, _own(frame.columns)[:2]

    _check_asset(_materialize(moto_s3, users, _count_downstream(DataFrame, count)))


def test_a_re_executed_engine_asset_lands_nothing_twice(moto_s3: S3Server, ray_workers: Any) -> None:
    """The write is repeated under the same sync id, although it was complete."""
    lake = Lake(moto_s3)
    dataset = ray_workers.data.from_arrow(pa.Table.from_pylist(records(0, 50)))
    engine = engine_of(dataset)
    assert engine is not None
    sync = Sync("once", datetime.now(UTC), str(uuid.uuid4()))
    receipts = []
    for _ in range(2):
        with target(moto_s3, lake.settings) as opened:
            order = begin(opened, Stream(name="users", json_schema=SCHEMA), sync)
        receipts.append(engine.write(dataset, order, s3=moto_s3.connection))
    assert [each.repeated for each in receipts] == [False, True]
    assert ids_by_listing(moto_s3, lake.settings.s3_bucket_name) == list(range(50))
