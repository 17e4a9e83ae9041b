"""The grain that a function computes, read from its plan: windows and grouping keys, against what the job declares."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from twinrun.durations import human, parse_ms
from twinrun.job.job import Job, Problem
from twinrun.job.jvmplan import Expr, Node, Plan, parts

_INTERVAL_PART = re.compile(r"(-?\d+(?:\.\d+)?)\s*([a-z]+?)s?(?![a-z])")
_UNIT_US = {
    "week": 604_800_000_000,
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
    "millisecond": 1_000,
    "microsecond": 1,
}
_STATEFUL = ("Aggregate", "Deduplicate", "DeduplicateWithinWatermark")


@dataclass(frozen=True)
class Window:
    """A window of the plan. ``length_us`` is the gap of a session, None where it depends on the row.

    ``start_us``: by how much its starts are moved from those of windows that begin at 1970, less than a slide.
    """

    session: bool
    length_us: int | None
    slide_us: int | None = None
    start_us: int = 0


def grain_problems(job: Job, plan: Plan) -> list[Problem]:
    """Where the computed grain is not the declared one.

    Parameters
    ----------
    job : Job
        A sound definition.
    plan : Plan
        Of the function over *streaming* events: so an aggregation of a static table does not count.
    """
    tops = list(_top_aggregates(plan.root))
    problems = list(_window_problems(job, plan, tops))
    if not problems and len(tops) == 1:
        problems = list(_key_problems(job, plan, tops[0]))
    return problems


def _top_aggregates(node: Node) -> Iterator[Node]:
    """The last aggregation of events on each way to the result."""
    if node.kind == "Aggregate" and node.streaming:
        yield node
        return
    for child in node.inputs:
        yield from _top_aggregates(child)


def _window_problems(job: Job, plan: Plan, tops: list[Node]) -> Iterator[Problem]:
    if job.shape == "stateless" and tops:
        change = "declare window=..., slide=... or gap=..., or emit='updates' for running totals"
        yield Problem("the job declares no window, and the function aggregates", change=change)
        return
    if job.shape == "latest" and not _has_state(plan.root):
        found = "emit='updates' keeps the latest row per key, and the function does not aggregate"
        yield Problem(found, "an aggregation by the keys", "use emit='final' for a row per event")
    declared = _declared(job)
    computed = {window for top in tops for window in _windows_of(plan, top)}
    if declared is None:
        for window in computed:
            yield Problem(f"the job declares no window, and the function computes {_words(window)}", "the same grain")
        return
    if not computed:
        time = job.sources[0].event_time
        call = f"F.session_window({time!r}, ...)" if declared.session else f"F.window({time!r}, ...)"
        found = f"the job declares {_words(declared)}, and the function groups by none"
        yield Problem(found, "the same grain", f"group by {call}")
    for window in computed:
        if window.start_us:
            found = f"the function computes {_words(window)}, which would be cut at other places by twinrun"
            expected = "windows that begin at 1970-01-01 00:00 UTC, or at a multiple of their slide from it"
            yield Problem(
                found, expected, "leave out startTime; whoever reads the result can put smaller windows together"
            )
        elif window != declared:
            found = f"the job declares {_words(declared)}, and the function computes {_words(window)}"
            yield Problem(found, "the same grain", "use one constant of the job file for both")


def _has_state(node: Node) -> bool:
    stateful = node.kind in _STATEFUL or node.kind.startswith(("FlatMapGroups", "TransformWithState"))
    return (node.streaming and stateful) or any(_has_state(child) for child in node.inputs)


def _declared(job: Job) -> Window | None:
    if job.gap is not None:
        return Window(session=True, length_us=parse_ms(job.gap) * 1000)
    if job.window_ms is not None:
        return Window(session=False, length_us=job.window_ms * 1000, slide_us=(job.slide_ms or 0) * 1000)
    return None


def _words(window: Window) -> str:
    if window.length_us is None:
        return "sessions whose gap depends on the row"
    if window.session:
        return f"sessions with a gap of {_time(window.length_us)}"
    begin = f" with a startTime of {_time(window.start_us)}" if window.start_us else ""
    if window.slide_us == window.length_us:
        return f"windows of {_time(window.length_us)}{begin}"
    return f"windows of {_time(window.length_us)} every {_time(window.slide_us or 0)}{begin}"


def _time(duration_us: int) -> str:
    return f"{duration_us} µs" if duration_us % 1000 else human(duration_us // 1000)


def _windows_of(plan: Plan, aggregate: Node) -> set[Window]:
    return {window for grouping in aggregate.groupings for window in find_windows(plan, grouping)}


def find_windows(plan: Plan, expr: Expr, seen: frozenset[int] = frozenset()) -> set[Window]:
    """The windows that an expression is made from; what a window itself is made from does not count."""
    window = as_window(expr)
    if window is not None:
        return {window}
    operands = expr.operands
    if expr.id in plan.made_from and expr.id not in seen and not operands:
        operands, seen = (plan.made_from[expr.id],), seen | {expr.id}
    return {found for operand in operands for found in find_windows(plan, operand, seen)}


def only_from_windows(plan: Plan, expr: Expr) -> bool:
    """Whether an expression is made from a window and nothing else, so that it is never null."""
    if as_window(expr) is not None:
        return True
    if expr.kind == "AttributeReference":
        return expr.id in plan.made_from and only_from_windows(plan, plan.made_from[expr.id])
    return bool(expr.operands) and all(only_from_windows(plan, operand) for operand in expr.operands)


def is_window_end(plan: Plan, column_id: int) -> bool:
    """Whether a column is the end of a window, and nothing else."""
    expr = Expr("AttributeReference", id=column_id)
    while expr.kind == "AttributeReference" and expr.id in plan.made_from:
        expr = plan.made_from[expr.id]
    return expr.kind == "GetStructField" and expr.ordinal == 1 and only_from_windows(plan, expr)


def as_window(expr: Expr) -> Window | None:
    """A window, where the expression is one.

    Spark's analyser has replaced window() by arithmetic on microseconds in a struct of start and end.
    """
    if expr.kind != "CreateNamedStruct" or [item.value for item in expr.operands[::2]] != ["start", "end"]:
        return None
    start, end = expr.operands[1], expr.operands[3]
    if not any(part.kind == "PreciseTimestampConversion" for part in parts(start)):
        return None
    gaps = [part for part in parts(end) if part.kind == "TimestampAddInterval"]
    if gaps:
        return Window(session=True, length_us=_gap_us(gaps[0].operands[1]))
    remainders = [part for part in parts(start) if part.kind == "Remainder"]
    slides = {int(part.operands[1].value) for part in remainders}
    lengths = [part.operands[1] for part in parts(end) if part.kind == "Add" and part.operands[1].kind == "Literal"]
    # The outermost sum of the end is start + length; the sums inside belong to the start.
    if len(slides) != 1 or not lengths:
        return None
    slide_us = slides.pop()
    # Spark: getWindow of TimeWindowing takes the remainder of the time less startTime by the slide.
    begins = {int(part.operands[0].operands[1].value) for part in remainders if part.operands[0].kind == "Subtract"}
    start_us = begins.pop() % slide_us if begins else 0
    return Window(session=False, length_us=int(lengths[0].value), slide_us=slide_us, start_us=start_us)


def _gap_us(expr: Expr) -> int | None:
    """A constant gap, written ``1 hours -30 minutes`` or ``0.5 seconds`` by Spark; None where it depends on the row."""
    while expr.kind == "Cast":
        expr = expr.operands[0]
    if expr.kind != "Literal":
        return None
    if expr.value.lstrip("-").isdigit():
        return int(expr.value)
    text = expr.value.lower().removeprefix("interval").strip()
    parts = _INTERVAL_PART.findall(text)
    if not parts or _INTERVAL_PART.sub("", text).strip() or any(unit not in _UNIT_US for _, unit in parts):
        return None
    return int(sum(Decimal(count) * _UNIT_US[unit] for count, unit in parts))


def _key_problems(job: Job, plan: Plan, aggregate: Node) -> Iterator[Problem]:
    ids = dict(plan.output)
    covered: set[int] = set()
    for key in job.keys:
        if key not in ids:
            continue
        groups = _groups(plan, aggregate, Expr("AttributeReference", id=ids[key]))
        if groups is None:
            names = ", ".join(_label(grouping) for grouping in aggregate.groupings) or "nothing"
            change = "group by it too, or take it out of keys"
            yield Problem(f"the key {key!r} is no grouping key of the function", f"made from: {names}", change)
        else:
            covered |= groups
    for index, grouping in enumerate(aggregate.groupings):
        # Sessions are paired by key and overlap, so that their start need not be a key.
        if index not in covered and not (job.shape == "session" and find_windows(plan, grouping)):
            name = _label(grouping)
            found = f"the function groups by {name}, which no key holds: rows would share a key"
            yield Problem(found, "keys that hold every grouping key", f"add {name} to keys, or do not group by it")


def _groups(plan: Plan, aggregate: Node, expr: Expr) -> set[int] | None:
    """Which grouping keys (by position) an expression is made from; None when also from anything else."""
    if expr in aggregate.groupings:
        return {aggregate.groupings.index(expr)}
    if expr.kind == "AttributeReference":
        same = [index for index, grouping in enumerate(aggregate.groupings) if grouping.id == expr.id]
        if same:
            return set(same)
        made = plan.made_from.get(expr.id)
        return None if made is None else _groups(plan, aggregate, made)
    if expr.kind == "AggregateExpression":
        return None
    found: set[int] = set()
    for operand in expr.operands:
        inner = _groups(plan, aggregate, operand)
        if inner is None:
            return None
        found |= inner
    return found


def _label(expr: Expr) -> str:
    names = [part.name for part in parts(expr) if part.kind == "AttributeReference"]
    return expr.name or (f"{expr.kind.lower()}({', '.join(names)})" if names else expr.kind.lower())
