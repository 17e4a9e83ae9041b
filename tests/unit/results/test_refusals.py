"""Which records a job leaves out, now and as far as a query has read: pure rules over the entries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from twinrun import Job, Source
from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.results.records import Refusal, check_unused, differing, left_out, reached, unused_by


@dataclass(frozen=True)
class Bound:
    topic: str


class Conf:
    def source(self, name: str) -> Bound:
        return Bound({"clicks": "topic-a", "views": "topic-b"}[name])


CONF = cast(Config, Conf())


def logic(clicks: Any, views: Any) -> Any:
    return clicks


JOB = Job(
    logic,
    sources=[Source(name, schema="id STRING, at BIGINT", event_time="at") for name in ("clicks", "views")],
    keys=["id"],
)
ONE = Refusal("clicks", "topic-a", 0, 7, None, "why", "me", 1)
OTHER = replace(ONE, source="views", topic="topic-b", offset=3)
BACK = replace(ONE, offset=5, removed_at_ms=2, removed_by="me", passed="q1")


def test_what_counts_is_left_out_and_what_was_taken_back_is_not() -> None:
    assert left_out(CONF, JOB, [ONE, OTHER, BACK]) == {"clicks": [[0, 7]], "views": [[0, 3]]}


def test_a_source_that_reads_another_topic_now_has_no_entries_and_a_removed_source_neither() -> None:
    assert left_out(CONF, JOB, [replace(ONE, topic="topic-old"), replace(ONE, source="gone")]) == {}


def test_a_query_did_not_use_what_counts_and_what_it_had_passed_before_it_was_taken_back() -> None:
    entries = [ONE, BACK, replace(OTHER, used_by="q1"), replace(BACK, offset=9, passed=None)]
    assert unused_by(CONF, JOB, entries, "q1") == {"clicks": [[0, 5], [0, 7]]}
    assert unused_by(CONF, JOB, entries, "q2") == {"clicks": [[0, 7]], "views": [[0, 3]]}


def test_a_record_that_is_left_out_a_second_time_stands_once() -> None:
    assert unused_by(CONF, JOB, [BACK, replace(BACK, removed_at_ms=None, passed=None)], "q1") == {"clicks": [[0, 5]]}


def test_a_checkpoint_that_has_used_a_record_does_not_go_on_without_it() -> None:
    used = replace(ONE, used_by="q1")
    with pytest.raises(CheckpointError, match=r"holds 1 record .* such as topic-a:0:7"):
        check_unused("job", [used], "q1")
    for query_id, entries in (("q2", [used]), (None, [used]), ("q1", [ONE, replace(used, removed_at_ms=3)])):
        check_unused("job", entries, query_id)


def test_a_batch_is_computed_whole_only_for_a_change_below_what_it_had_read() -> None:
    changed = differing({"clicks": [[0, 5], [0, 7]]}, {"clicks": [[0, 7]], "views": [[1, 2]]})
    assert changed == {"clicks": [[0, 5]], "views": [[1, 2]]}
    assert reached(changed, {"clicks": {0: 6}, "views": {1: 2}}) == {"clicks": [[0, 5]]}
    assert reached(changed, {}) == {}
    assert differing({"clicks": [[0, 5]]}, {"clicks": [[0, 5]]}) == {}
