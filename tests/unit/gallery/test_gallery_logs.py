"""The made-up logs: the same bytes for a seed, faults only in their own chapter, and what the domain promises."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from twinrun.errors import InputError
from twinrun.gallery.draws import Draws
from twinrun.gallery.entries import ENTRIES, Make, entry_of
from twinrun.gallery.log import BROKEN, CHAPTERS, COPIES, LATE, NORMAL, RULES, log_records
from twinrun.gallery.ops import risk_model

MAKERS = {source: make for entry in ENTRIES for source, make in entry.logs.items()}
SHA = {
    "customer_changes": "ed011497d45ba3b2",
    "orders": "d45dc0514ae81be6",
    "web_events": "69b981931a91f679",
    "service_requests": "8273c787af7d2334",
    "service_logs": "747f9977785d3d52",
    "reviews": "8209401efa270bf8",
    "prices": "1f6f4782c77c2107",
    "news": "acdbdb7665c99320",
    "social": "2abf27205abaa92b",
    "ride_requests": "e3f8f82119c43165",
    "driver_pings": "53fd30c8f6793c8f",
    "gateway_lines": "a056542e3c07e91f",
    "basket_lines": "121db3ec9413be97",
    "payment_lines": "468a80bb540c7aa8",
    "api_requests": "ab85fde35727899d",
    "api_responses": "3fbacf9a7b560ea5",
    "card_payments": "9a7619879e12c0c6",
    "service_restarts": "6e95b633e2fa1539",
}
TABLES_SHA = {
    "zone_weather": "c3b4e1c1e7063bb6",
    "card_history": "6094af91da036575",
    "risk_model": "b4d8582f781a7d30",
}
KEYS = ("service", "card_id", "zone", "hour")


@pytest.fixture(params=MAKERS)
def source(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def digest(make: Make, seed: int, n: int) -> str:
    lines = [b"\x1f".join([record.key, record.value, b"%d" % record.timestamp_ms]) for record in records(make, seed, n)]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()[:16]


def records(make: Make, seed: int, n: int) -> list:
    return list(log_records(make(seed, n)))


def test_a_seed_gives_the_same_bytes_on_any_machine_and_another_seed_gives_others(source: str) -> None:
    make = MAKERS[source]
    assert digest(make, 7, 500) == SHA[source]
    assert digest(make, 8, 500) != SHA[source]


def test_a_seed_gives_the_same_static_table_too() -> None:
    tables = {name: table for entry in ENTRIES for name, table in entry.tables.items()}
    found = {name: table.make(7, 500).to_json(orient="records", date_format="iso") for name, table in tables.items()}
    assert {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in found.items()} == TABLES_SHA
    for name, table in tables.items():
        rows = table.make(7, 500)
        assert [column.split()[0] for column in table.schema.split(", ")] == list(rows.columns)
        assert not rows.duplicated([column for column in rows.columns if column in KEYS]).any()
        assert table.make(8, 500).to_json(orient="records", date_format="iso") != found[name]


def test_the_model_was_fitted_to_what_made_services_fail() -> None:
    """More errors, latency or restarts are more risk, and the weights lie by those that made the history."""
    rows = risk_model(7, 500).set_index("service").astype(float)
    assert ((rows["per_error_percent"] - 0.2).abs() < 0.05).all()
    assert ((rows["per_restart"] - 0.8).abs() < 0.25).all()
    assert (rows["per_latency_ms"] > 0).all()
    assert ((rows["bias"] + 4).abs() < 0.8).all()


def test_each_fault_keeps_to_its_chapter(source: str) -> None:
    log = MAKERS[source](3, 4_000)
    found = log.groupby("chapter")["planted"].agg(lambda planted: set(planted) - {NORMAL}).to_dict()
    assert found == {NORMAL: set(), LATE: {LATE}, COPIES: {COPIES}, BROKEN: set(RULES)}
    assert set(CHAPTERS) == set(found)
    assert len(log) == 4_000 + (log["planted"] == COPIES).sum()


def test_records_are_in_the_order_in_which_they_become_known(source: str) -> None:
    log = MAKERS[source](3, 2_000)
    assert log["known_ms"].is_monotonic_increasing
    assert not log["event_ms"].is_monotonic_increasing
    delays = log["known_ms"] - log["event_ms"]
    assert delays.min() > 0
    assert delays[log["planted"] == LATE].min() > 3 * delays[log["planted"] == NORMAL].max()


def test_a_copy_is_the_same_bytes_and_a_broken_record_is_broken(source: str) -> None:
    log = MAKERS[source](3, 2_000)
    first = log.drop_duplicates("value")
    assert len(log) - len(first) == (log["planted"] == COPIES).sum() > 10
    for rule, value in log[log["planted"].isin(RULES)][["planted", "value"]].itertuples(index=False):
        if rule == "not_json":
            with pytest.raises(json.JSONDecodeError):
                json.loads(value)
        else:
            fields = json.loads(value)
            assert (None in list(fields.values())[:1]) == (rule == "missing_field")


def test_some_keys_are_hot_and_some_hours_busy(source: str) -> None:
    log = MAKERS[source](3, 4_000)
    keys = log["key"].value_counts()
    assert keys.iloc[0] > 3 * keys.iloc[-1]
    # Of events that are spread evenly the counts per slot have a variance of about their mean.
    slots, even = (np.histogram(times, bins=80)[0] for times in (log["event_ms"], Draws(3, "even", 4_000).unit("x")))
    assert slots.var() > 2 * slots.mean()
    assert even.var() < 2 * even.mean()


def test_numbers_do_not_depend_on_how_many_are_drawn() -> None:
    few, many = Draws(1, "x", 10), Draws(1, "x", 1_000)
    for label in ("a", "b"):
        assert (few.unit(label) == many.unit(label)[:10]).all()
    assert (many.unit("a") != many.unit("b")).any()
    assert 0.45 < many.unit("a").mean() < 0.55
    assert set(many.whole("a", 3, 5)) == {3, 4, 5}
    assert pd.Series(many.chosen("a", ("x", "y"), (9, 1))).value_counts()["x"] > 800


def test_a_job_without_a_log_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match="has no job 'page_visit', so that there is no log") as error:
        entry_of("page_visit")
    assert error.value.fix == "write page_visits"
    assert len({entry.job for entry in ENTRIES}) == len(ENTRIES)
