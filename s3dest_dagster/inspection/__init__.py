"""Questions about a bucket: what a sync would do, whether it could, what has landed, and whether it is still intact.

It must not know Dagster, nor where records come from.
"""
