"""Running services: an hour of log lines with incidents, twenty minutes of requests with a slow instance, and the logs
of three services that requests pass in half an hour.

An agent that loses its connection keeps what it has and sends it a good while later.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pandas as pd

from twinrun.gallery.draws import Draws, Whole
from twinrun.gallery.log import log_of

START_MS = 1_772_442_000_000
"""2026-03-02 09:00 UTC."""
_MINUTE_MS = 60_000
_APPLICATIONS = ("payments", "search", "login", "mailer")
_TROUBLE = (3, 4, 17, 18, 19, 24, 25, 33, 34, 48, 49)
"""Minutes with an incident: more lines, and half of them errors."""
_SERVICES = {"payments": 3_000, "search": 900, "login": 400, "catalog": 1_200}

_UNUSED = "archive"
_PAST_WINDOWS, _STEPS = 2_000, 12
_PASSES = (3, 4, 6, 9, 12, 9, 6, 4, 3, 3) * 3
"""How many requests begin in each minute of half an hour."""
_ENDPOINTS = ("/search", "/basket", "/orders", "/login")


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


def service_restarts(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` restarts in the same twenty minutes; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "restarts", n)
    # A service that no request reaches restarts too.
    service = draws.chosen("service", (*_SERVICES, _UNUSED), (2, 9, 1, 3, 2))
    events = pd.DataFrame(
        {
            "restart_id": [f"u{number}" for number in range(n)],
            "at": draws.times("at", START_MS, _MINUTE_MS, [1, 1, 2, 5, 9, 6, 2, 1, 1, 1] * 2),
            "service": service,
            "instance": pd.Series(service) + "-" + pd.Series(draws.hot("instance", 3)).astype(str),
        }
    )
    return log_of(
        events,
        draws,
        key="service",
        identity="restart_id",
        time="at",
        delay_ms=draws.along("delay", (20, 90, 400, 3_000)),
        late_ms=draws.whole("offline", 5 * _MINUTE_MS, 7 * _MINUTE_MS),
    )


def risk_model(seed: int, n: int) -> pd.DataFrame:
    """Weights of a logistic regression per service, fitted here on a made-up history of 2,000 windows each."""
    rows = [
        {"service": service, **_fitted(Draws(seed, f"history of {service}", _PAST_WINDOWS), usual_us / 1_000)}
        for service, usual_us in _SERVICES.items()
    ]
    return pd.DataFrame(rows)


def _fitted(past: Draws, usual_ms: float) -> dict[str, Decimal]:
    """What made a service fail in the past, by Newton's method; thousandths, so that any machine finds the same."""
    error_percent = past.along("errors", (0, 0, 1, 2, 5, 30)).astype(np.float64)
    latency_ms = usual_ms * past.along("latency", (50, 80, 100, 150, 1_000)) / 100
    restarts = past.along("restarts", (0, 0, 0, 1, 6)).astype(np.float64)
    truth = -4 + 0.2 * error_percent + 0.4 * latency_ms / usual_ms + 0.8 * restarts
    failed = (past.unit("failed") < 1 / (1 + np.exp(-truth))).astype(np.float64)
    features = np.column_stack([np.ones(past.n), error_percent, latency_ms, restarts])
    weights = np.zeros(features.shape[1])
    for _ in range(_STEPS):
        risk = 1 / (1 + np.exp(-features @ weights))
        curve = features.T @ (features * (risk * (1 - risk))[:, None])
        weights = weights + np.linalg.solve(curve, features.T @ (failed - risk))
    names = ("bias", "per_error_percent", "per_latency_ms", "per_restart")
    return {name: Decimal(round(weight * 1_000)).scaleb(-3) for name, weight in zip(names, weights, strict=True)}


