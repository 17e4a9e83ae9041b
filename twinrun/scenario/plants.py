"""What can be planted, what each plant must lead to, and in which jobs it makes sense."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twinrun.config.problems import nearest
from twinrun.errors import InputError
from twinrun.scenario.contract import Contract

MOST = 100_000
"""Largest count of one plant."""
BROKEN = (
    "empty_value",
    "not_utf8",
    "not_json",
    "trailing_bytes",
    "wrong_type",
    "missing_field",
    "null_event_time",
    "wrong_time_unit",
    "out_of_range",
)
"""Quarantine rules that a poison record can break; ``event_time_ahead`` is what ``clock_skew`` breaks."""
KEYLESS = ("empty_value", "not_utf8", "not_json", "trailing_bytes")
"""Rules whose records are no JSON object, so that a file of JSON lines gives them no key."""
SINK = {"sink_delete": "only_batch", "sink_double": "duplicate_in_stream", "sink_change": "changed"}
"""Faults in the stream's table, and the kind of difference that each makes."""


@dataclass(frozen=True)
class Kind:
    """One kind of plant: what it counts, and what a verify must make of it."""

    counts: str
    leads_to: str
    variants: tuple[str, ...] = ()


KINDS: dict[str, Kind] = {
    "late": Kind("events read after their window closed", "late_dropped", ("tail", "edge", "hours")),
    "filtered": Kind("late events that the job filters away", "no difference; not named as late"),
    "read_late": Kind(
        "events that lay in Kafka in time, on a partition that is read behind another",
        "late_dropped, told as read late",
    ),
    "duplicates": Kind("events that come a second time", "no difference; named in duplicate_events"),
    "disorder": Kind("events out of order, but in time", "no difference"),
    "hot_keys": Kind("events more on one key", "no difference"),
    "gaps": Kind("windows without an event in time", "no difference"),
    "poison": Kind("records that no decoder can use", "quarantined in both modes, no difference", BROKEN),
    "clock_skew": Kind("events from a clock too far ahead", "quarantined in both modes, no difference"),
    "schema_change": Kind(
        "records of a newer producer",
        "a field more is ignored; a field gone or of another type is quarantined",
        ("added", "removed", "retyped"),
    ),
    "split": Kind("events read after the session that they would have joined was emitted", "late_split"),
    "copies": Kind(
        "events that come again with another time",
        "duplicate_event where the stream has forgotten the first; otherwise no difference",
        ("forgotten", "remembered"),
    ),
    "unanswered": Kind("records of the second source read after their time had passed", "late_dropped"),
    "idle_partitions": Kind("partitions that stay empty", "no difference: Spark's watermark does not wait for them"),
    "static_change": Kind("keys whose static row changes between stream and batch", "static_version"),
    "sink_delete": Kind("rows deleted from the stream's table", "unexplained, or proven to be sink_missing"),
    "sink_double": Kind("rows doubled in the stream's table", "unexplained, or proven to be sink_duplicate"),
    "sink_change": Kind("rows changed in the stream's table", "unexplained, or proven to be sink_changed"),
}


@dataclass(frozen=True)
class Plant:
    """So many of one kind; without a variant they take turns, or the first for ``late``."""

    kind: str
    count: int
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.kind}{':' + self.variant if self.variant else ''}={self.count}"


PRESETS: dict[str, tuple[Plant, ...]] = {
    "calm": (),
    "late_tail": (Plant("late", 12, "tail"), Plant("disorder", 12)),
    "late_edge": (Plant("late", 12, "edge"), Plant("disorder", 12)),
    "late_hours": (Plant("late", 6, "hours"),),
    "filtered_away": (Plant("filtered", 12), Plant("late", 3, "edge")),
    "duplicates": (Plant("duplicates", 8),),
    "disorder": (Plant("disorder", 40),),
    "hot_key": (Plant("hot_keys", 60), Plant("late", 4, "tail")),
    "gap": (Plant("gaps", 1), Plant("late", 4, "tail")),
    "poison": (Plant("poison", 18),),
    "clock_skew": (Plant("clock_skew", 6),),
    "schema_change": (Plant("schema_change", 9),),
    "idle": (Plant("idle_partitions", 2), Plant("late", 6, "tail")),
    "sink_faults": (Plant("sink_delete", 1), Plant("sink_double", 1), Plant("sink_change", 1)),
    "static_change": (Plant("static_change", 2),),
    "split_visits": (Plant("split", 3), Plant("late", 6, "edge")),
    "copies": (Plant("copies", 4, "forgotten"), Plant("copies", 4, "remembered")),
    "everything": (
        Plant("late", 8, "tail"),
        Plant("duplicates", 3),
        Plant("disorder", 8),
        Plant("hot_keys", 10),
        Plant("gaps", 1),
        Plant("poison", 9),
        Plant("clock_skew", 2),
        Plant("schema_change", 3),
        Plant("sink_change", 1),
    ),
}
"""Named scenarios. ``mixed`` is one more, whose plants are drawn from the seed."""
MIXED = "mixed"


