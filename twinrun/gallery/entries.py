"""The jobs that show a use case each: what they answer, and the logs that they are shown on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from twinrun.config.problems import listed, nearest
from twinrun.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

Make = Callable[[int, int], "pd.DataFrame"]


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
    """

    job: str
    question: str
    logs: Mapping[str, Make] = field(default_factory=dict)


def _web(seed: int, n: int) -> pd.DataFrame:
    # numpy and pandas take a second to load: only what makes a log pays for it.
    from twinrun.gallery.web import web_events

    return web_events(seed, n)


def _orders(seed: int, n: int) -> pd.DataFrame:
    from twinrun.gallery.shop import orders

    return orders(seed, n)


def _customers(seed: int, n: int) -> pd.DataFrame:
    from twinrun.gallery.shop import customer_changes

    return customer_changes(seed, n)


def _lines(seed: int, n: int) -> pd.DataFrame:
    from twinrun.gallery.ops import service_logs

    return service_logs(seed, n)


def _requests(seed: int, n: int) -> pd.DataFrame:
    from twinrun.gallery.ops import service_requests

    return service_requests(seed, n)


_WEB, _ORDERS = {"web_events": _web}, {"orders": _orders}
_CUSTOMERS = {"customer_changes": _customers}
_LINES, _REQUESTS = {"service_logs": _lines}, {"service_requests": _requests}

ENTRIES = (
    Entry("receipts", "How do I make something for each event as soon as it is received, and never twice?", _ORDERS),
    Entry("page_load_times", "How long do pages take to load: median, 95th percentile, share over two seconds?", _WEB),
    Entry("button_clicks", "Which button is clicked how often, of the times that it was shown, on which device?", _WEB),
    Entry("user_activity_hourly", "What did each user do in the last hour, every hour?", _WEB),
    Entry("service_metrics", "How do my services do, every ten seconds: requests, failures, mean, p99?", _REQUESTS),
    Entry("page_visits", "How many visits has each page had in the last 15 minutes, right now?", _WEB),
    Entry("page_visits_final", "How many visits did each page have in 15 minutes, once that is certain?", _WEB),
    Entry("error_alerts", "Which application logs too many errors in five minutes, as soon as it happens?", _LINES),
    Entry("error_alerts_audit", "Which alerts should there have been, once that is certain?", _LINES),
    Entry("department_tally", "How many orders has each department had in the past 15 minutes, right now?", _ORDERS),
    Entry("market_orders_daily", "What did each market sell on each of its own days, whatever its time zone?", _ORDERS),
    Entry("customers_latest", "What does each customer's row look like now, from the changes of a table?", _CUSTOMERS),
    Entry("session_durations", "How long are visits, where do they begin and end, and which of them buy?", _WEB),
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