def gateway_lines(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` lines about about as many requests; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "gateway", n)
    # Now and then the gateway tried one again, and lost the line of the next.
    again = draws.unit("again") < 0.06
    return _passing(seed, draws, "g", np.maximum(np.arange(n) - again, 0), (1, 4, 15, 200), 0.02)


def basket_lines(seed: int, n: int) -> pd.DataFrame:
    """The same of the service behind it, which many requests reach, some of them twice, and some not at all."""
    draws = Draws(seed, "basket", n)
    return _passing(seed, draws, "b", draws.whole("request", 0, n - 1), (210, 400, 900, 4_000), 0.05)


def payment_lines(seed: int, n: int) -> pd.DataFrame:
    """The same of the last service, which fails most."""
    draws = Draws(seed, "payment", n)
    return _passing(seed, draws, "p", draws.whole("request", 0, n - 1), (4_100, 5_000, 7_000, 20_000), 0.1)


def _passing(
    seed: int, draws: Draws, prefix: str, request: Whole, after_ms: tuple[int, ...], failing: float
) -> pd.DataFrame:
    """What a service logs of the requests that it sees, so long after they began."""
    begins = Draws(seed, "journeys", draws.n).times("begins", START_MS, _MINUTE_MS, _PASSES)
    at = begins[request] + draws.along("after", after_ms)
    order = np.argsort(at, kind="stable")
    failed = draws.unit("failed") < failing
    events = pd.DataFrame(
        {
            "line_id": [f"{prefix}{number}" for number in range(draws.n)],
            "at": at,
            "request_id": pd.Series(request).map("r{:06d}".format),
            "status": np.where(failed, 503, draws.chosen("status", (200, 201, 404), (90, 6, 4))).astype(np.int64),
            "_instance": pd.Series(draws.hot("instance", 6)).map((prefix + "-{}").format),
        }
    )
    return _shipped(events.iloc[order].reset_index(drop=True), draws, "_instance", "line_id", "at")


def api_requests(seed: int, n: int) -> pd.DataFrame:
    """A log of ``n`` requests over half an hour, from clients; see `twinrun.gallery.log.log_of` for its columns."""
    draws = Draws(seed, "asked", n)
    events = pd.DataFrame(
        {
            "request_id": pd.Series(np.arange(n)).map("q{:06d}".format),
            "sent_at": draws.times("sent", START_MS, _MINUTE_MS, _PASSES),
            "client": pd.Series(draws.hot("client", 8)).map("app-{}".format),
            "endpoint": draws.chosen("endpoint", _ENDPOINTS, (6, 3, 2, 1)),
        }
    )
    return _shipped(events, draws, "client", "request_id", "sent_at")


def api_responses(seed: int, n: int) -> pd.DataFrame:
    """As many answers: most in time and some later; one in ten is to a client without a log, so that one lacks its."""
    draws = Draws(seed, "answered", n)
    sent = Draws(seed, "asked", n).times("sent", START_MS, _MINUTE_MS, _PASSES)
    status = np.where(draws.unit("failed") < 0.06, 503, draws.chosen("status", (200, 201, 404), (90, 6, 4)))
    named = np.where(draws.unit("unknown") < 0.1, "x{:06d}", "q{:06d}")
    events = pd.DataFrame(
        {
            "request_id": [name.format(number) for number, name in enumerate(named)],
            "answered_at": sent + draws.along("took", (20, 80, 150, 300, 700, 2_000, 12_000)),
            "status": status.astype(np.int64),
            "_instance": pd.Series(draws.hot("instance", 6)).map("api-{}".format),
        }
    )
    order = np.argsort(events["answered_at"].to_numpy(), kind="stable")
    return _shipped(events.iloc[order].reset_index(drop=True), draws, "_instance", "request_id", "answered_at")


def _shipped(events: pd.DataFrame, draws: Draws, key: str, identity: str, time: str) -> pd.DataFrame:
    """Lines as an agent sends them: soon, or when its connection is back."""
    return log_of(
        events,
        draws,
        key=key,
        identity=identity,
        time=time,
        delay_ms=draws.along("delay", (5, 40, 200, 20_000)),
        late_ms=draws.whole("offline", 11 * _MINUTE_MS, 14 * _MINUTE_MS),
    )
