"""What ``twinrun measure`` prints: a line per arm, the limits that were looked for, and what became slower."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twinrun.cli.output import columns
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK
from twinrun.wording import plural

if TYPE_CHECKING:
    from twinrun.measure.past import Change
    from twinrun.measure.results import Measurement, Recovery, Result, Sustained


def lines(found: Measurement) -> list[str]:
    """The measurement as a terminal shows it: a line per arm, and what it does not say."""
    from twinrun.measure.page import table_of

    head, *rows = table_of(found)
    return [
        f"{found.job}: {plural(len(found.results), 'run')} of {plural(len(found.arms()), 'arm')}, "
        f"{found.rate_per_s:,.0f} events/s from {found.events_from}",
        *columns([tuple(head), *(tuple(row) for row in rows)]),
        *[f"  limit      {_told_limit(each)}" for each in found.sustained],
        *[f"  kill -9    {_told_kill(each)}" for each in found.recoveries],
        *[f"  note       {note}" for note in (*found.notes, *found.thrown_away)],
    ]


def _told_limit(found: Sustained) -> str:
    if found.rate_per_s is None:
        return f"{found.arm.name}: {found.why or found.outcome}"
    more = found.why if found.failed_per_s is None else f"{found.failed_per_s:,.0f}/s does not"
    return f"{found.arm.name}: {found.rate_per_s:,.0f} events/s holds; {more} ({found.outcome})"


def _told_kill(found: Recovery) -> str:
    if not found.agreed:
        return f"{found.arm.name}: {'; '.join(found.problems) or found.outcome}"
    seconds = found.fresh_again_s
    again = "not fresh again within the load" if seconds is None else f"fresh again {seconds:.1f} s"
    first = "" if found.running_s is None else f", the first commit {found.running_s:.1f} s"
    twice = f"{plural(found.worked_twice or 0, 'event')} worked twice at most"
    return f"{found.arm.name}: {again}{first} after it; {twice} ({found.outcome})"


def told(result: Result) -> str:
    """The figures of one run, or why there are none."""
    from twinrun.measure.page import in_seconds

    if not result.agreed:
        return result.why_not
    total = result.freshness.total if result.freshness else None
    fresh = (
        "no event had an effect" if total is None else f"p50 {in_seconds([total.p50])}, p99 {in_seconds([total.p99])}"
    )
    return f"{result.outcome}; {fresh}; {result.cpu_s_per_million:,.0f} CPU s per million events"


def compared(found: list[Change], notes: list[str], most: float | None) -> tuple[list[str], int]:
    """What changed since the measurement before, and 1 where something grew by more than is allowed."""
    from twinrun.measure.past import regressions

    slower = regressions(found, most) if most is not None else []
    units = {"p99": "s", "cpu": "CPU s per million"}
    rows = [
        (
            each.arm,
            each.figure,
            f"{each.before:,.2f} {units[each.figure]}",
            f"{each.now:,.2f}",
            f"{each.share:+.1%}{'  SLOWER' if each in slower else ''}",
        )
        for each in found
    ]
    told = columns([("arm", "figure", "before", "now", "change"), *rows]) if rows else []
    told += [f"  note       {note}" for note in notes]
    return told, EXIT_DIFFERENT if slower else EXIT_OK
