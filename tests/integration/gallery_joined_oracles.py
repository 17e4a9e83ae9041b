"""What the jobs of several logs or with a static table must give, in polars, with nothing of the jobs.

The events of all logs of a job are one frame with the column ``source``; a field that a log has not is null there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from tests.integration.gallery_oracles import MINUTE_MS, WHOLE, Step, in_windows, rounded

Tables = Mapping[str, pl.DataFrame]
Tally = Callable[[pl.DataFrame, Tables], pl.DataFrame]


@dataclass(frozen=True)
class Joined:
    """One job by the rules of its business: its logs with their lateness (ms), and as `gallery_oracles.Oracle`."""

    lateness_ms: Mapping[str, int]
    keys: tuple[str, ...]
    place: Step
    tally: Tally
    final: bool = True


def _signals(placed: pl.DataFrame, _tables: Tables) -> pl.DataFrame:
    trade = pl.col("source") == "prices"
    cents = pl.col("cents").filter(trade)
    news, social = (pl.col("mood").filter(pl.col("source") == source) for source in ("news", "social"))
    rows = (
        placed.sort("event_ms", "offset")
        .group_by("symbol", "window_start", "window_end")
        .agg(
            first_cents=cents.first(),
            last_cents=cents.last(),
            stories=news.count(),
            news_mood=pl.when(news.count() > 0).then(news.sum()),
            posts=social.count(),
            social_mood=pl.when(social.count() > 0).then(social.sum()),
        )
    )
    moved = pl.col("last_cents") - pl.col("first_cents")
    rows = rows.with_columns(change_bp=rounded(moved, 10_000, pl.col("first_cents")))
    score = pl.sum_horizontal("change_bp", "news_mood", 10 * pl.col("social_mood"))
    called = pl.when(score >= 60).then(pl.lit("buy")).when(score <= -60).then(pl.lit("sell")).otherwise(pl.lit("hold"))
    return rows.with_columns(signal=called)


def _surge(placed: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    hour = pl.col("hour").dt.epoch("ms").alias("hour_ms")
    weather = tables["zone_weather"].select("zone", hour, "extra_percent")
    rows = placed.group_by("zone", "window_start", "window_end").agg(
        riders=pl.col("rider_id").drop_nulls().n_unique(), drivers=pl.col("driver_id").drop_nulls().n_unique()
    )
    # No five minutes lie in two hours.
    rows = rows.with_columns(hour_ms=pl.col("window_start") // (60 * MINUTE_MS) * (60 * MINUTE_MS))
    rows = rows.join(weather, ["zone", "hour_ms"], "left").with_columns(pl.col("extra_percent").fill_null(0))
    asked = pl.col("riders").cast(WHOLE) * (100 + pl.col("extra_percent").cast(WHOLE))
    hundredths = rounded(asked, 1, pl.col("drivers"))
    return rows.with_columns(multiplier=hundredths.fill_null(300).clip(100, 300)).drop("hour_ms")


def journeys_of(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """One journey from its lines in any order, each of them perhaps twice."""
    steps = sorted(
        {(line["event_ms"], line["source"].removesuffix("_lines"), line["line_id"], line["status"]) for line in lines}
    )
    services = [step[1] for step in steps]
    failed = [step for step in steps if step[3] >= 500]
    return {
        "request_id": lines[0]["request_id"],
        "window_start": steps[0][0],
        "window_end": steps[-1][0] + 30_000,
        "journey": " > ".join(services),
        "lines": len(steps),
        "complete": set(services) == {"gateway", "basket", "payment"},
        "duration_ms": steps[-1][0] - steps[0][0],
        "failed_first": failed[0][1] if failed else None,
        "failed_at": failed[0][0] if failed else None,
    }


def _journeys(events: pl.DataFrame, _tables: Tables) -> pl.DataFrame:
    """Lines of a request are one journey until none comes for half a minute: those that touch are one."""
    ordered = events.sort("request_id", "event_ms", "source", "offset")
    begins = pl.col("event_ms").diff().over("request_id").fill_null(30_001) > 30_000
    numbered = ordered.with_columns(begins.cast(WHOLE).cum_sum().over("request_id").alias("journey"))
    return pl.DataFrame(
        [journeys_of(each.to_dicts()) for _, each in numbered.group_by("request_id", "journey")],
        infer_schema_length=None,
    )


def _answers(events: pl.DataFrame, _tables: Tables) -> pl.DataFrame:
    """By request: what was sent once, and of what was answered once the answer, if it came within ten seconds."""
    once = events.sort("offset").unique(["source", "request_id"], keep="first")
    sent = once.filter(pl.col("source") == "api_requests").select("request_id", "sent_at", "endpoint")
    answers = once.filter(pl.col("source") == "api_responses").select("request_id", "answered_at", "status")
    rows = sent.join(answers, "request_id", "left")
    waited = pl.col("answered_at") - pl.col("sent_at")
    in_time = waited.is_between(0, 10_000).fill_null(False)
    outcome = pl.when(~in_time).then(pl.lit("unanswered")).when(pl.col("status") >= 500).then(pl.lit("failed"))
    return rows.select(
        "request_id",
        "sent_at",
        "endpoint",
        outcome.otherwise(pl.lit("answered")).alias("outcome"),
        pl.when(in_time).then("status").alias("status"),
        pl.when(in_time).then(waited).alias("waited_ms"),
    )


def _fraud(placed: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    once = placed.unique(["payment_id", "window_start"]).sort("event_ms", "payment_id")
    most = dict(tables["card_history"].select("card_id", "most_cents").iter_rows())
    rows = []
    for (card, start, end), paid in once.group_by("card_id", "window_start", "window_end", maintain_order=True):
        speeds = [_kmh(*pair) for pair in zip(paid.to_dicts(), paid[1:].to_dicts(), strict=False)]
        fastest, largest = max(speeds, default=None), paid["cents"].max()
        why = [
            *(["velocity"] if paid.height >= 6 else []),
            *(["travel"] if fastest is not None and fastest > 900 else []),
            *(["amount"] if card in most and largest > 3 * most[card] else []),
        ]
        found = (card, start, end, paid.height, fastest, largest, ",".join(why))
        rows += [found] if why else []
    names = ("card_id", "window_start", "window_end", "payments", "fastest_kmh", "largest_cents", "reasons")
    return pl.DataFrame(rows, dict.fromkeys(names), orient="row", infer_schema_length=None)


def _kmh(one: dict[str, Any], then: dict[str, Any]) -> int:
    """By the angle between two directions from the centre of the earth: another formula than the job's."""
    directions = []
    for each in (one, then):
        north, east = math.radians(each["latitude"]), math.radians(each["longitude"])
        directions.append((math.cos(north) * math.cos(east), math.cos(north) * math.sin(east), math.sin(north)))
    angle = 2 * math.asin(min(1.0, math.dist(*directions) / 2))
    return math.floor(6_371 * angle * 3_600_000 / max(then["event_ms"] - one["event_ms"], 1_000) + 0.5)


