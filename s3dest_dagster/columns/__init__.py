"""Records: from JSON schemas to record types, Avro and Arrow schemas, and from batches to columns.

The rules are the connector's if those lose nothing, and otherwise our own. Must not know: file formats, S3, Dagster.
"""
