"""The `destination-s3dest` command: the Airbyte protocol for programs that run connectors, such as PyAirbyte.

Its verbs do what those of `s3dest` do, and speak in messages of the protocol. Must not know: Dagster.
"""

from s3dest_dagster.airbyte.entry import main

__all__ = ["main"]
