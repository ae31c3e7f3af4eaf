"""Thirty partitions, and the ids of the records of each."""

PARTITIONS = [f"p{number:02}" for number in range(30)]
BATCHES = 20
ROWS = 20


def ids(partition: str) -> range:
    """The ids of a partition's records, which no other partition has."""
    first = PARTITIONS.index(partition) * BATCHES * ROWS
    return range(first, first + BATCHES * ROWS)
