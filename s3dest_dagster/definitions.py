"""This project's code location: its streams and their resources. It is not part of the wheel.

Importing this module loads `assets` and imports `resources`: Dagster resolves top-level modules that are imported
lazily only from the project's root.
"""

from pathlib import Path

import dagster as dg

from resources import resources

defs = dg.Definitions.merge(
    dg.load_from_defs_folder(path_within_project=Path(__file__).parent),
    dg.Definitions(resources=resources()),
)
