"""A web shop's visitors on one Monday, 07:00 to 15:00 UTC: views and clicks in visits, some users far more often.

A phone sends what it has within four minutes, or after hours without network; the others at once.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws
from twinrun.gallery.log import log_of

START_MS = 1_772_434_800_000
"""2026-03-02 07:00 UTC."""
_SLOT_MS = 1_800_000
_RUSH = (1, 2, 4, 5, 4, 3, 3, 4, 6, 7, 5, 3, 3, 4, 4, 3)
_PAGES = {
    "/": ("search", "sign_in"),
    "/search": ("filter", "open"),
    "/product": ("add_to_cart", "share"),
    "/cart": ("checkout", "remove"),
    "/checkout": ("buy",),
    "/help": ("chat",),
}
_SLOWER = {"/": 100, "/search": 160, "/product": 120, "/cart": 100, "/checkout": 220, "/help": 80}


def web_events(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` views and clicks; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "web", n)
    lengths = draws.along("length", (1, 2, 4, 7, 18))
    visit = np.repeat(np.arange(n), lengths)[:n]
    place = np.arange(n) - np.searchsorted(visit, visit)
    visits = int(visit[-1]) + 1
    per_visit = Draws(seed, "visits", visits)
    users = max(3, n // 20)
    user = per_visit.hot("user", users)[visit]
    agents = Draws(seed, "users", users).chosen("agent", ("phone", "tablet", "desktop"), (6, 1, 3))
    pauses = np.where(place == 0, 0, draws.along("pause", (1_000, 6_000, 20_000, 70_000, 400_000)))
    sofar = np.cumsum(pauses)
    begins = per_visit.times("begins", START_MS, _SLOT_MS, _RUSH)[visit]
    at = begins + sofar - sofar[np.searchsorted(visit, visit)]

    viewed = draws.chosen("page", tuple(_PAGES), (5, 6, 8, 3, 2, 1))
    is_view = (place == 0) | (draws.unit("kind") < 0.65)
    # A click is on the page that was viewed last.
    page = viewed[np.maximum.accumulate(np.where(is_view, np.arange(n), 0))]
    which = draws.whole("button", 0, 1)
    options = {(name, number): of[number % len(of)] for name, of in _PAGES.items() for number in (0, 1)}
    button = pd.Series(list(zip(page, which, strict=True))).map(options)
    slower = np.select([page == name for name in _SLOWER], list(_SLOWER.values()), 100)
    load_ms = draws.along("load", (80, 250, 400, 600, 900, 1_500, 6_000)) * slower // 100
    events = pd.DataFrame(
        {
            "event_id": [f"w{number}" for number in range(n)],
            "at": at,
            "user_id": pd.Series(user).map("u{:05d}".format),
            "agent_class": agents[user],
            "page": page,
            "kind": np.where(is_view, "view", "click"),
            "load_ms": pd.Series(load_ms, dtype="Int64").where(is_view),
            "button": button.where(~is_view, None),
            "shown": pd.Series(page).map({name: list(of) for name, of in _PAGES.items()}).where(is_view, None),
        }
    )
    phone = agents[user] == "phone"
    order = np.argsort(at, kind="stable")
    return log_of(
        events.iloc[order].reset_index(drop=True),
        draws,
        key="user_id",
        identity="event_id",
        time="at",
        delay_ms=np.where(phone, draws.along("phone", (300, 2_000, 9_000, 240_000)), draws.whole("wired", 40, 900))[
            order
        ],
        late_ms=np.where(phone, draws.whole("offline", 7_200_000, 10_000_000), 0)[order],
    )
