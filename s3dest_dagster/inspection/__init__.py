"""Inspects a destination: what a sync would do (`plan`), whether it could (`check`), what has landed (`read`), whether
it is still intact (`verify`), and what an interrupted sync left to finish (`recover`).

It must not know Dagster, nor where records come from.
"""
