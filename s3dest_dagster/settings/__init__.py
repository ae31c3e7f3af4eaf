"""What users set: a destination, a connection, and the forms that a connector has for both. Plain frozen values.

Must not know: S3, records, Dagster.
"""
