"""Payments by card in four hours: most cards are used at home now and then; some are stolen.

Such a card is used in another country minutes later, or for far more than ever, and a hot one again and again. A
terminal without network reports an hour and a half later.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws
from twinrun.gallery.log import log_of

START_MS = 1_772_870_400_000
"""2026-03-07 08:00 UTC, a Saturday."""
_MINUTE_MS = 60_000
_SLOT_MS = 10 * _MINUTE_MS
_RUSH = (1, 1, 2, 2, 3, 3, 4, 6, 7, 9, 11, 12, 12, 11, 9, 8, 7, 7, 6, 6, 5, 4, 4, 3)
_CITIES = ((52.52, 13.40), (48.14, 11.58), (50.11, 8.68), (40.42, -3.70), (-33.87, 151.21))
"""Degrees north and east: three cities of one country, one of the next but one, one at the other end of the world."""
_AT_HOME = 3
_STOLEN = 0.04


def card_payments(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` payments; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "cards", n)
    cards = max(5, n // 8)
    card = draws.hot("card", cards)
    home = Draws(seed, "homes", cards).whole("home", 0, _AT_HOME - 1)[card]
    kind = draws.chosen("kind", ("usual", "abroad", "dear"), (1 - _STOLEN, _STOLEN / 2, _STOLEN / 2))
    city = np.asarray(_CITIES)[np.where(kind == "abroad", draws.whole("where", _AT_HOME, len(_CITIES) - 1), home)]
    usual = draws.along("cents", (150, 900, 2_500, 6_000, 20_000))
    events = pd.DataFrame(
        {
            "payment_id": [f"x{number}" for number in range(n)],
            "at": draws.times("at", START_MS, _SLOT_MS, _RUSH),
            "card_id": pd.Series(card).map("c{:05d}".format),
            "cents": np.where(kind == "dear", 40 * usual, usual),
            # Terminals of one city lie within a few kilometres; four digits are eleven metres.
            "latitude": np.round(city[:, 0] + draws.whole("north", -300, 300) / 10_000, 4),
            "longitude": np.round(city[:, 1] + draws.whole("east", -300, 300) / 10_000, 4),
        }
    )
    return log_of(
        events,
        draws,
        key="card_id",
        identity="payment_id",
        time="at",
        delay_ms=draws.along("delay", (200, 900, 3_000, 100_000)),
        late_ms=draws.whole("offline", 85 * _MINUTE_MS, 95 * _MINUTE_MS),
    )


def card_history(seed: int, n: int) -> pd.DataFrame:
    """What each card had paid at once at most before; one card in ten is new and has no history."""
    cards = max(5, n // 8)
    draws = Draws(seed, "history", cards)
    rows = pd.DataFrame(
        {
            "card_id": pd.Series(range(cards)).map("c{:05d}".format),
            "most_cents": draws.along("most", (6_000, 12_000, 20_000, 40_000)),
        }
    )
    return rows[draws.unit("new") >= 0.1].reset_index(drop=True)
