"""The users' settings: a destination, a connection, and a connector's forms of both. All are plain frozen values.

They name what S3, the formats and Dagster call things. Must not: import their libraries, or know records.
"""
