"""One sync into one bucket: batches become staged objects, which the commit then publishes together.

Start with `landing.py`, which describes the order of a sync and the path of a record. It must not know Dagster, nor
where records come from.
"""
