"""A stream that is computed from two others: the purchases of a day and the products."""

import dagster as dg
import pyarrow as pa

from s3dest_dagster import stream_asset


@stream_asset(
    ins={
        "purchases": dg.AssetIn(["faker", "purchases"], metadata={"columns": ["product_id"]}),
        "products": dg.AssetIn(["faker", "products"], metadata={"columns": ["id", "make", "price"]}),
    },
    partitions_def=dg.DailyPartitionsDefinition(start_date="2026-01-01"),
    automation_condition=dg.AutomationCondition.eager(),
    group_name="shop",
    io_manager_key="parquet_lake",
)
def revenue(purchases: pa.Table, products: pa.Table) -> pa.Table:
    """Revenue of one day by make of car."""
    sold = purchases.join(products, keys="product_id", right_keys="id", join_type="inner")
    by_make = sold.group_by("make").aggregate([("price", "sum"), ("price", "count")])
    return by_make.rename_columns({"make": "make", "price_sum": "revenue", "price_count": "sold"}).sort_by("make")
