"""One sync from many workers: a driver begins an order, workers stage shards anywhere, and the driver commits.

    order = begin(target, stream, sync, scope)          on the driver
    receipt = stage(order, records, shard=7)            in any process on any machine
    commit(order, receipts, shards=range(8))            on the driver
    abandon(order)                                      instead, if the work is given up

Orders and receipts are small JSON values without secrets. Nothing is visible before the commit, and a worker that is
lost, doubled or late changes nothing. Must not know: which engine runs the workers.
"""

from s3dest_dagster.shards.driver import abandon as abandon
from s3dest_dagster.shards.driver import begin as begin
from s3dest_dagster.shards.driver import commit as commit
from s3dest_dagster.shards.order import Order as Order
from s3dest_dagster.shards.processes import land_in_processes as land_in_processes
from s3dest_dagster.shards.receipts import ShardReceipt as ShardReceipt
from s3dest_dagster.shards.staging import stage as stage

__all__ = ["Order", "ShardReceipt", "abandon", "begin", "commit", "land_in_processes", "stage"]
