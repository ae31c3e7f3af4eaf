"""This project's code location: its streams with its wiring. It stays out of the wheel.

`assets` and `resources` are imported when this module is, since Dagster resolves lazily imported top-level modules
only from the project's root.
"""

import dagster as dg

from assets.faker import products, purchases, users
from assets.readings import readings
from resources import resources

defs = dg.Definitions(assets=[*users, *purchases, *products, readings], resources=resources())