def parse_plant(text: str) -> Plant:
    """Read ``late=12`` or ``late:edge=12``.

    Raises
    ------
    InputError
        It is not of that form, the kind or variant is not known, or the count is not 1 to `MOST`.
    """
    match = re.fullmatch(r"([^=:]+)(?::([^=:]+))?=(\d{1,9})", text.strip())
    if match is None:
        raise InputError(f"{text!r} is not a plant.", expected="KIND=COUNT or KIND:VARIANT=COUNT, such as late:edge=12")
    name, variant, count = match[1].strip(), (match[2] or "").strip(), int(match[3])
    kind = KINDS.get(name)
    if kind is None:
        raise _unknown("plant", name, tuple(KINDS))
    if variant and variant not in kind.variants:
        if not kind.variants:
            raise InputError(f"the plant {name} has no variants; found {variant!r}.", expected=f"{name}=COUNT")
        raise _unknown(f"variant of {name}", variant, kind.variants)
    if not 1 <= count <= MOST:
        raise InputError(f"{name}={count} cannot be planted.", expected=f"a count of 1 to {MOST:,}")
    return Plant(name, count, variant)


def parse_plants(texts: list[str]) -> tuple[Plant, ...]:
    """Several plants, each (kind, variant) once."""
    plants = tuple(parse_plant(text) for text in texts)
    twice = sorted({str(p) for p in plants if [(q.kind, q.variant) for q in plants].count((p.kind, p.variant)) > 1})
    if twice:
        raise InputError(f"a plant stands twice: {', '.join(twice)}.", expected="each kind and variant once")
    return plants


def preset(name: str) -> tuple[Plant, ...]:
    """The plants of a named scenario.

    Raises
    ------
    InputError
        There is none of that name.
    """
    if name not in PRESETS:
        raise _unknown("scenario", name, (*PRESETS, MIXED))
    return PRESETS[name]


def refuse_impossible(plants: tuple[Plant, ...], contract: Contract) -> None:
    """Refuse plants that have no meaning in a job, in one sentence.

    Raises
    ------
    InputError
        Names the plant, the job and the reason.
    """
    for plant in plants:
        reason = _reason(plant, plants, contract)
        if reason:
            raise InputError(f"{plant} cannot be planted in {contract.name}: {reason}.")


def can_take(kind: str, contract: Contract) -> bool:
    """Whether a plant of this kind, alone, has a meaning in this job."""
    plant = Plant(kind, 1)
    return not _reason(plant, (plant,), contract)


def rules_of(contract: Contract) -> tuple[str, ...]:
    """The rules that a poison record can break in this job."""
    own_time = ("wrong_time_unit",) if contract.time_format == "epoch_ms" else ()
    ranged = ("out_of_range",) if contract.time_format == "epoch_ms" or contract.ranges else ()
    able = {*KEYLESS, "wrong_type", "missing_field", "null_event_time", *own_time, *ranged}
    return tuple(rule for rule in BROKEN if rule in able and (rule != "missing_field" or required_field(contract)))


def required_field(contract: Contract) -> str | None:
    """A required field besides the event time, whose absence sends a record to quarantine."""
    names = [field.name for field in contract.fields if field.required and field.name != contract.time_field]
    return names[-1] if names else None


def _reason(plant: Plant, plants: tuple[Plant, ...], contract: Contract) -> str:
    if plant.kind == "late" and contract.lateness_ms is None:
        return "it has no watermark, so nothing is late"
    if plant.kind == "late" and not contract.drops_late:
        return "it has no windows, so its stream drops nothing"
    if plant.kind == "filtered" and contract.away is None:
        return "it filters nothing away"
    if plant.kind == "read_late" and (contract.joined is not None or not contract.drops_late):
        return "it joins two streams" if contract.joined is not None else "its stream drops nothing"
    if plant.kind == "duplicates" and contract.row_per_event:
        return "a result row is one event, so a second copy would repeat its key"
    if plant.kind == "split" and (contract.gap_ms is None or not contract.drops_late):
        return "it has no session windows under a watermark"
    if plant.kind == "copies" and not contract.distinct:
        return "its source does not drop copies (distinct)"
    if plant.kind == "unanswered" and contract.joined is None:
        return "it has no second source"
    if plant.kind == "gaps" and not contract.windowed:
        return "it has no windows that could stay empty"
    if plant.kind == "clock_skew" and contract.max_ahead_ms is None:
        return "its source sets no max_ahead, so no event time is too far ahead"
    if plant.kind == "poison" and plant.variant and plant.variant not in rules_of(contract):
        return f"no record of its source can break the rule {plant.variant}"
    if plant.kind == "schema_change" and plant.variant == "removed" and required_field(contract) is None:
        return "its source requires no field besides the event time"
    if plant.kind == "static_change" and contract.table is None:
        return "it has no static table"
    if plant.kind == "static_change" and not contract.row_per_event:
        return "which rows a static table changes is known in advance only for a job with one row per event"
    if plant.kind == "idle_partitions" and any(
        p.kind == "poison" and (not p.variant or p.variant in KEYLESS) for p in plants
    ):
        return "a broken record has no key, so it could land on the partition that is to stay empty"
    return ""


def _unknown(what: str, name: str, known: tuple[str, ...]) -> InputError:
    match = nearest(name, set(known))
    return InputError(
        f"there is no {what} {name!r}.", expected=f"one of {', '.join(known)}", fix=f"write {match}" if match else ""
    )
