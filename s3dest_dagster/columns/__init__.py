"""Records: from JSON schemas to record types, Avro and Arrow schemas, and from batches to columns.

The rules are the connector's if those lose nothing, and otherwise our own. Knows the schemas of Avro, and how many
levels readers of Parquet allow. Must not know: how a file is written, S3, Dagster.
"""
