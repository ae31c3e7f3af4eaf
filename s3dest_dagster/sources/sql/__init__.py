"""Rows of SQL databases, as Arrow batches in bounded memory.

- `source`: `SqlSource`, its settings, and what it reads for a stream, a partition or a shard.
- `address`: the URI of a database, and how its secrets are masked.
- `statements`: SQL texts: placeholders, names, literals, conditions.
- `cursor`: the state of an incremental read, and where it may advance.
- `key_ranges`: the shards of a key.
- `session`: what all drivers have in common. `postgresql`, `duckdb`, `sqlite` and `connectorx` are the drivers.

Must not know: buckets, formats, Dagster.
"""
