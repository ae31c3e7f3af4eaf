"""The `s3dest` command: turns options and files into calls of the library, and their results into text.

Every verb is thin: it can do nothing that the library cannot do without it. Must not know: Dagster (but
`targets` loads a Dagster module when it is asked for one).
"""

from s3dest_dagster.cli.entry import main

__all__ = ["main"]
