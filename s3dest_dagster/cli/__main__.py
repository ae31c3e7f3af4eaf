"""`python -m s3dest_dagster.cli` is `s3dest`."""

from s3dest_dagster.cli.entry import main

main()
