"""What a running query is said to have done, to lack and to wait for, from the progress that Spark reports."""

from __future__ import annotations

import importlib
import json
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twinrun.errors import BrokerError
from twinrun.events.rules import RULES
from twinrun.results.records import Progress

progress = importlib.import_module("twinrun.streaming.progress")


class Metrics(dict[str, int]):
    def asDict(self) -> dict[str, int]:  # Spark's name
        return self


def entry(
    number: int, start: int | None, end: int, refused: dict[str, int], *, times: int = 1, ran: bool = True
) -> Any:
    """One micro-batch over a topic of one partition, whose rows were read so often by its sink."""
    records = end - (start or 0)
    counts = Metrics({rule: refused.get(rule, 0) * times for rule in RULES} | {"_records": records * times})
    source = SimpleNamespace(
        startOffset="null" if start is None else json.dumps({"t": {"0": start}}),
        endOffset=json.dumps({"t": {"0": end}}),
        latestOffset=json.dumps({"t": {"0": 30}}),
    )
    return SimpleNamespace(
        batchId=number,
        timestamp=str(number),
        durationMs={"triggerExecution": 5, **({"addBatch": 4} if ran else {})},
        numInputRows=records * times if ran else 0,
        sources=[source],
        observedMetrics={"decoded:clicks": counts} if ran else {},
        eventTime={"watermark": "2024-01-01T10:00:00.000Z"},
    )


def collected(*entries: Any) -> Progress:
    query = cast(Any, SimpleNamespace(recentProgress=list(entries), lastProgress=entries[-1]))
    found: Progress = progress._collect(query, progress._Seen(), Progress(-1, 0, None))
    return found


def test_only_micro_batches_of_this_run_count_and_records_are_told_by_rule() -> None:
    """It goes on at micro-batch 26; the last entry is a trigger that found nothing to do."""
    so_far = collected(
        entry(26, 180, 200, {"not_json": 1}),
        entry(27, 200, 206, {"not_json": 1, "wrong_type": 4}),
        entry(28, 206, 206, {}, ran=False),
    )
    assert (so_far.micro_batches, so_far.micro_batch, so_far.events) == (2, 27, 26)
    assert so_far.refused == {"not_json": 2, "wrong_type": 4}


def test_records_that_the_job_leaves_out_count_by_the_rule_of_that() -> None:
    left_out = entry(0, None, 8, {"not_json": 1})
    left_out.observedMetrics["decoded:clicks"]["refused_by_logic"] = 2
    assert collected(left_out).refused == {"not_json": 1, "refused_by_logic": 2}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_sink_that_reads_its_micro_batch_again_counts_no_record_twice(times: int) -> None:
    so_far = collected(entry(3, 10, 20, {"wrong_type": 2}, times=times))
    assert (so_far.events, so_far.refused) == (10, {"wrong_type": 2})


def test_how_far_it_is_behind_is_what_its_topic_had() -> None:
    assert collected(entry(0, None, 20, {})).behind == 10


def test_counts_that_do_not_fit_the_records_are_not_told_apart() -> None:
    odd = entry(3, 10, 20, {"wrong_type": 2})
    odd.observedMetrics["decoded:clicks"]["_records"] = 13
    assert collected(odd).refused is None


def test_a_silent_query_whose_kafka_is_gone_says_what_it_waits_for_and_since_when(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = [True]

    def ask(*_: Any, **__: Any) -> str:
        if gone[0]:
            raise BrokerError("No Kafka broker answers at host:9092.")
        return "id"

    monkeypatch.setattr(progress, "cluster_id", ask)
    monkeypatch.setattr(progress, "QUIET_S", 0.05)
    kafka = SimpleNamespace(bootstrap_servers="host:9092", confluent_options=dict)
    waiting = progress._Waiting(cast(Any, SimpleNamespace(kafka=kafka)))
    assert waiting.since((1, "a")) == ""
    time.sleep(0.1)
    text = waiting.since((1, "a"))
    assert text.startswith("waits for Kafka at host:9092, which does not answer; no micro-batch since 20")
    assert text.endswith(" UTC")
    time.sleep(0.1)
    assert waiting.since((1, "a")) == text  # the instant stays that of the last sign of life
    gone[0] = False
    time.sleep(0.1)
    assert waiting.since((1, "a")) == ""


def test_an_idle_query_whose_kafka_answers_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "cluster_id", lambda *_, **__: "id")
    monkeypatch.setattr(progress, "QUIET_S", 0.0)
    kafka = SimpleNamespace(bootstrap_servers="host:9092", confluent_options=dict)
    waiting = progress._Waiting(cast(Any, SimpleNamespace(kafka=kafka)))
    assert [waiting.since(None), waiting.since(None)] == ["", ""]


def test_twenty_thousand_micro_batches_count_in_full_and_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, state = progress._Seen(), Progress(-1, 0, None)
    for first in range(0, 20_000, 50):  # Spark shows the last 100 each time: half of them again
        shown = [entry(n, n, n + 1, {"not_json": n % 2}) for n in range(max(0, first - 50), first + 50)]
        state = progress._collect(cast(Any, SimpleNamespace(recentProgress=shown, lastProgress=shown[-1])), seen, state)
        seen.logged(first)
    assert (state.events, state.micro_batches, state.micro_batch) == (20_000, 20_000, 19_999)
    assert state.refused == {"not_json": 10_000}
    assert max(map(len, (seen.records, seen.refused, seen.durations_ms, seen.settled_refused))) <= 300


class Query:
    """A query that has ten micro-batches more at each look, and never ends by itself."""

    name, stopped, looks = "q", False, 0

    def awaitTermination(self, _: float) -> bool:  # Spark's name
        self.looks += 1
        return self.stopped

    def stop(self) -> None:
        self.stopped = True

    def exception(self) -> None:
        return None

    @property
    def recentProgress(self) -> list[Any]:  # Spark's name
        return [entry(n, n, n + 1, {}) for n in range(self.looks * 10)]

    @property
    def lastProgress(self) -> Any:  # Spark's name
        return self.recentProgress[-1]


def test_a_log_that_cannot_be_written_stops_the_query_before_its_lease_is_given_back() -> None:
    stream = SimpleNamespace(log_flush_micro_batches=5, log_flush_s=30)
    cfg = cast(Any, SimpleNamespace(stream=stream, kafka=SimpleNamespace(bootstrap_servers="h:1")))
    query, lease = Query(), cast(Any, SimpleNamespace(lost=threading.Event(), subject="stream:q"))

    def flush(_: dict[int, int]) -> int:
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        progress.follow(query, cfg, lease, flush, threading.Event())
    assert query.stopped
