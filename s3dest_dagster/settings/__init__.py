"""What users set: a destination, a connection, and the forms that a connector has for both. Plain frozen values.

It must not know S3, records or Dagster.
"""
