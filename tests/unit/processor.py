"""State kept by hand, as the tests of plans need it: it is analysed, and never runs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyspark.sql.streaming import StatefulProcessor


class Same(StatefulProcessor):
    """Hands on what it gets."""

    def init(self, handle: Any) -> None:
        pass

    def handleInputRows(self, key: Any, rows: Iterator[Any], timerValues: Any) -> Iterator[Any]:
        yield from rows

    def close(self) -> None:
        pass
