"""A shop: its orders, the changes of its customers, and reviews of what it sells.

Orders are of five markets over ten days that hold one day of 23 and one of 25 hours; times of day are each market's. A
market without network sends its orders when it is back, two and a half to three days later.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws
from twinrun.gallery.log import log_of

START_MS = 1_743_163_200_000
"""2025-03-28 12:00 UTC: clocks go forward in Berlin on the 30th, and back in Sydney on 6 April."""
DAYS = 10
_HOUR_MS, _DAY_MS = 3_600_000, 86_400_000
_RUSH = (1, 1, 1, 1, 1, 2, 3, 5, 6, 6, 7, 9, 9, 7, 6, 7, 9, 12, 12, 9, 6, 4, 2, 1)
_MARKETS = {"berlin": 1, "new_york": -4, "sydney": 11, "kathmandu": 5, "kiritimati": 14}
"""Markets with about how many hours they are ahead of UTC: only for when people buy."""
_REVIEW_DAYS = 28
_NAMES_EACH, _CITIES_EACH = 60, 5
_PRODUCTS = {"kettle": (8, 3, 1), "lamp": (5, 4, 3), "tent": (2, 2, 6), "radio": (4, 3, 3)}
"""Products with how many reviews are good, so-so and bad."""
_GOOD = (
    "I love it!",
    "VERY good, works like a charm.",
    "Great value :)",
    "Simply the best I ever had!!!",
    "Not bad at all.",
)
_SO_SO = ("Arrived on Tuesday.", "Works as it should.", "It is a {product}.", "I hate the colour, but it is useful.")
_BAD = (
    "Broke after a week :(",
    "Terrible, a waste of money!",
    "The {product} is useless.",
    "NOT good, I am disappointed.",
)
_DEPARTMENTS = ("grocery", "clothing", "garden", "toys", "books")


def orders(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` orders; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "shop", n)
    markets = draws.chosen("market", tuple(_MARKETS), (8, 6, 4, 1, 1))
    ahead = np.select([markets == name for name in _MARKETS], list(_MARKETS.values()), 0)
    rushed = draws.times("at", START_MS, _HOUR_MS, [_RUSH[(12 + hour) % 24] for hour in range(24 * DAYS)])
    # What is drawn is the local time: the rush of a market is at its own evening.
    at = START_MS + (rushed - ahead * _HOUR_MS - START_MS) % (DAYS * _DAY_MS)
    order = np.argsort(at, kind="stable")
    pieces = draws.along("pieces", (1, 1, 2, 3, 5, 30))
    events = pd.DataFrame(
        {
            "order_id": [f"o{number}" for number in range(n)],
            "ordered_at": at,
            "customer_id": pd.Series(draws.hot("customer", max(5, n // 8))).map("c{:05d}".format),
            "market": markets,
            "department": draws.chosen("department", _DEPARTMENTS, (12, 6, 3, 2, 2)),
            "pieces": pieces,
            "cents": pieces * draws.along("cents", (99, 450, 1_200, 3_000, 25_000)),
        }
    )
    return log_of(
        events.iloc[order].reset_index(drop=True),
        draws,
        key="customer_id",
        identity="order_id",
        time="ordered_at",
        delay_ms=draws.along("delay", (300, 900, 4_000, 600_000)),
        late_ms=draws.whole("offline", 5 * _DAY_MS // 2, 3 * _DAY_MS),
    )


def customer_changes(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` changes of a table of customers, as Debezium tells them, in the same ten days."""
    draws = Draws(seed, "customers", n)
    ids = pd.Series(draws.hot("customer", max(5, n // 6))).map("c{:05d}".format)
    place = ids.groupby(ids).cumcount()
    names, cities = _people(seed)
    customers = ids.unique()
    lives = Draws(seed, "lives", len(customers))
    # Only every other change can be a deletion, so that no row is deleted twice.
    deleted = (place % 2 == 1) & (draws.unit("deleted") < 0.15)
    again = (place == 0) | deleted.groupby(ids).shift(fill_value=False)
    state = pd.DataFrame(
        {
            "customer_id": ids,
            "name": ids.map(dict(zip(customers, lives.chosen("name", names), strict=True))),
            "city": draws.chosen("city", cities),
            "points": place * 10 + draws.whole("points", 0, 9),
        }
    )
    after = pd.Series(state.to_dict("records"), dtype=object)
    before: pd.Series[Any] = after.groupby(ids).shift().where(~again, None)
    events = pd.DataFrame(
        {
            "lsn": 1_000 + 8 * np.arange(n),
            "op": np.where(deleted, "d", np.where(again, "c", "u")),
            "ts_ms": draws.times("at", START_MS, _HOUR_MS, [_RUSH[(12 + hour) % 24] for hour in range(24 * DAYS)]),
            "before": before,
            "after": after.where(~deleted, None),
            "_customer_id": ids,
        }
    )
    return log_of(
        events,
        draws,
        key="_customer_id",
        identity="lsn",
        time="ts_ms",
        delay_ms=draws.along("delay", (20, 80, 400, 600_000)),
        late_ms=draws.whole("offline", 5 * _DAY_MS // 2, 3 * _DAY_MS),
    )


def _people(seed: int) -> tuple[list[str], list[str]]:
    """Names of people and of cities as they are written in five countries."""
    from mimesis import Address, Person
    from mimesis.locales import Locale

    where = (Locale.EN, Locale.DE, Locale.PT_BR, Locale.JA, Locale.PL)
    people, places = [Person(each, seed=seed) for each in where], [Address(each, seed=seed) for each in where]
    return (
        [person.full_name() for person in people for _ in range(_NAMES_EACH)],
        [place.city() for place in places for _ in range(_CITIES_EACH)],
    )


def reviews(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` reviews over four weeks; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "reviews", n)
    product = draws.chosen("product", tuple(_PRODUCTS), (6, 3, 2, 1))
    mood = np.select([product == name for name in _PRODUCTS], [draws.chosen(*_mood(name)) for name in _PRODUCTS], 0)
    said = [draws.chosen(f"said {number}", sentences) for number, sentences in enumerate((_GOOD, _SO_SO, _BAD))]
    more = [draws.chosen(f"more {number}", ("", *sentences)) for number, sentences in enumerate((_GOOD, _SO_SO, _BAD))]
    text = pd.Series(np.choose(mood.astype(int), said)) + " " + pd.Series(np.choose(mood.astype(int), more))
    # A name in place of {product}, without a loop: each product's rows at once.
    for name in _PRODUCTS:
        text = text.where(product != name, text.str.replace("{product}", name, regex=False))
    events = pd.DataFrame(
        {
            "review_id": [f"v{number}" for number in range(n)],
            "written_at": draws.times(
                "at", START_MS, _HOUR_MS, [_RUSH[hour % 24] for hour in range(24 * _REVIEW_DAYS)]
            ),
            "product": product,
            "stars": np.clip(5 - 2 * mood.astype(int) + draws.whole("stars", -1, 1), 1, 5),
            "text": text.str.strip().where(draws.unit("silent") >= 0.1, None),
        }
    )
    return log_of(
        events,
        draws,
        key="product",
        identity="review_id",
        time="written_at",
        delay_ms=draws.along("delay", (60_000, 300_000, _HOUR_MS, _DAY_MS)),
        late_ms=draws.whole("forgotten", 11 * _DAY_MS, 13 * _DAY_MS),
    )


def _mood(product: str) -> tuple[str, tuple[int, int, int], tuple[int, int, int]]:
    """What `Draws.chosen` needs for the moods of a product: 0 good, 1 so-so, 2 bad."""
    return f"mood {product}", (0, 1, 2), _PRODUCTS[product]
