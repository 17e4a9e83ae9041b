"""The parts of the demo's verdict: windows, micro-batches, dropped events, rows, cut."""

from __future__ import annotations

import random

from twinrun.results.verdict import (
    Cut,
    LateEvent,
    MicroBatchPoint,
    RowSample,
    SourceCut,
    Verdict,
    WindowPoint,
)

HOUR = 3_600_000
DAY = 24 * HOUR
START_MS = 1_357_430_400_000  # 2013-01-06 00:00 UTC
AIRPORTS = ("EWR", "JFK", "LGA")
CARRIERS = ("UA", "B6", "EV", "DL", "AA")


def make_cut() -> Cut:
    ends = {0: 2061, 1: 1998, 2: 2059}
    flights = SourceCut("flights", "flights", dict.fromkeys(ends, 0), ends, ends, ends, ends, 6118, 6118)
    return Cut(
        job="departures_per_hour",
        micro_batch=103,
        watermark_ms=START_MS + 7 * DAY + 2 * HOUR + 59 * 60_000,
        query_id="6f0c1b0e-3c41-4a6b-9d57-0a3f6f1f9e11",
        batch_table="/data/demo/batch/departures_per_hour",
        batch_version=3,
        stream_table="/data/demo/stream/departures_per_hour",
        stream_version=102,
        batch_static={"weather": 0},
        stream_static={"weather": 0},
        sources=(flights,),
        taken_at_ms=1_763_900_000_000,
    )


def make_timeline(dice: random.Random) -> tuple[WindowPoint, ...]:
    """368 closed rows of three airports, 96 explained, and 5 pending."""
    hours = [START_MS + hour * HOUR for hour in range(10, 7 * 24 + 4) if hour % 24 >= 10 or hour % 24 < 4]
    rows = [[start, 3, 0, 0] for start in hours]
    surplus = sum(point[1] for point in rows) - 368
    for point in dice.sample([point for point in rows if point[0] // HOUR % 24 in (0, 1, 2, 3, 11)], surplus):
        point[1] -= 1
    explained_left = 96
    while explained_left:
        point = dice.choice(rows)
        # delays add up over a day: evenings (UTC nights) lose most
        if point[1] and dice.random() < 0.08 + 0.5 * ((point[0] // HOUR - 11) % 24) / 17:
            point[1], point[2], explained_left = point[1] - 1, point[2] + 1, explained_left - 1
    after = hours[-1] + HOUR
    return (
        *(WindowPoint(start, equal, told, 0, 0) for start, equal, told, _ in rows),
        WindowPoint(after, 0, 0, 0, 3),
        WindowPoint(after + HOUR, 0, 0, 0, 2),
    )


def with_explained(verdict: Verdict) -> list[int]:
    return [place for place, point in enumerate(verdict.timeline) if point.explained]


def make_micro_batches(dice: random.Random) -> tuple[MicroBatchPoint, ...]:
    points = []
    newest = START_MS + 11 * HOUR
    for number in range(104):
        watermark = newest - HOUR if number else 0
        events = 60 if number < 101 else (58, 0, 0)[number - 101]
        newest += 17 * 60_000 * dice.randint(2, 6) + (6 * HOUR if number % 15 == 14 else 0) if events else 0
        newest = min(newest, START_MS + 7 * DAY + 4 * HOUR)
        points.append(
            MicroBatchPoint(
                number, events, watermark, newest if events else None, 1_763_899_000_000 + number * 900, 860
            )
        )
    return tuple(points)


def make_late(place: int, dice: random.Random) -> LateEvent:
    micro_batch = 4 + place
    watermark = START_MS + 12 * HOUR + int(place * 1.55 * HOUR)
    late = 21 * HOUR + 42 * 60_000 if place == 57 else dice.randint(1, 150) * 60_000 + 37_000
    window_end = (watermark - late) // HOUR * HOUR
    flight = f"{CARRIERS[place % 5]}{1000 + place * 37}-{AIRPORTS[place % 3]}-2013-01-{6 + place // 15:02d}"
    return LateEvent(
        id={"flight_id": flight},
        topic="flights",
        partition=place % 3,
        offset=60 + place * 19,
        event_time_ms=window_end - HOUR + (place * 7 % 60) * 60_000,
        known_at_ms=watermark + 55 * 60_000,
        window_start_ms=window_end - HOUR,
        window_end_ms=window_end,
        watermark_ms=watermark,
        micro_batch=min(micro_batch, 103),
        late_ms=watermark - window_end,
    )


def make_sample(place: int) -> RowSample:
    start = START_MS + (20 + place * 5) * HOUR
    flights, late = 31 - place, 1 + place % 4
    batch = {
        "origin": AIRPORTS[place % 3],
        "window_start": f"2013-01-{6 + (20 + place * 5) // 24:02d}T{(20 + place * 5) % 24:02d}:00:00Z",
        "flights": flights,
        "cancelled": place % 2,
        "mean_delay": "18.42",
        "max_delay": 143,
        "share_late_15": 0.3548387096774194,
        "wind_mph": 11.5,
        "rain_in": None if place % 3 else "0.02",
    }
    stream = {
        **batch,
        "flights": flights - late,
        "mean_delay": "14.07",
        "max_delay": 88,
        "share_late_15": 0.2857142857142857,
    }
    key = {"origin": batch["origin"], "window_start": batch["window_start"]}
    columns = ("flights", "mean_delay", "max_delay", "share_late_15")
    return RowSample(key, start, "changed", columns, batch, stream, "explained", {"late_dropped": late})
