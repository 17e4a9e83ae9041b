"""Plants that only one kind of operator can take: sessions, a source without copies, a join of two streams."""

from __future__ import annotations

from collections.abc import Callable

from twinrun.scenario.laying import Laying
from twinrun.scenario.plants import Plant


def _split(laying: Laying, plant: Plant, number: int) -> None:
    """A visit of one event that is emitted, then an event in time that touches it: one visit at rest, two in motion."""
    gap_ms, draws = laying.contract.gap_ms or 1, laying.draws
    inside_ms = 0 if number % 3 == 0 else draws.below(gap_ms, "split/first", number)

    def first_ms(micro_batch: int) -> int:
        return laying.timeline.dropping_ms(micro_batch) - gap_ms - inside_ms

    micro_batch = laying.place(plant, number, 2, 1, lambda each: laying.read_at(first_ms(each)))
    begin_ms = first_ms(micro_batch)
    # After what is dropped, and no later than the gap after the first: both ends are taken too.
    room_ms = gap_ms - inside_ms
    after_ms = draws.chosen((1, room_ms, 1 + draws.below(room_ms, "split/after", number)), "split/which", number)
    again_ms = laying.timeline.dropping_ms(micro_batch) - gap_ms + after_ms
    key = f"{laying.prefix}.visit{number}"
    laying.add("split", f"visit{number}-1", laying.read_at(begin_ms) or 0, begin_ms, key)
    laying.add("split", f"visit{number}-2", micro_batch, again_ms, key)


def _copy(laying: Laying, plant: Plant, number: int) -> None:
    """An id again, with another time: just forgotten by the stream, or remembered for a millisecond more."""
    variant = plant.variant or ("forgotten", "remembered")[number % 2]
    lateness_ms, draws = laying.timeline.lateness_ms, laying.draws
    away_ms = draws.chosen((0, draws.below(max(1, lateness_ms), f"copy-{variant}", number)), "copy/which", number)

    def first_ms(micro_batch: int) -> int:
        edge_ms = laying.timeline.dropping_ms(micro_batch) - lateness_ms
        first = edge_ms - away_ms if variant == "forgotten" else edge_ms + 1 + away_ms
        window_ms = laying.timeline.window_ms
        # Out of a window that is to stay empty: forgotten for longer, or remembered for longer.
        for gap in laying.gaps:
            if gap <= first < gap + window_ms:
                return gap - 1 if variant == "forgotten" else gap + window_ms
        return first

    def earlier(micro_batch: int) -> int | None:
        place = laying.read_at(first_ms(micro_batch))
        return place if place is not None and place < micro_batch else None

    micro_batch = laying.place(plant, number, 2, 1, earlier)
    name, key = f"copy-{variant}{number}", f"{laying.prefix}.again"
    laying.add("copies", name, earlier(micro_batch) or 0, first_ms(micro_batch), key)
    laying.add("copies", name, micro_batch, laying.now(f"copy-{variant}", number, micro_batch), key)


def _unanswered(laying: Laying, plant: Plant, number: int) -> None:
    """An event in time whose answer is read too late: by a millisecond at most in one of three, else by a while."""
    joined, draws = laying.contract.joined, laying.draws
    assert joined is not None
    late_ms = 0 if number % 3 == 0 else draws.below(5_000, "unanswered/late", number)
    apart_ms = draws.chosen((0, joined.within_ms, draws.below(joined.within_ms, "unanswered", number)), "apart", number)

    def asked_ms(micro_batch: int) -> int:
        return laying.timeline.dropping_ms(micro_batch) - late_ms - apart_ms

    micro_batch = laying.place(plant, number, 2, 1, lambda each: laying.read_at(asked_ms(each)))
    event_ms = asked_ms(micro_batch)
    name = f"unanswered{number}"
    laying.add("unanswered", name, laying.read_at(event_ms) or 0, event_ms, laying.key("unanswered", number))
    laying.owed.append((micro_batch, event_ms + apart_ms, f"{laying.prefix}.{name}"))


OPERATOR_PLANTS: dict[str, Callable[[Laying, Plant, int], None]] = {
    "split": _split,
    "copies": _copy,
    "unanswered": _unanswered,
}
