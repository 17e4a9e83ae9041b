"""The section about a stream side that another engine wrote: what it is, what was declared, what was out of reach."""

from __future__ import annotations

from twinrun.report.cells import number
from twinrun.report.sections import Cell, Grid, Section, row
from twinrun.results.verdict import ExternalSide, Verdict

MAX_ROWS = 100


def external_section(verdict: Verdict) -> Section:
    """In place of the stream's progress, which another engine does not record for twinrun."""
    side = verdict.external
    assert side is not None
    grids = [Grid("The external result", ("What", "Value"), _facts(side), narrow="stack")]
    if side.malformed:
        grids.append(_malformed(side))
    reach = Grid(
        "Causes that were out of reach",
        ("Cause", "Why"),
        tuple(row(Cell(cause, "code"), why) for cause, why in side.out_of_reach[:MAX_ROWS]),
        narrow="stack",
    )
    return Section(
        "progress",
        "The result of the other engine",
        intro="Another engine wrote this result. There is no checkpoint and no log of its micro-batches, so there "
        "is no chart of its progress, and what is not declared about it is not known.",
        grids=(*grids, reach),
        notes=("A row that only such a cause could explain is unexplained.",),
    )


def stream_place(verdict: Verdict) -> str:
    """Where the stream's result is, with its version if it has one."""
    pinned, side = verdict.cut, verdict.external
    place = pinned.stream_table if side is None else side.place
    return f"{place}, version {pinned.stream_version}" if pinned.stream_version >= 0 else place


def _facts(side: ExternalSide) -> tuple[tuple[Cell, ...], ...]:
    facts = [row("Where", Cell(side.place, "code"))]
    facts += [row("Declared", Cell(text, "code")) for text in side.declared]
    if not side.declared:
        facts.append(row("Declared", "nothing"))
    facts.append(row("Rows", number(side.rows)))
    if side.early_rows:
        facts.append(row("Rows in windows that are declared open", number(side.early_rows)))
    if side.records is not None:
        facts.append(row("Records with a row", number(side.records)))
        facts.append(row("Replaced or deleted by a later record", number(side.superseded)))
        facts.append(row("Deletions (null values)", number(side.tombstones)))
        facts.append(row("Malformed records", number(sum(each.events for each in side.malformed))))
    return tuple(facts)


def _malformed(side: ExternalSide) -> Grid:
    rows = tuple(
        row(Cell(each.rule, "code"), number(each.events), each.reason, Cell(each.example, "code"))
        for each in side.malformed[:MAX_ROWS]
    )
    head = ("Rule", "Records", "Reason", "One of them")
    return Grid("Malformed records, all in the table external_malformed", head, rows, numeric=(1,), narrow="stack")
