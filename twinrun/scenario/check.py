"""Hold what a verify found against the plan, scenario by scenario."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from twinrun.scenario.expect import MAY_BE_PROVEN, Expectation
from twinrun.scenario.outcome import RowKey
from twinrun.scenario.plants import SINK


@dataclass(frozen=True)
class ObservedRow:
    """One row of the table ``differences``: its kind, its verdict, and blamed events by cause."""

    kind: str
    verdict: str
    causes: Mapping[str, int]


@dataclass(frozen=True)
class Observed:
    """What the product's tables say about one scenario; the fields mirror those of `Expectation`."""

    rows: Mapping[RowKey, ObservedRow] = field(default_factory=dict)
    late_pairs: frozenset[tuple[str, int | None]] = frozenset()
    quarantined: Mapping[int, str] = field(default_factory=dict)
    duplicates: Mapping[str, int] = field(default_factory=dict)
    read_late: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Checked:
    """One scenario in one job.

    Parameters
    ----------
    falsely_claimed : int
        Rows, records and events for which something was claimed that was not planted.
    unexplained_where_explainable : int
        Unexplained rows in which no fault of the sink was planted.
    problems : tuple of str
        One sentence for each planted cause that was not found, and for each false claim.
    by_cause : mapping of str to bool
        Each planted cause or rule: whether it was found with every count exact.
    """

    scenario: str
    job: str
    falsely_claimed: int
    unexplained_where_explainable: int
    problems: tuple[str, ...]
    by_cause: Mapping[str, bool]

    @property
    def planted(self) -> int:
        """Causes and rules that were planted, each once."""
        return len(self.by_cause)

    @property
    def found(self) -> int:
        """Those of them that were found with every count exact."""
        return sum(self.by_cause.values())

    @property
    def ok(self) -> bool:
        """Whether all of the plan came true, and nothing else."""
        return self.found == self.planted and not (self.falsely_claimed or self.unexplained_where_explainable)


def check(expected: Expectation, seen: Observed) -> Checked:
    """Compare a plan with what was observed."""
    facets = [(name, plan, found) for name, plan, found in _facets(expected, seen) if plan]
    missed = [f"{name}: {_difference(plan, found)}" for name, plan, found in facets if plan != found]
    false = _false_claims(expected, seen)
    unplanned = [row for row, got in seen.rows.items() if got.verdict != "explained" and not _is_fault(expected, row)]
    where = f"{expected.scenario} in {expected.job}"
    problems = (
        *(f"{where}: not found: {sentence}" for sentence in missed),
        *(f"{where}: falsely claimed: {sentence}" for sentence in false),
        *(f"{where}: unexplained without a planted fault: {row}" for row in sorted(unplanned, key=str)),
    )
    by_cause = {name: plan == found for name, plan, found in facets}
    return Checked(expected.scenario, expected.job, len(false), len(unplanned), problems, by_cause)


def _facets(expected: Expectation, seen: Observed) -> Iterable[tuple[str, object, object]]:
    """Each planted cause: its name, what the plan says, and what was seen of it, in the same form."""
    causes: dict[str, dict[RowKey, tuple[str, int]]] = defaultdict(dict)
    for row, plan in expected.rows.items():
        for cause, events in plan.causes.items():
            causes[cause][row] = (plan.kind, events)
    for cause, rows in causes.items():
        got = {row: _seen_as(cause, row, seen, expected) for row in rows if row in seen.rows}
        if cause not in SINK:
            others = {row: each for row, each in seen.rows.items() if cause in each.causes}
            got |= {row: (each.kind, each.causes[cause]) for row, each in others.items() if row not in rows}
        yield cause, rows, got
    yield "late (event, window) pairs", expected.late_pairs, seen.late_pairs
    yield "events read late", expected.read_late, seen.read_late
    yield "late events filtered away", expected.filtered, expected.filtered - {name for name, _ in seen.late_pairs}
    for rule in sorted(set(expected.quarantined.values())):
        plan_places = {place for place, name in expected.quarantined.items() if name == rule}
        yield f"quarantined by {rule}", plan_places, {place for place, name in seen.quarantined.items() if name == rule}
    yield "duplicate ids", dict(expected.duplicates), dict(seen.duplicates)


def _seen_as(cause: str, name: RowKey, seen: Observed, expected: Expectation) -> tuple[str, int]:
    """Kind and events of a planned row as this cause, or a pair that no plan has."""
    row = seen.rows[name]
    if row.verdict == "explained" and cause in row.causes and row.causes.keys() == expected.rows[name].causes.keys():
        return row.kind, row.causes[cause]
    proven = MAY_BE_PROVEN.get(cause)
    if cause in SINK and (row.verdict == "unexplained" or (proven and set(row.causes) == {proven})):
        return row.kind, 0
    return f"{row.verdict} {dict(row.causes)}", -1


def _false_claims(expected: Expectation, seen: Observed) -> list[str]:
    """Everything that was claimed and not planted."""
    said = []
    for row, got in sorted(seen.rows.items(), key=str):
        plan = expected.rows.get(row)
        planned = set(plan.causes) if plan else set()
        allowed = planned | {MAY_BE_PROVEN.get(cause) for cause in planned}
        # What an unexplained row's counts point at is not a claim: nothing is proven there.
        said += [f"{cause} for {row}" for cause in got.causes if got.verdict == "explained" and cause not in allowed]
        if plan is None and not got.causes and got.verdict == "explained":
            said.append(f"no cause, yet explained: {row}")
    said += [f"late {pair}" for pair in sorted(seen.late_pairs - expected.late_pairs, key=str)]
    if expected.read_late is not None:
        said += [f"read late {name}" for name in sorted(seen.read_late - expected.read_late)]
    places = seen.quarantined.items() - expected.quarantined.items()
    said += [f"record {place} quarantined by {rule}" for place, rule in sorted(places)]
    said += [f"duplicate {name}" for name in sorted(set(seen.duplicates) - set(expected.duplicates))]
    return said


def _is_fault(expected: Expectation, row: RowKey) -> bool:
    return row in expected.rows and not expected.rows[row].explainable


def _difference(plan: object, found: object) -> str:
    """The first parts in which two collections of one form differ."""
    if isinstance(plan, dict) and isinstance(found, dict):
        keys = [key for key in {**plan, **found} if plan.get(key) != found.get(key)]
        return "; ".join(f"{key} planned {plan.get(key)}, found {found.get(key)}" for key in sorted(keys, key=str)[:3])
    if isinstance(plan, set | frozenset) and isinstance(found, set | frozenset):
        return f"planned {len(plan)}, found {len(plan & found)} of them and {len(found - plan)} others"
    return f"planned {plan}, found {found}"
