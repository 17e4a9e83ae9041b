"""An event in words: by its id, or by where it stands in Kafka."""

from __future__ import annotations

from twinrun.report.cells import joined
from twinrun.report.neutral import shorten
from twinrun.results.verdict import BlamedEvent, RowSample


def name_of(event: BlamedEvent) -> str:
    """The event's id in words; its coordinates where the source names none. Shortened, not yet escaped."""
    name = joined(event.id) if event.id else f"the event at {event.topic}-{event.partition}, offset {event.offset}"
    return shorten(name, 80)


def such_as(sample: RowSample, cause: str) -> str:
    """A sentence that names the event of a cause, or one of several; empty where none is named."""
    first = next((event for event in sample.events if event.cause == cause), None)
    if first is None:
        return ""
    return f" One of them is {name_of(first)}." if sample.causes.get(cause, 0) > 1 else f" It is {name_of(first)}."
