"""Prints what has landed as a tree of objects with their bytes, and their rows according to the manifests."""

from __future__ import annotations

from server import ACCESS_KEY_ID, BUCKET, ENDPOINT, SECRET_ACCESS_KEY

from s3dest_dagster.commit.scopes import scopes
from s3dest_dagster.inspection.read import live_objects
from s3dest_dagster.printable import amount
from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.settings.destination import S3Destination
from s3dest_dagster.storage import open_bucket


def print_tree() -> None:
    """Prints every live object of the demo's bucket under its directories."""
    rows_and_bytes = _objects()
    print(f"\ns3://{BUCKET} at {ENDPOINT}")
    shown: list[str] = []
    for key, (rows, size) in sorted(rows_and_bytes.items()):
        *directories, name = key.split("/")
        for depth, directory in enumerate(directories):
            if shown[: depth + 1] != directories[: depth + 1]:
                print("  " * (depth + 1) + directory + "/")
        shown = directories
        print("  " * (len(directories) + 1) + f"{name:<52}{amount(rows, 'row'):>13}{size:>12,} bytes")
    total = sum(rows for rows, _ in rows_and_bytes.values())
    print(f"{amount(len(rows_and_bytes), 'object')}, {amount(total, 'row')}")


def _objects() -> dict[str, tuple[int, int]]:
    destination = S3Destination(s3_bucket_name=BUCKET, s3_bucket_path="lake")
    connection = S3Connection(endpoint=ENDPOINT, access_key_id=ACCESS_KEY_ID, secret_access_key=SECRET_ACCESS_KEY)
    bucket, template = open_bucket(connection, BUCKET), destination.template
    return {
        each.item.key: (each.item.rows, each.item.bytes)
        for scope in scopes(bucket, template)
        for each in live_objects(bucket, template, scope)
    }
