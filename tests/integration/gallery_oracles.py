"""What each job of the gallery must give, in polars over whole numbers, with nothing of the jobs.

An oracle has two steps, so that late events can be left out in between: each event once for each row that it belongs to
(``place``), and the rows of what was placed (``tally``). Times are epoch milliseconds, shares ten-thousandths.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
from polars.testing import assert_frame_equal
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
TEXT, WHOLE = pl.String, pl.Int64
_ROW = pl.Struct({"customer_id": TEXT, "name": TEXT, "city": TEXT, "points": WHOLE})
_TRADE: dict[str, pl.DataType] = {"symbol": TEXT(), "at": WHOLE()}
_LINE: dict[str, pl.DataType] = {**dict.fromkeys(("line_id", "request_id"), TEXT()), "at": WHOLE(), "status": WHOLE()}
FIELDS: dict[str, dict[str, pl.DataType]] = {
    "web_events": {
        **dict.fromkeys(("event_id", "user_id", "agent_class", "page", "kind", "button"), TEXT()),
        **dict.fromkeys(("at", "load_ms"), WHOLE()),
        "shown": pl.List(TEXT),
    },
    "orders": {
        **dict.fromkeys(("order_id", "customer_id", "market", "department"), TEXT()),
        **dict.fromkeys(("ordered_at", "pieces", "cents"), WHOLE()),
    },
    "customer_changes": {"op": TEXT(), "ts_ms": WHOLE(), "lsn": WHOLE(), "before": _ROW, "after": _ROW},
    "service_logs": {**dict.fromkeys(("line_id", "application", "level", "message"), TEXT()), "logged_at": WHOLE()},
    "reviews": {**dict.fromkeys(("review_id", "product", "text"), TEXT()), "written_at": WHOLE(), "stars": WHOLE()},
    "prices": {**_TRADE, "trade_id": TEXT(), "cents": WHOLE(), "shares": WHOLE()},
    "news": {**_TRADE, "story_id": TEXT(), "headline": TEXT(), "mood": WHOLE()},
    "social": {**_TRADE, "post_id": TEXT(), "mood": WHOLE()},
    "ride_requests": {**dict.fromkeys(("request_id", "zone", "rider_id"), TEXT()), "at": WHOLE()},
    "driver_pings": {**dict.fromkeys(("ping_id", "zone", "driver_id"), TEXT()), "at": WHOLE()},
    **{f"{service}_lines": _LINE for service in ("gateway", "basket", "payment")},
    "card_payments": {
        **dict.fromkeys(("payment_id", "card_id"), TEXT()),
        **dict.fromkeys(("at", "cents"), WHOLE()),
        **dict.fromkeys(("latitude", "longitude"), pl.Float64()),
    },
    "api_requests": {**dict.fromkeys(("request_id", "client", "endpoint"), TEXT()), "sent_at": WHOLE()},
    "api_responses": {"request_id": TEXT(), "answered_at": WHOLE(), "status": WHOLE()},
    "service_restarts": {**dict.fromkeys(("restart_id", "service", "instance"), TEXT()), "at": WHOLE()},
    "service_requests": {
        **dict.fromkeys(("request_id", "service", "instance"), TEXT()),
        **dict.fromkeys(("served_at", "status", "latency_us"), WHOLE()),
    },
}
TEN_THOUSANDTHS, THOUSANDTHS, HUNDREDTHS = 10_000, 1_000, 100
DECIMALS = {
    **dict.fromkeys(("share_slow", "click_through", "sentiment"), TEN_THOUSANDTHS),
    **dict.fromkeys(("mean_us", "mean_ms", "risk"), THOUSANDTHS),
    **dict.fromkeys(("total", "tax", "stars", "multiplier", "error_percent"), HUNDREDTHS),
}
"""Columns of results that are decimals, by the parts that make a whole."""
Step = Callable[[pl.DataFrame], pl.DataFrame]


@dataclass(frozen=True)
class Oracle:
    """One job by the rules of its business; ``lateness_ms`` is None where nothing can be late.

    ``moves``: which events move the watermark. ``final``: rows come once, when their window is over.
    """

    source: str
    keys: tuple[str, ...]
    place: Step
    tally: Step
    lateness_ms: int | None = None
    final: bool = True
    moves: pl.Expr | bool = True


def typed(source: str, records: pl.DataFrame) -> pl.DataFrame:
    """The fields of the records of a log, with their ``offset`` and ``event_ms``."""
    fields = pl.read_ndjson(io.StringIO("\n".join(records["value"])), schema=FIELDS[source])
    return fields.with_columns(records["offset"].cast(WHOLE), records["event_ms"])


def in_whole_numbers(rows: pl.DataFrame) -> pl.DataFrame:
    """A result in whole numbers: times in milliseconds, decimals in their last digit."""
    times = [pl.col(name).dt.epoch("ms") for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
    decimals = [(pl.col(name) * parts).cast(WHOLE) for name, parts in DECIMALS.items() if name in rows.columns]
    return rows.with_columns(*times, *decimals)


def assert_same(actual: pl.DataFrame, expected: pl.DataFrame, keys: Sequence[str]) -> None:
    """Equal rows and columns; an interpolated percentile to the last digits of a double."""
    assert_frame_equal(
        actual.sort(keys), expected.sort(keys), check_column_order=False, check_dtypes=False, rel_tol=1e-12, abs_tol=0
    )


def in_windows(length_ms: int, slide_ms: int | None = None) -> Step:
    """Each event once for each window that holds it, by whole numbers alone."""
    step_ms = slide_ms or length_ms

    def place(events: pl.DataFrame) -> pl.DataFrame:
        newest = pl.col("event_ms") // step_ms * step_ms
        starts = pl.concat_list([newest - back * step_ms for back in range(length_ms // step_ms)])
        placed = events.with_columns(starts.alias("window_start")).explode("window_start", empty_as_null=True)
        return placed.with_columns((pl.col("window_start") + length_ms).alias("window_end"))

    return place


def share(part: pl.Expr, whole: pl.Expr) -> pl.Expr:
    """Ten-thousandths, a half up, null of nothing."""
    return pl.when(whole > 0).then((2 * 10_000 * part.cast(WHOLE) + whole) // (2 * whole))


def rounded(total: pl.Expr, parts: int, count: pl.Expr) -> pl.Expr:
    """``total * parts / count`` as a whole number, a half away from 0; null of nothing."""
    twice, of = 2 * parts * total.cast(WHOLE), count.cast(WHOLE)
    return pl.when(of > 0).then(total.sign() * ((twice.abs() + of) // (2 * of)))


def grouped(*keys: str, **columns: pl.Expr) -> Step:
    return lambda placed: placed.group_by([*keys]).agg(**columns)


def _views(step: Step) -> Step:
    return lambda events: step(events.filter(pl.col("kind") == "view"))


def _shown_or_clicked(events: pl.DataFrame) -> pl.DataFrame:
    is_view = pl.col("kind") == "view"
    each = events.with_columns(pl.when(is_view).then("shown").otherwise(pl.concat_list("button")).alias("button"))
    return in_windows(HOUR_MS)(each.explode("button", empty_as_null=True))


def _load_times(placed: pl.DataFrame) -> pl.DataFrame:
    load = pl.col("load_ms")
    quantiles = {f"p{p}_ms": load.quantile(p / 100, "linear") for p in (50, 95)}
    rows = grouped(*_PAGE, views=pl.len(), **quantiles, max_ms=load.max(), slow=(load > 2_000).sum(), n=load.count())
    return rows(placed).with_columns(share_slow=share(pl.col("slow"), pl.col("n").cast(WHOLE))).drop("slow", "n")


def _button_clicks(placed: pl.DataFrame) -> pl.DataFrame:
    is_view = pl.col("kind") == "view"
    rows = grouped(*_BUTTON, shown=is_view.sum(), clicks=(~is_view).sum())(placed.drop("shown"))
    return rows.with_columns(click_through=share(pl.col("clicks"), pl.col("shown").cast(WHOLE)))


def _service_metrics(placed: pl.DataFrame) -> pl.DataFrame:
    took = pl.col("latency_us")
    rows = grouped(
        *_SERVICE,
        requests=pl.len(),
        failed=(pl.col("status") >= 500).sum(),
        instances=pl.col("instance").n_unique(),
        mean_us=(2 * 1_000 * took.sum() + pl.len()) // (2 * pl.len()),
        p99_us=took.quantile(0.99, "linear"),
        max_us=took.max(),
    )
    return rows(placed)


def _sentiment(placed: pl.DataFrame) -> pl.DataFrame:
    """The library once per text that there is; its score is what the job is about, and no code of the job."""
    told = SentimentIntensityAnalyzer()
    texts = placed["text"].drop_nulls().unique().to_list()
    scores = [round(10_000 * told.polarity_scores(text)["compound"]) for text in texts]
    assert min(scores) < -500 < 0 < 500 < max(scores)
    score = pl.col("text").replace_strict(texts, scores, default=None, return_dtype=WHOLE)
    rows = grouped(
        *("product", "window_start", "window_end"),
        reviews=pl.len(),
        texts=score.count(),
        positive=(score >= 500).sum(),
        negative=(score <= -500).sum(),
        sentiment=rounded(score.sum(), 1, score.count()),
        stars=rounded(pl.col("stars").sum(), 100, pl.len()),
    )
    return rows(placed)


def _alerts(placed: pl.DataFrame) -> pl.DataFrame:
    error = pl.col("level") == "ERROR"
    rows = grouped(
        *_APPLICATION,
        errors=error.sum(),
        lines=pl.len(),
        first_error_at=pl.col("event_ms").filter(error).min(),
        last_error_at=pl.col("event_ms").filter(error).max(),
    )
    return rows(placed).filter(pl.col("errors") >= 5)


def _receipts(events: pl.DataFrame) -> pl.DataFrame:
    once = events.unique("order_id", keep="first", maintain_order=True)
    cents = pl.col("cents")
    return once.select(
        "order_id",
        "ordered_at",
        "customer_id",
        "market",
        (pl.col("market").str.to_uppercase() + " / " + pl.col("order_id")).alias("receipt"),
        "pieces",
        cents.alias("total"),
        ((2 * 19 * cents + 119) // (2 * 119)).alias("tax"),
    )


def _local_days(events: pl.DataFrame) -> pl.DataFrame:
    zones = {"berlin": "Europe/Berlin", "sydney": "Australia/Sydney", "kathmandu": "Asia/Kathmandu"}
    zones |= {"kiritimati": "Pacific/Kiritimati", "new_york": "America/New_York"}
    utc = pl.from_epoch("ordered_at", "ms").dt.replace_time_zone("UTC")
    parts = [
        events.filter(pl.col("market") == market).with_columns(
            local_date=utc.dt.convert_time_zone(zone).dt.strftime("%Y-%m-%d")
        )
        for market, zone in zones.items()
    ]
    return pl.concat(parts)


def _latest_customers(events: pl.DataFrame) -> pl.DataFrame:
    """The last change of each customer by the log of the database, where it is no deletion."""
    whose = pl.coalesce(pl.col("after").struct["customer_id"], pl.col("before").struct["customer_id"])
    last = events.with_columns(whose.alias("customer_id")).sort("lsn").unique("customer_id", keep="last")
    fields = [pl.col("after").struct[name].alias(name) for name in ("name", "city", "points")]
    kept = last.filter(pl.col("op") != "d")
    return kept.select("customer_id", *fields, pl.col("ts_ms").alias("changed_at"), pl.lit(False).alias("deleted"))


def _sessions(events: pl.DataFrame) -> pl.DataFrame:
    """A session begins where the event before is more than the gap away: those that touch are one."""
    gap_ms = 30 * MINUTE_MS
    ordered = events.sort("user_id", "event_ms", "offset")
    begins = pl.col("event_ms").diff().over("user_id").fill_null(gap_ms + 1) > gap_ms
    numbered = ordered.with_columns(begins.cast(WHOLE).cum_sum().over("user_id").alias("session"))
    times = pl.col("event_ms")
    rows = numbered.group_by("user_id", "session", maintain_order=True).agg(
        window_start=times.min(),
        window_end=times.max() + gap_ms,
        events=pl.len(),
        duration_ms=times.max() - times.min(),
        pages=pl.col("page").n_unique(),
        entry_page=pl.col("page").first(),
        exit_page=pl.col("page").last(),
        converted=(pl.col("button") == "buy").any(),
    )
    return rows.drop("session")


_PAGE = ("page", "window_start", "window_end")
_BUTTON = ("page", "button", "agent_class", "window_start", "window_end")
_USER = ("user_id", "window_start", "window_end")
_SERVICE = ("service", "window_start", "window_end")
_APPLICATION = ("application", "window_start", "window_end")
_DEPARTMENT = ("department", "window_start", "window_end")
_QUARTERS = (15 * MINUTE_MS, 5 * MINUTE_MS)
_VIEW = pl.col("kind") == "view"
_activity = grouped(
    *_USER,
    views=_VIEW.sum(),
    clicks=(~_VIEW).sum(),
    pages=pl.col("page").n_unique(),
    first_at=pl.col("event_ms").min(),
    last_at=pl.col("event_ms").max(),
)
_visits = grouped(*_PAGE, visits=pl.len(), visitors=pl.col("user_id").n_unique())
_tally = grouped(*_DEPARTMENT, orders=pl.len(), pieces=pl.col("pieces").sum(), cents=pl.col("cents").sum())
_daily = grouped(
    "market",
    "local_date",
    orders=pl.len(),
    cents=pl.col("cents").sum(),
    largest_cents=pl.col("cents").max(),
    first_at=pl.col("event_ms").min(),
    last_at=pl.col("event_ms").max(),
)
_web = ("web_events", ("page", "window_start"), _views(in_windows(*_QUARTERS)), _visits, 10 * MINUTE_MS)
_logs = ("service_logs", ("application", "window_start"), in_windows(5 * MINUTE_MS, MINUTE_MS), _alerts, 30_000)

ORACLES = {
    "receipts": Oracle("orders", ("order_id",), lambda events: events, _receipts),
    "page_load_times": Oracle(
        "web_events",
        ("page", "window_start"),
        _views(in_windows(10 * MINUTE_MS)),
        _load_times,
        10 * MINUTE_MS,
        moves=_VIEW,
    ),
    "button_clicks": Oracle(
        "web_events",
        ("page", "button", "agent_class", "window_start"),
        _shown_or_clicked,
        _button_clicks,
        10 * MINUTE_MS,
    ),
    "user_activity_hourly": Oracle(
        "web_events", ("user_id", "window_start"), in_windows(HOUR_MS), _activity, 10 * MINUTE_MS
    ),
    "service_metrics": Oracle(
        "service_requests", ("service", "window_start"), in_windows(10_000), _service_metrics, 5_000
    ),
    "review_sentiment": Oracle("reviews", ("product", "window_start"), in_windows(DAY_MS), _sentiment, 2 * DAY_MS),
    "page_visits": Oracle(*_web, final=False, moves=_VIEW),
    "page_visits_final": Oracle(*_web, moves=_VIEW),
    "error_alerts": Oracle(*_logs, final=False),
    "error_alerts_audit": Oracle(*_logs),
    "department_tally": Oracle(
        "orders", ("department", "window_start"), in_windows(*_QUARTERS), _tally, HOUR_MS, final=False
    ),
    "market_orders_daily": Oracle("orders", ("market", "local_date"), _local_days, _daily),
    "customers_latest": Oracle("customer_changes", ("customer_id",), lambda events: events, _latest_customers),
    "session_durations": Oracle(
        "web_events", ("user_id", "window_start"), lambda events: events, _sessions, 20 * MINUTE_MS
    ),
}
