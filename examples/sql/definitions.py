"""Tables of a DuckDB database, landed as Parquet: one as a whole, the other a day at a time.

The query's columns come as Arrow batches and are landed as they come, with the types that the database gives them.
"""

import dagster as dg
import duckdb

from s3dest_dagster import ParquetFormat, S3DestinationIOManager, stream_asset

DAYS = dg.DailyPartitionsDefinition(start_date="2026-01-01")


class Shop(dg.ConfigurableResource):
    """The database."""

    path: str

    def query(self, sql, *parameters):
        with duckdb.connect(self.path, read_only=True) as connection:
            yield from connection.sql(sql, params=parameters).to_arrow_reader()


@stream_asset(namespace="shop")
def customers(shop: Shop):
    """All customers, anew each time."""
    return shop.query("select * from customers")


@stream_asset(namespace="shop", sync_mode="append", partitions_def=DAYS)
def orders(context: dg.AssetExecutionContext, shop: Shop):
    """The orders of a day. A day that is landed again replaces what was landed of it."""
    return shop.query("select * from orders where placed_at::date = ?::date", context.partition_key)


defs = dg.Definitions(
    assets=[customers, orders],
    resources={
        "shop": Shop(path=dg.EnvVar("SHOP_DATABASE")),
        "io_manager": S3DestinationIOManager(
            s3_bucket_name=dg.EnvVar("S3_BUCKET"),
            s3_bucket_path="lake",
            format=ParquetFormat(compression_codec="ZSTD"),
        ),
    },
)
