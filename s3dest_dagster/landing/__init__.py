"""One stream into one bucket, and back: landing, commit, manifests, plan, check, upkeep. The promises live here.

It must not know Dagster, nor where records come from.
"""

from s3dest_dagster.landing.check import CheckStep, check, check_streams
from s3dest_dagster.landing.isolation import IsolatedLandings
from s3dest_dagster.landing.landing import Landing, land, landed_scope
from s3dest_dagster.landing.manifest import Counts, ManifestObject, ReachedState
from s3dest_dagster.landing.plan import Plan, StreamPlan, plan, settings_without_effect
from s3dest_dagster.landing.progress import Reading, Standing, resident_bytes
from s3dest_dagster.landing.read import (
    LiveObject,
    ScopeSnapshot,
    live_objects,
    read_scope,
    read_tables,
    read_whole,
    snapshot,
    unified,
)
from s3dest_dagster.landing.receipt import Progress, Receipt
from s3dest_dagster.landing.scopes import DamagedHead, FoundStream, found_streams, scopes
from s3dest_dagster.landing.states import change_state, reached_state, text_of
from s3dest_dagster.landing.streams import StreamLandings, landing_streams, side_by_side, state_message
from s3dest_dagster.landing.sweep import Swept, sweep
from s3dest_dagster.landing.sync import Sync
from s3dest_dagster.landing.target import Clock, Entropy, Target, open_target
from s3dest_dagster.landing.upkeep import Recovered, recover
from s3dest_dagster.landing.verifying import LastSync, Verified, foreign_keys, last_sync, verify

__all__ = [
    "CheckStep",
    "Clock",
    "Counts",
    "DamagedHead",
    "Entropy",
    "FoundStream",
    "IsolatedLandings",
    "Landing",
    "LastSync",
    "LiveObject",
    "ManifestObject",
    "Plan",
    "Progress",
    "ReachedState",
    "Reading",
    "Receipt",
    "Recovered",
    "ScopeSnapshot",
    "Standing",
    "StreamLandings",
    "StreamPlan",
    "Swept",
    "Sync",
    "Target",
    "Verified",
    "change_state",
    "check",
    "check_streams",
    "foreign_keys",
    "found_streams",
    "land",
    "landed_scope",
    "landing_streams",
    "last_sync",
    "live_objects",
    "open_target",
    "plan",
    "reached_state",
    "read_scope",
    "read_tables",
    "read_whole",
    "recover",
    "resident_bytes",
    "scopes",
    "settings_without_effect",
    "side_by_side",
    "snapshot",
    "state_message",
    "sweep",
    "text_of",
    "unified",
    "verify",
]
