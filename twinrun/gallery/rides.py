"""Rides in a city on a Friday evening: requests, free drivers, and the weather of each part of the city.

It rains from 18:00 UTC on. To one zone no driver goes, and in another one nobody asks.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws
from twinrun.gallery.log import log_of

START_MS = 1_772_814_600_000
"""2026-03-06 16:30 UTC."""
_MINUTE_MS, _HOUR_MS = 60_000, 3_600_000
_SLOT_MS = 5 * _MINUTE_MS
_ASKED = (1, 2, 3, 4, 6, 8, 9, 8, 6, 5, 4, 3, 3, 4, 6, 9, 12, 14, 13, 9, 7, 5, 3, 2)
_FREE = (6, 6, 5, 5, 4, 3, 3, 3, 4, 5, 5, 6, 6, 5, 4, 3, 1, 1, 1, 2, 3, 4, 5, 6)
_WITHOUT_DRIVERS, _WITHOUT_RIDERS = "airport", "depot"
_ZONES = ("centre", "harbour", "north", "south")
_RAIN_FROM_MS = 1_772_820_000_000


def ride_requests(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` requests over two hours; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "requests", n)
    events = pd.DataFrame(
        {
            "request_id": [f"q{number}" for number in range(n)],
            "at": draws.times("at", START_MS, _SLOT_MS, _ASKED),
            "zone": draws.chosen("zone", (*_ZONES, _WITHOUT_DRIVERS), (10, 5, 3, 2, 1)),
            "rider_id": pd.Series(draws.hot("rider", max(5, n // 3))).map("r{:05d}".format),
        }
    )
    return _log(events, draws, "request_id", (100, 800, 3_000, 90_000))


def driver_pings(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` pings over two hours; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "pings", n)
    events = pd.DataFrame(
        {
            "ping_id": [f"p{number}" for number in range(n)],
            "at": draws.times("at", START_MS, _SLOT_MS, _FREE),
            "zone": draws.chosen("zone", (*_ZONES, _WITHOUT_RIDERS), (6, 5, 4, 3, 1)),
            "driver_id": pd.Series(draws.whole("driver", 0, max(5, n // 12))).map("d{:05d}".format),
        }
    )
    return _log(events, draws, "ping_id", (50, 300, 1_500, 50_000))


def zone_weather(seed: int, n: int) -> pd.DataFrame:
    """What the weather of each zone and hour adds to a price, in percent; the harbour has no station."""
    hours = pd.date_range("2026-03-06 16:00", periods=4, freq="h", tz="UTC").as_unit("us")
    zones = [zone for zone in (*_ZONES, _WITHOUT_DRIVERS, _WITHOUT_RIDERS) if zone != "harbour"]
    rows = pd.MultiIndex.from_product([zones, hours], names=["zone", "hour"]).to_frame(index=False)
    rain = Draws(seed, "rain", len(rows)).whole("rain", 10, 40)
    since = rows["hour"] >= pd.Timestamp(_RAIN_FROM_MS, unit="ms", tz="UTC")
    return rows.assign(extra_percent=np.where(since, rain, 0).astype(np.int32))


def _log(events: pd.DataFrame, draws: Draws, identity: str, delay_ms: tuple[int, ...]) -> pd.DataFrame:
    late_ms = draws.whole("tunnel", 45 * _MINUTE_MS, 50 * _MINUTE_MS)
    delays = draws.along("delay", delay_ms)
    return log_of(events, draws, key="zone", identity=identity, time="at", delay_ms=delays, late_ms=late_ms)
