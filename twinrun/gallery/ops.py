"""Running services: an hour of log lines with incidents, and twenty minutes of requests with a slow instance.

An agent that loses its connection keeps what it has and sends it a good while later.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws
from twinrun.gallery.log import log_of

START_MS = 1_772_442_000_000
"""2026-03-02 09:00 UTC."""
_MINUTE_MS = 60_000
_APPLICATIONS = ("payments", "search", "login", "mailer")
_TROUBLE = (3, 4, 17, 18, 19, 24, 25, 33, 34, 48, 49)
"""Minutes with an incident: more lines, and half of them errors."""
_SERVICES = {"payments": 3_000, "search": 900, "login": 400, "catalog": 1_200}


def service_logs(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` lines over an hour; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "logs", n)
    at = draws.times("at", START_MS, _MINUTE_MS, [4 if minute in _TROUBLE else 1 for minute in range(60)])
    trouble = np.isin((at - START_MS) // _MINUTE_MS, _TROUBLE)
    calm = draws.chosen("calm", ("INFO", "WARN", "ERROR"), (90, 8, 2))
    level = np.where(trouble & (draws.unit("error") < 0.5), "ERROR", calm)
    # An incident hits one application more than the others.
    hit = np.asarray(_APPLICATIONS, dtype=object)[(at - START_MS) // (10 * _MINUTE_MS) % len(_APPLICATIONS)]
    usual = draws.chosen("application", _APPLICATIONS, (4, 3, 2, 1))
    application = np.where((level == "ERROR") & (draws.unit("which") < 0.7), hit, usual)
    events = pd.DataFrame(
        {
            "line_id": [f"l{number}" for number in range(n)],
            "logged_at": at,
            "application": application,
            "level": level,
            "message": np.where(level == "ERROR", "timed out after 3 attempts", "done"),
        }
    )
    return log_of(
        events,
        draws,
        key="application",
        identity="line_id",
        time="logged_at",
        delay_ms=draws.along("delay", (5, 40, 200, 20_000)),
        late_ms=draws.whole("offline", 15 * _MINUTE_MS, 20 * _MINUTE_MS),
    )


def service_requests(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` requests over twenty minutes; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "requests", n)
    services = draws.chosen("service", tuple(_SERVICES), (2, 5, 2, 4))
    typical = np.select([services == name for name in _SERVICES], list(_SERVICES.values()), 1_000)
    instance = draws.hot("instance", 3)
    # One instance of search is ten times as slow as the others, and fails now and then.
    slow = (services == "search") & (instance == 2)
    latency = draws.along("latency", (30, 60, 80, 100, 140, 250, 1_500)) * typical // 100 * np.where(slow, 10, 1)
    failed = draws.unit("failed") < np.where(slow, 0.2, 0.01)
    events = pd.DataFrame(
        {
            "request_id": [f"r{number}" for number in range(n)],
            "served_at": draws.times("at", START_MS, _MINUTE_MS, [2, 3, 3, 4, 6, 5, 3, 2, 2, 3] * 2),
            "service": services,
            "instance": pd.Series(services) + "-" + pd.Series(instance).astype(str),
            "status": np.where(failed, 503, draws.chosen("status", (200, 201, 404), (90, 6, 4))).astype(np.int64),
            "latency_us": latency,
        }
    )
    return log_of(
        events,
        draws,
        key="instance",
        identity="request_id",
        time="served_at",
        delay_ms=draws.along("delay", (5, 40, 200, 3_000)),
        late_ms=draws.whole("offline", 5 * _MINUTE_MS, 7 * _MINUTE_MS),
    )
