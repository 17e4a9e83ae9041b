"""The log of the tests of heal, and the stream's table as they look at it."""

from __future__ import annotations

from delta.tables import DeltaTable

from tests.integration.conftest import World, click

FIRST_A = "window_start = timestamp'2013-01-06 10:00:00' AND page = 'a'"
SECOND_B = "window_start = timestamp'2013-01-06 10:01:00' AND page = 'b'"
SECONDS = [s for minute in range(3) for s in (minute * 60 + 5, minute * 60 + 25)]
LOG = [
    *[click(s, page, amount=0) for s in SECONDS for page in "ab"],
    *[click(s, page) for s, page in zip(range(200, 204), "abab", strict=True)],
    # Dropped: the first minute is over. Of page c it has no other click, so that the stream has no such row.
    click(30, "a", name="late-a"),
    click(31, "c", name="late-c"),
    *[click(s, page) for s, page in zip(range(204, 206), "ab", strict=True)],
]
LATER = [
    *[click(s, page) for s, page in zip(range(300, 304), "abab", strict=True)],
    click(40, "a", name="later-a"),
    *[click(s, "a") for s in (304, 305, 306)],
]


def table(world: World) -> DeltaTable:
    return DeltaTable.forPath(world.spark, str(world.table("stream")))


def version(world: World) -> int:
    return int(table(world).history(1).collect()[0]["version"])
