"""Annotations of parameters taken apart: what they are once aliases, unions and markers are off.

It must not know what an input can be loaded as.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, NewType, Union, get_args, get_origin, is_typeddict

import dagster as dg

_UNIONS = (Union, types.UnionType)
_OF_RESOURCES: Any = typing.cast(Any, dg.ResourceParam).__metadata__
"""How Dagster marks the annotation of a resource."""


def alternatives(annotation: Any) -> Iterator[Any]:
    """What the annotation allows, in its order: the members of unions but None, each without `Annotated`, and what
    type aliases and new types stand for."""
    if get_origin(annotation) is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in _UNIONS:
        for member in get_args(annotation):
            yield from alternatives(member)
    elif isinstance(annotation, NewType):
        yield from alternatives(annotation.__supertype__)
    elif type(annotation).__name__ == "TypeAliasType":  # of Python 3.12
        yield from alternatives(annotation.__value__)
    elif annotation is not type(None):
        yield annotation


def for_dagster(annotation: Any) -> Any:
    """The annotation as Dagster takes it; one that Dagster refuses becomes a type of its own kind that carries it."""
    if isinstance(annotation, type) and get_origin(annotation) is None:
        return annotation
    if get_origin(annotation) is Annotated:
        is_resource = annotation.__metadata__ == _OF_RESOURCES
        return annotation if is_resource else for_dagster(get_args(annotation)[0])
    try:
        dg.In(annotation)
    except dg.DagsterInvalidDefinitionError:
        return _carrying(annotation)
    # Dagster takes a list of these, and fails when it looks at one.
    return _carrying(annotation) if any(map(is_typeddict, get_args(annotation))) else annotation


@cache
def _carrying(annotation: Any) -> dg.DagsterType:
    return dg.DagsterType(lambda _, value: True, name=_name(annotation), typing_type=annotation)


def _name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, NewType) else str(annotation)
