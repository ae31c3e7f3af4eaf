"""Takes over objects that the connector has left in the bucket: finds them, reads their columns, and lists them in a
manifest. The objects themselves stay as they are.

Must not know: the command line.
"""

from s3dest_dagster.adoption.adopt import Adoption, adopt, adopted_objects, forget_adopted, plan_adoption
from s3dest_dagster.adoption.columns import expected_columns
from s3dest_dagster.adoption.search import AdoptableObject, FoundObjects, LeftOut, SearchRequest, search

__all__ = [
    "AdoptableObject",
    "Adoption",
    "FoundObjects",
    "LeftOut",
    "SearchRequest",
    "adopt",
    "adopted_objects",
    "expected_columns",
    "forget_adopted",
    "plan_adoption",
    "search",
]
