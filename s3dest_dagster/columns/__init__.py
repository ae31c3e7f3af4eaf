"""What a record is: from JSON schemas to record types, Avro and Arrow schemas, and from batches to columns.

Its rules are the connector's where they lose nothing, and our own where the connector's would. It must not know file
formats, S3 or Dagster.
"""
