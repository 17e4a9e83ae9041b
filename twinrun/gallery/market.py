"""A stock exchange for forty minutes: trades, news and posts about five symbols, one of them far more than the others.

One company has bad news, and its price falls with it. What a feed could not deliver comes a quarter of an hour later.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws
from twinrun.gallery.log import log_of

START_MS = 1_772_461_800_000
"""2026-03-02 14:30 UTC: the exchange opens."""
_MINUTE_MS = 60_000
_RUSH = (9, 8, 6, 5, 4, 3, 3, 2, 2, 3, 2, 2, 3, 6, 7, 6, 4, 3, 2, 2) * 2
_SYMBOLS = {"ACME": 18_250, "GLOBEX": 4_410, "INITECH": 720, "HOOLI": 99_900, "UMBRELLA": 3_333}
"""Symbols with their price in cents when the exchange opens."""
_IN_TROUBLE, _TROUBLE_MS = "GLOBEX", 12 * _MINUTE_MS


def prices(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` trades; see `twinrun.gallery.log.log_of` for its columns."""
    draws, at, symbol, falling = _feed(seed, "prices", n)
    opening = np.select([symbol == name for name in _SYMBOLS], list(_SYMBOLS.values()), 0)
    minutes = (at - START_MS - _TROUBLE_MS) // _MINUTE_MS
    # Hundredths of a percent, around the opening price: a day's noise, and a fall from the bad news on.
    moved = draws.along("moved", (-80, -20, 0, 20, 80)) - np.where(falling, np.minimum(60 * minutes, 900), 0)
    events = pd.DataFrame(
        {
            "trade_id": [f"t{number}" for number in range(n)],
            "at": at,
            "symbol": symbol,
            "cents": opening * (10_000 + moved) // 10_000,
            "shares": draws.along("shares", (1, 10, 100, 250, 5_000)),
        }
    )
    return _log(events, draws, "trade_id", (2, 15, 60, 4_000))


def news(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` stories; see `twinrun.gallery.log.log_of` for its columns."""
    draws, at, symbol, falling = _feed(seed, "news", n)
    mood = draws.along("mood", (-60, -15, 0, 15, 60)) - np.where(falling, 40, 0)
    word = np.select([mood <= -20, mood >= 20], ["falls short", "surprises"], "reports")
    events = pd.DataFrame(
        {
            "story_id": [f"n{number}" for number in range(n)],
            "at": at,
            "symbol": symbol,
            "headline": pd.Series(symbol) + " " + pd.Series(word),
            "mood": mood,
        }
    )
    return _log(events, draws, "story_id", (500, 2_000, 8_000, 40_000))


def social(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` posts; see `twinrun.gallery.log.log_of` for its columns."""
    draws, at, symbol, falling = _feed(seed, "social", n)
    usual = draws.chosen("usual", (-1, 0, 1), (2, 5, 3))
    events = pd.DataFrame(
        {
            "post_id": [f"s{number}" for number in range(n)],
            "at": at,
            "symbol": symbol,
            "mood": np.where(falling & (draws.unit("angry") < 0.6), -1, usual).astype(np.int64),
        }
    )
    return _log(events, draws, "post_id", (50, 400, 1_500, 20_000))


def _feed(seed: int, name: str, n: int) -> tuple[Draws, np.ndarray, np.ndarray, np.ndarray]:
    """Draws, times, symbols, and which of them are of the company in trouble, from when it is."""
    draws = Draws(seed, name, n)
    at = draws.times("at", START_MS, _MINUTE_MS, _RUSH)
    symbol = draws.chosen("symbol", tuple(_SYMBOLS), (8, 5, 3, 2, 1))
    return draws, at, symbol, (symbol == _IN_TROUBLE) & (at >= START_MS + _TROUBLE_MS)


def _log(events: pd.DataFrame, draws: Draws, identity: str, delay_ms: tuple[int, ...]) -> pd.DataFrame:
    late_ms = draws.whole("outage", 14 * _MINUTE_MS, 18 * _MINUTE_MS)
    delays = draws.along("delay", delay_ms)
    return log_of(events, draws, key="symbol", identity=identity, time="at", delay_ms=delays, late_ms=late_ms)
