"""Processes that begin with everything imported: forks of one process that has neither threads nor clients."""

from __future__ import annotations

import multiprocessing

from warm_imports import library_modules

PROCESSES = multiprocessing.get_context("forkserver")
# One list for all, since a run of the suite has one such process and the last list that was set would count. Steps of
# Dagster's that are forked share the process, so their executor gets this list too.
PRELOADED = ["dagster_dg_cli.cli", *library_modules()]
PROCESSES.set_forkserver_preload(PRELOADED)
