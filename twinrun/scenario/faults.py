"""Faults in the stream's table after the run: which rows, chosen in advance."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from twinrun.errors import InputError
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.model import Scenario
from twinrun.scenario.outcome import RowKey, outcome_of, row_keys
from twinrun.scenario.plants import SINK


@dataclass(frozen=True)
class SinkFault:
    """One row of the stream's table that is deleted, doubled or changed."""

    kind: str
    row: RowKey


def sink_faults(scenario: Scenario, contract: Contract) -> tuple[SinkFault, ...]:
    """The faults that a scenario plants in the stream's table of a job: as many as find a row in it."""
    wanted = [plant.kind for plant in scenario.plants if plant.kind in SINK for _ in range(plant.count)]
    if not wanted:
        return ()
    rows = Draws(scenario.seed, scenario.name).shuffled(candidates(scenario, contract), f"sink/{contract.shape}")
    return tuple(SinkFault(kind, row) for kind, row in zip(wanted, rows, strict=False))


def candidates(scenario: Scenario, contract: Contract) -> list[RowKey]:
    """Rows that the stream has for certain, and that nothing else makes differ: in order."""
    done = outcome_of(scenario.both, contract, scenario.second)
    touched: set[RowKey] = set()
    events: Counter[RowKey] = Counter()
    for line in scenario.both:
        rows = row_keys(line, contract)
        events.update(rows)
        if line.event and line.event.key in scenario.static_keys:
            touched.update(rows)
    if contract.row_per_event:
        touched.update(row for row, count in events.items() if count > 1)
    # Closed for the last micro-batch already, so that no micro-batch without data is needed to emit them.
    newest_ms = scenario.timeline.newest_ms[-2] - scenario.timeline.lag_ms - scenario.timeline.lateness_ms
    return [row for row in done.equal() if row not in touched and _end_ms(row, done.batch[row], contract) <= newest_ms]


def _end_ms(row: RowKey, made: object, contract: Contract) -> int:
    """The end of a row's window or session; rows without one are out as soon as both sides have them."""
    end_ms = getattr(made, "end_ms", None)
    return end_ms if end_ms is not None else (row[1] or 0) + (contract.window_ms or 0)


def refuse_too_many(scenario: Scenario) -> None:
    """Refuse more faults than there are rows for them.

    Raises
    ------
    InputError
        Says how many rows there are.
    """
    wanted = [plant for plant in scenario.plants if plant.kind in SINK]
    rows = len(candidates(scenario, scenario.contract)) if wanted else 0
    if sum(plant.count for plant in wanted) > rows:
        said = ", ".join(str(plant) for plant in wanted)
        raise InputError(
            f"{said} cannot be planted in {scenario.contract.name}: its stream has {rows} rows in closed windows that "
            "nothing else touches.",
            fix="plant fewer, or more micro-batches (--micro-batches)",
        )