def _risks(placed: pl.DataFrame, tables: Tables) -> pl.DataFrame:
    request = pl.col("source") == "service_requests"
    failed = (pl.col("status") >= 500).filter(request).sum()
    took, count = pl.col("latency_us").filter(request).sum(), request.sum()
    rows = placed.group_by("service", "window_start", "window_end").agg(
        requests=count,
        error_percent=rounded(failed, 10_000, count),
        mean_ms=rounded(took, 1, count),
        restarts=pl.col("restart_id").drop_nulls().n_unique(),
    )
    rows = rows.join(tables["risk_model"].with_columns(pl.exclude("service").cast(pl.Float64)), "service", "left")
    known = pl.col("per_error_percent") * pl.col("error_percent").fill_null(0) / 100
    known += pl.col("per_latency_ms") * pl.col("mean_ms").fill_null(0) / 1_000
    score = pl.col("bias") + known + pl.col("per_restart") * pl.col("restarts")
    risk = (1_000 / (1 + (-score).exp()) + 0.5).floor().cast(WHOLE)
    return rows.with_columns(risk=risk).drop("bias", "^per_.*$")


_SERVICE = ("service", "window_start")

JOINED = {
    "trade_signals": Joined(
        {"prices": 10_000, "news": MINUTE_MS, "social": 30_000},
        ("symbol", "window_start"),
        in_windows(MINUTE_MS),
        _signals,
    ),
    "surge_prices": Joined(
        {"ride_requests": 2 * MINUTE_MS, "driver_pings": MINUTE_MS},
        ("zone", "window_start"),
        in_windows(5 * MINUTE_MS),
        _surge,
        final=False,
    ),
    "request_journeys": Joined(
        dict.fromkeys(("gateway_lines", "basket_lines", "payment_lines"), MINUTE_MS),
        ("request_id", "window_start"),
        lambda events: events,
        _journeys,
    ),
    "request_answers": Joined(
        dict.fromkeys(("api_requests", "api_responses"), MINUTE_MS), ("request_id",), lambda events: events, _answers
    ),
    "fraud_detection": Joined(
        {"card_payments": 2 * MINUTE_MS},
        ("card_id", "window_start"),
        in_windows(30 * MINUTE_MS, 10 * MINUTE_MS),
        _fraud,
    ),
    "failure_prediction": Joined(
        {"service_requests": 5_000, "service_restarts": 5_000}, _SERVICE, in_windows(2 * MINUTE_MS), _risks
    ),
}
