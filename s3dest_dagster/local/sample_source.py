"""A small Airbyte source with the made-up records of a shop: `python -m s3dest_dagster.local.sample_source`.

It speaks the protocol like any connector (spec, check, discover, read), so that a project can begin with it and name
another connector later. The records of a day are the same each time. Must not know: Dagster, S3, who reads it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

Record = dict[str, Any]

COMMAND = "python -m s3dest_dagster.local.sample_source"
_MAKES = ("Audi", "BMW", "Fiat", "Ford", "Honda", "Kia", "Mazda", "Opel", "Seat", "Toyota", "Volvo")
_MODELS = ("City", "Coupe", "Estate", "Roadster", "Van")
_NAMES = ("Ada", "Bo", "Chi", "Dara", "Eve", "Finn", "Gita", "Hugo", "Ines", "Jun", "Kofi", "Lena", "Mio", "Noor")
_LANGUAGES = ("Danish", "English", "French", "Hindi", "Japanese", "Spanish", "Swahili", "Turkish")
_PRODUCTS = 100
_DEFAULT_COUNT = 200
_MOST = 100_000
_TEXT, _INTEGER, _NUMBER = ({"type": name} for name in ("string", "integer", "number"))
_INSTANT = {"type": "string", "format": "date-time", "airbyte_type": "timestamp_with_timezone"}

_SPECIFICATION = {
    "type": "object",
    "title": "A shop with made-up records",
    "required": [],
    "properties": {
        "count": {
            "type": "integer",
            "title": "Records of a day",
            "description": "How many users come on a day; about as many buy something.",
            "default": _DEFAULT_COUNT,
            "minimum": 1,
            "maximum": _MOST,
        },
        "day": {"type": "string", "format": "date", "title": "Day", "description": "The day; by default today in UTC."},
    },
}


# ---------------------------------------------------------------------- the streams


def _users(day: date, count: int) -> Iterator[Record]:
    """The users who have come on this day."""
    dice = _dice("users", day)
    for number in range(count):
        name = dice.choice(_NAMES)
        identity = _first_id(day) + number
        yield {
            "id": identity,
            "name": name,
            "email": f"{name.lower()}.{identity}@example.com",
            "age": dice.randint(18, 80),
            "language": dice.choice(_LANGUAGES),
            "created_at": _moment(day, dice),
        }


def _products(day: date, count: int) -> Iterator[Record]:
    """All products, which are the same on every day."""
    dice = random.Random("products")
    for number in range(1, _PRODUCTS + 1):
        yield {
            "id": number,
            "make": dice.choice(_MAKES),
            "model": dice.choice(_MODELS),
            "year": dice.randint(1995, 2025),
            "price": round(dice.triangular(1_500, 60_000, 9_000), 2),
        }


def _purchases(day: date, count: int) -> Iterator[Record]:
    """What was bought on this day: more on some days of the week than on others."""
    dice = _dice("purchases", day)
    for number in range(round(count * dice.uniform(0.6, 1.4))):
        bought = _moment(day, dice)
        yield {
            "id": _first_id(day) + number,
            "user_id": _first_id(day) + dice.randrange(count),
            "product_id": dice.randint(1, _PRODUCTS),
            "purchased_at": bought,
            "returned_at": _moment(day + timedelta(days=dice.randint(1, 9)), dice) if dice.random() < 0.05 else None,
        }


def _dice(stream: str, day: date) -> random.Random:
    """The chance of a day of the week, so that every week has the same counts and totals."""
    return random.Random(f"{stream} of weekday {day.weekday()}")


def _first_id(day: date) -> int:
    """The first id of a day, so that ids of different days differ."""
    return day.toordinal() * _MOST * 2


def _moment(day: date, dice: random.Random) -> str:
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return (midnight + timedelta(seconds=dice.randrange(86_400))).isoformat()


_STREAMS: Mapping[str, tuple[Callable[[date, int], Iterator[Record]], Mapping[str, Any]]] = {
    "users": (
        _users,
        {"id": _INTEGER, "name": _TEXT, "email": _TEXT, "age": _INTEGER, "language": _TEXT, "created_at": _INSTANT},
    ),
    "products": (
        _products,
        {"id": _INTEGER, "make": _TEXT, "model": _TEXT, "year": _INTEGER, "price": _NUMBER},
    ),
    "purchases": (
        _purchases,
        {
            "id": _INTEGER,
            "user_id": _INTEGER,
            "product_id": _INTEGER,
            "purchased_at": _INSTANT,
            "returned_at": {**_INSTANT, "type": ["null", "string"]},
        },
    ),
}
"""The records of each stream on a day, and its properties."""


def catalog() -> dict[str, Any]:
    """What `discover` answers: the streams and their schemas."""
    return {
        "streams": [
            {
                "name": name,
                "json_schema": {"type": "object", "properties": dict(properties)},
                "supported_sync_modes": ["full_refresh"],
                "source_defined_primary_key": [["id"]],
            }
            for name, (_, properties) in _STREAMS.items()
        ]
    }


# ---------------------------------------------------------------------- the protocol


def messages(verb: str, config: Mapping[str, Any], streams: list[str], now: datetime) -> Iterator[Record]:
    """The messages that a verb answers.

    Args:
        verb: `spec`, `check`, `discover` or `read`.
        config: The configuration, as the specification describes it.
        streams: The names of the streams to read.
        now: When the records are emitted; its day is the default day.
    """
    if verb == "spec":
        yield {"type": "SPEC", "spec": {"connectionSpecification": _SPECIFICATION}}
    elif verb == "check":
        yield {"type": "CONNECTION_STATUS", "connectionStatus": _status(config)}
    elif verb == "discover":
        yield {"type": "CATALOG", "catalog": catalog()}
    else:
        for name in streams:
            yield from _read(name, config, int(now.timestamp() * 1000), now.date())


def _status(config: Mapping[str, Any]) -> Record:
    try:
        _day_and_count(config, date.min)
    except (TypeError, ValueError) as error:
        return {"status": "FAILED", "message": str(error)}
    return {"status": "SUCCEEDED"}


def _read(name: str, config: Mapping[str, Any], millis: int, today: date) -> Iterator[Record]:
    day, count = _day_and_count(config, today)
    records, _ = _STREAMS[name]
    yield _stream_status(name, "STARTED", millis)
    for record in records(day, count):
        yield {"type": "RECORD", "record": {"stream": name, "data": record, "emitted_at": millis}}
    yield _stream_status(name, "COMPLETE", millis)


def _day_and_count(config: Mapping[str, Any], today: date) -> tuple[date, int]:
    day, count = config.get("day"), int(config.get("count", _DEFAULT_COUNT))
    if not 1 <= count <= _MOST:
        raise ValueError(f"count is {count}. It must be between 1 and {_MOST:,}.")
    return today if day is None else date.fromisoformat(day), count


def _stream_status(name: str, status: str, millis: int) -> Record:
    reported = {"stream_descriptor": {"name": name}, "status": status}
    return {"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": millis, "stream_status": reported}}


def main() -> None:
    """Answers one verb on standard output."""
    parser = argparse.ArgumentParser(description="An Airbyte source with made-up records.")
    parser.add_argument("verb", choices=("spec", "check", "discover", "read"))
    for option in ("--config", "--catalog", "--state"):
        parser.add_argument(option, type=Path)
    options = parser.parse_args()
    config = json.loads(options.config.read_bytes()) if options.config else {}
    configured = json.loads(options.catalog.read_bytes())["streams"] if options.catalog else []
    selected = [each["stream"]["name"] for each in configured]
    for message in messages(options.verb, config, selected, datetime.now(UTC)):
        sys.stdout.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    main()
