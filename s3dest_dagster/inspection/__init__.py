"""Inspects a destination: what a sync would do (`plan`), whether it could (`check`), what has landed (`read`), and
whether it is still intact (`verify`).

It must not know Dagster, nor where records come from.
"""
