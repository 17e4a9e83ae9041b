"""The jobs that show a use case each: what they answer, and the logs that they are shown on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from twinrun.config.problems import listed, nearest
from twinrun.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import SparkSession

Make = Callable[[int, int], "pd.DataFrame"]


@dataclass(frozen=True)
class Static:
    """A static table of a job: what makes its rows from seed and number of events, and their schema as Spark DDL."""

    schema: str
    make: Make


def write_static(spark: SparkSession, table: Static, seed: int, events: int, path: str) -> None:
    """Write a static table as Delta, replacing what is there. One Spark job and a commit."""
    rows = spark.createDataFrame(table.make(seed, events), table.schema)
    rows.coalesce(1).write.format("delta").mode("overwrite").save(path)


def static_file(table: Static, seed: int, events: int) -> bytes:
    """The same rows as a Parquet file, without Spark."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"STRING": pa.string(), "INT": pa.int32(), "BIGINT": pa.int64(), "TIMESTAMP": pa.timestamp("us", "UTC")}
    kinds[_WEIGHT] = pa.decimal128(9, 3)
    schema = pa.schema([(name, kinds[kind]) for name, kind in (each.split() for each in table.schema.split(", "))])
    written = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pandas(table.make(seed, events), schema, preserve_index=False), written)
    file: bytes = written.getvalue().to_pybytes()
    return file


@dataclass(frozen=True)
class Entry:
    """One job of the gallery. Everything else about it (shape, window, keys) is said by its job file.

    Parameters
    ----------
    job : str
        Its name in the configuration.
    question : str
        What somebody asks who looks for it.
    logs : dict of str
        Per source what makes its log: a function of seed and number of events, to a frame as
        `twinrun.gallery.log.log_of` gives it.
    tables : dict of str
        The same of its static tables, by name.
    needs : str, optional
        A package that it imports on the workers, and that twinrun itself does not bring along.
    made_with : str, optional
        The same of what makes its logs; who has them needs it no more.
    """

    job: str
    question: str
    logs: Mapping[str, Make] = field(default_factory=dict)
    tables: Mapping[str, Static] = field(default_factory=dict)
    needs: str | None = None
    made_with: str | None = None

    def lacking(self) -> str | None:
        """A package that it needs to be shown here, and that is not installed; None where all are."""
        return next((name for name in (self.needs, self.made_with) if absent(name)), None)


def absent(package: str | None) -> bool:
    """Whether a package is asked for and not installed."""
    return package is not None and find_spec(package) is None


def _made(room: str, name: str) -> Make:
    """What makes a log or a table. numpy and pandas take a second to load: only who makes one pays for it."""

    def make(seed: int, n: int) -> pd.DataFrame:
        of: Make = getattr(import_module(f"twinrun.gallery.{room}"), name)
        return of(seed, n)

    return make


def _logs(room: str, *sources: str) -> dict[str, Make]:
    return {source: _made(room, source) for source in sources}


_WEB, _ORDERS, _LINES = _logs("web", "web_events"), _logs("shop", "orders"), _logs("ops", "service_logs")

_WEIGHT = "DECIMAL(9,3)"
_MODEL = f"service STRING, bias {_WEIGHT}, per_error_percent {_WEIGHT}, per_latency_ms {_WEIGHT}, per_restart {_WEIGHT}"

ENTRIES = (
    Entry("receipts", "How do I make something for each event as soon as it is received, and never twice?", _ORDERS),
    Entry("page_load_times", "How long do pages take to load: median, 95th percentile, share over two seconds?", _WEB),
    Entry("button_clicks", "Which button is clicked how often, of the times that it was shown, on which device?", _WEB),
    Entry("user_activity_hourly", "What did each user do in the last hour, every hour?", _WEB),
    Entry(
        "service_metrics",
        "How do my services do, every ten seconds: requests, failures, mean, p99?",
        _logs("ops", "service_requests"),
    ),
    Entry(
        "review_sentiment",
        "What do the words of my customers' reviews say, each day and product?",
        _logs("shop", "reviews"),
        needs="vaderSentiment",
    ),
    Entry("page_visits", "How many visits has each page had in the last 15 minutes, right now?", _WEB),
    Entry("page_visits_final", "How many visits did each page have in 15 minutes, once that is certain?", _WEB),
    Entry("error_alerts", "Which application logs too many errors in five minutes, as soon as it happens?", _LINES),
    Entry("error_alerts_audit", "Which alerts should there have been, once that is certain?", _LINES),
    Entry("department_tally", "How many orders has each department had in the past 15 minutes, right now?", _ORDERS),
    Entry("market_orders_daily", "What did each market sell on each of its own days, whatever its time zone?", _ORDERS),
    Entry(
        "customers_latest",
        "What does each customer's row look like now, from the changes of a table?",
        _logs("shop", "customer_changes"),
        made_with="mimesis",
    ),
    Entry("session_durations", "How long are visits, where do they begin and end, and which of them buy?", _WEB),
    Entry(
        "trade_signals",
        "Should I buy, sell or hold, each minute, by price, news and what people post?",
        _logs("market", "prices", "news", "social"),
    ),
    Entry(
        "surge_prices",
        "What does a ride cost where and now, by demand, supply and weather?",
        _logs("rides", "ride_requests", "driver_pings"),
        {"zone_weather": Static("zone STRING, hour TIMESTAMP, extra_percent INT", _made("rides", "zone_weather"))},
    ),
    Entry(
        "request_journeys",
        "Which way did each request take through my services, and who failed first?",
        _logs("ops", "gateway_lines", "basket_lines", "payment_lines"),
    ),
    Entry(
        "request_answers",
        "Which requests were answered in time, which failed, and which got no answer at all?",
        _logs("ops", "api_requests", "api_responses"),
    ),
    Entry(
        "fraud_detection",
        "Which cards are used too often, in two places at once, or for far too much?",
        _logs("cards", "card_payments"),
        {"card_history": Static("card_id STRING, most_cents BIGINT", _made("cards", "card_history"))},
    ),
    Entry(
        "failure_prediction",
        "Which service will fail soon, by a model that was fitted on what had happened before?",
        _logs("ops", "service_requests", "service_restarts"),
        {"risk_model": Static(_MODEL, _made("ops", "risk_model"))},
    ),
)
"""In the order in which the shapes build on one another."""


def entry_of(job: str) -> Entry:
    """The entry of a job.

    Raises
    ------
    InputError
        The gallery has no such job, so that there is no log to show it on.
    """
    known = {entry.job: entry for entry in ENTRIES}
    if job in known:
        return known[job]
    match = nearest(job, known)
    raise InputError(
        f"the gallery has no job {job!r}, so that there is no log to show it on.",
        expected=f"one of {listed(known)}",
        fix=f"write {match}" if match else "twinrun gallery lists them by the question that they answer",
    )
