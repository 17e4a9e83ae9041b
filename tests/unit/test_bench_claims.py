"""The bench of claims: records of 900 kB are the same events, and the page has the figures that were measured."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path

from bench.claims import LARGE, LARGE_BYTES, RESULTS, doc_table, padded, parts_of
from twinrun.produce.records import Record

ROOT = Path(__file__).resolve().parents[2]


def test_a_large_record_is_the_same_object_in_more_bytes() -> None:
    record = Record(b"k", b'{"id": "1", "at": 5}\n', 7)
    large = padded(record, 900)
    assert (len(large.value or b""), large.key, large.timestamp_ms) == (900, b"k", 7)
    object_ = json.loads(large.value or b"")
    object_.pop("padding")
    assert object_ == {"id": "1", "at": 5}


def test_history_comes_first_then_more_and_then_large_ones_that_are_objects() -> None:
    log = [Record(b"k", b"{oops" if number == 9 else b'{"n": %d}' % number, number) for number in range(40)]
    history, more, large = parts_of(log, Namespace(history=4, more=3))
    assert [each.timestamp_ms for each in (*history, *more)] == list(range(7))
    assert [each.timestamp_ms for each in large] == [7, 8, *range(10, 10 + LARGE - 2)]
    assert {len(each.value or b"") for each in large} == {LARGE_BYTES}


def test_the_page_has_what_was_measured_and_every_job_has_figures() -> None:
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "claims.md").read_text(encoding="utf-8")
    assert text.split("<!-- claims -->")[1].strip() == doc_table(result)
    assert [each["job"] for each in result["jobs"] if each["why"]] == []
