"""The `s3dest` command: words of the command line become calls of landing and sources, and their results sentences.

Every verb is thin. It must not know Dagster, nor do anything that the library could not do without it.
"""

from s3dest_dagster.cli.entry import main

__all__ = ["main"]
