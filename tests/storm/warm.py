"""Imported by the process that all processes of a storm are forked from: what each would load anew. It connects to
nothing."""

from __future__ import annotations

import storm.acts  # noqa: F401

from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_bucket

open_bucket(S3Connection(endpoint="http://127.0.0.1:1", access_key_id="none", secret_access_key="none"), "none")
