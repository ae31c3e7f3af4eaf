"""Land streams of records in S3 from Dagster: all at once or not at all."""
