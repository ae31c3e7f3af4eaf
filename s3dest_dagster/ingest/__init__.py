"""One sync into one bucket: batches become staged objects, which the commit then publishes together.

Begin with `landing.py`, which has the order of a sync and the way of a record. It must not know Dagster, nor where
records come from.
"""
