"""Make a scenario from its name, seed and plants."""

from __future__ import annotations

from twinrun.errors import InputError
from twinrun.scenario.answers import lay_answers
from twinrun.scenario.contract import Contract
from twinrun.scenario.counter import Draws
from twinrun.scenario.faults import refuse_too_many
from twinrun.scenario.lay import Laying, lay_all
from twinrun.scenario.model import KEYS, Planned, Scenario, key_names, prefix_of
from twinrun.scenario.plants import MIXED, SINK, Plant, can_take, preset, refuse_impossible
from twinrun.scenario.timeline import Timeline, timeline

SIZE, MICRO_BATCHES = 40, 6
_LIMITS = {
    "seed": (0, 2**63 - 1),
    "size": (8, 100_000),
    "number of micro-batches": (3, 1_000),
}
_MIXED_MOST = {
    "late": 8,
    "duplicates": 3,
    "disorder": 8,
    "hot_keys": 8,
    "gaps": 1,
    "poison": 5,
    "clock_skew": 2,
    "schema_change": 3,
    "static_change": 2,
    "split": 3,
    "copies": 4,
    "unanswered": 4,
    "filtered": 6,
    "read_late": 3,
    "sink_delete": 1,
    "sink_double": 1,
    "sink_change": 1,
}
_ALWAYS = ("filtered",)
"""Planted in every mixed scenario that can take it: of the shapes that run over one log only one filters."""
_RARE = 4  # a fault in the sink is planted in one of so many mixed scenarios


def generate(
    name: str,
    seed: int,
    contract: Contract,
    plants: tuple[Plant, ...] | None = None,
    size: int = SIZE,
    micro_batches: int = MICRO_BATCHES,
) -> Scenario:
    """Make a scenario; the same arguments give the same bytes on any machine.

    Parameters
    ----------
    name : str
        A preset, ``mixed``, or with plants of one's own any name.
    plants : tuple of Plant, optional
        None: those of the preset.
    size : int
        Records per micro-batch.

    Raises
    ------
    InputError
        The name is not known, a number is outside its limits, a plant has no meaning in the job, or there is no room
        for its count.
    """
    for what, value in (("seed", seed), ("size", size), ("number of micro-batches", micro_batches)):
        low, high = _LIMITS[what]
        if not low <= value <= high:
            raise InputError(f"the {what} {value} cannot be used.", expected=f"{low} to {high}")
    if plants is None:
        plants = mixed(seed, contract) if name == MIXED else preset(name)
    refuse_impossible(plants, contract)
    draws, when, prefix = Draws(seed, name), timeline(contract, seed, micro_batches), prefix_of(seed)
    gaps = _gaps(plants, when, draws)
    laying = Laying(contract, draws, when, prefix, size, gaps)
    lay_all(laying, plants)
    lines = tuple(
        line
        for micro_batch, made in enumerate(laying.made)
        for line in _readable_first(draws.shuffled(made, f"order/{micro_batch}"))
    )
    static_keys = _static_keys(plants, draws, prefix, contract)
    second = lay_answers(laying, lines) if contract.joined else ()
    behind = tuple(laying.behind)
    scenario = Scenario(name, seed, plants, contract, size, when, lines, gaps, static_keys, second, behind)
    refuse_too_many(scenario)
    return scenario


def mixed(seed: int, contract: Contract) -> tuple[Plant, ...]:
    """Plants drawn from the seed: each kind that the job can take, or not, and how many."""
    draws = Draws(seed, MIXED)
    plants = []
    for kind, most in _MIXED_MOST.items():
        wanted = draws.below(_RARE if kind in SINK else 2, f"{kind}/wanted") == 0
        if (wanted or kind in _ALWAYS) and can_take(kind, contract):
            variant = draws.chosen(("tail", "edge", "hours"), f"{kind}/variant") if kind == "late" else ""
            plants.append(Plant(kind, 1 + draws.below(most, f"{kind}/count"), variant))
    return tuple(plants)


def _readable_first(lines: list[Planned]) -> list[Planned]:
    """The same lines, a valid event first: a broken record takes its Kafka timestamp from the line before it."""
    place = next(number for number, line in enumerate(lines) if line.event is not None)
    return [lines[place], *lines[:place], *lines[place + 1 :]]


def _gaps(plants: tuple[Plant, ...], when: Timeline, draws: Draws) -> tuple[int, ...]:
    count = sum(plant.count for plant in plants if plant.kind == "gaps")
    free = when.free_windows()
    if count > len(free):
        raise InputError(
            f"gaps={count} cannot be planted: in this seed's timeline {len(free)} windows can stay empty.",
            fix="plant fewer, or more micro-batches (--micro-batches)",
        )
    return tuple(sorted(draws.shuffled(free, "gaps")[:count]))


def _static_keys(plants: tuple[Plant, ...], draws: Draws, prefix: str, contract: Contract) -> tuple[str, ...]:
    count = sum(plant.count for plant in plants if plant.kind == "static_change")
    if count > KEYS:
        raise InputError(
            f"static_change={count} cannot be planted in {contract.name}: a scenario has {KEYS} keys.",
            expected=f"static_change=1 to static_change={KEYS}",
        )
    return tuple(sorted(draws.shuffled(key_names(prefix), "static")[:count]))
