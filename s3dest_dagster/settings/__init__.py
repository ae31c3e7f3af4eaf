"""The users' settings: a destination, a connection, and a connector's forms of both. All are plain frozen values.

Must not know: S3, records, Dagster.
"""
