"""Imports what each process of a storm would otherwise load itself. All of them are forked from the process that
imports this module. Makes no connections."""

from __future__ import annotations

import storm.acts  # noqa: F401

from s3dest_dagster.settings.connection import S3Connection
from s3dest_dagster.storage import open_bucket

open_bucket(S3Connection(endpoint="http://127.0.0.1:1", access_key_id="none", secret_access_key="none"), "none")
