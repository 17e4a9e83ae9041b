"""What bronze covers: spans that it never got, and offsets that hold no record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from twinrun.errors import BrokerError
from twinrun.results.audit import Covered, absent_offsets
from twinrun.tables import landed as module
from twinrun.tables.checkpoint import PartitionCount, later_of
from twinrun.tables.kafka import Gone, Loss
from twinrun.tables.landed import Answers, Landed, Survey, Unasked, lost_to, spans_text

HEAD, HOLE = Loss(0, 0, 5, 7), Loss(0, 11, 14, 9)


@pytest.mark.parametrize(
    ("landed", "start", "end", "expired", "expected"),
    [
        (Landed(), {0: 0}, {0: 9}, {}, ()),  # nothing on record: nothing is claimed
        (Landed(starts={0: 5}), {}, {}, {}, ()),  # a stream that has read nothing
        (Landed(starts={0: 5}), {0: 0}, {0: 11}, {}, (Loss(0, 0, 5),)),
        (Landed(starts={0: 5}), {0: 3}, {0: 4}, {}, (Loss(0, 3, 4),)),
        (Landed(starts={0: 5}), {0: 5}, {0: 11}, {}, ()),
        (Landed(starts={0: 5, 1: 0}), {0: 0, 1: 0}, {0: 9, 1: 9}, {0: 4}, (Loss(0, 4, 5),)),
        (Landed(starts={0: 5}), {0: 0}, {0: 11}, {0: 6}, ()),
        (Landed(starts={0: 5}, losses=(HEAD,)), {0: 0}, {0: 11}, {}, (Loss(0, 0, 5, 7),)),
        (Landed(starts={0: 5}, losses=(HEAD, HOLE)), {0: 5}, {0: 13}, {}, (Loss(0, 11, 13, 9),)),
        (Landed(starts={0: 5}, losses=(HOLE,)), {0: 0}, {0: 20}, {}, (Loss(0, 0, 5), HOLE)),
        (Landed(starts={0: 5}, losses=(HOLE,)), {0: 14}, {0: 20}, {}, ()),
    ],
)
def test_only_what_the_stream_has_read_and_bronze_never_got_is_lost(
    landed: Landed, start: Any, end: Any, expired: Any, expected: tuple[Loss, ...]
) -> None:
    assert lost_to(landed, start, end, expired) == expected


@pytest.mark.parametrize(
    ("landed", "expired", "ends", "rows", "expected"),
    [
        (Landed(), {}, {0: 9}, PartitionCount(0, 6, 6, 3, 8), 0),  # a table from before starts were recorded
        (Landed(starts={0: 0}), {}, {0: 9}, PartitionCount(0, 6, 6, 3, 8), 3),
        (Landed(starts={0: 0}), {0: 3}, {0: 9}, PartitionCount(0, 6, 6, 3, 8), 0),
        (Landed(starts={0: 0}), {}, {0: 12}, PartitionCount(0, 8, 8, 0, 10), 4),  # a hole, and what follows the last
        (Landed(starts={0: 0}), {}, {0: 3}, None, 3),
        (Landed(), {}, {0: 3}, None, 3),
        (Landed(starts={0: 5}, losses=(HEAD, HOLE)), {}, {0: 16}, PartitionCount(0, 8, 8, 5, 15), 0),
        (Landed(starts={0: 5}, losses=(HOLE,)), {}, {0: 13}, PartitionCount(0, 6, 6, 5, 10), 0),
    ],
)
def test_every_offset_without_a_record_counts_from_the_beginning_to_the_end_that_was_read(
    landed: Landed, expired: Any, ends: Any, rows: PartitionCount | None, expected: int
) -> None:
    covered = Covered(ends, landed, Gone(ends=expired))
    assert absent_offsets(covered, {} if rows is None else {0: rows}) == {0: expected}


def test_spans_are_told_with_their_last_offset() -> None:
    assert spans_text((HEAD, Loss(1, 3, 4))) == "partition 0 offsets 0 to 4; partition 1 offset 3"


def test_the_later_of_two_ends_counts_per_partition() -> None:
    assert later_of({0: 3, 1: 9}, {0: 5, 2: 1}) == {0: 5, 1: 9, 2: 1}


def surveyed(
    monkeypatch: pytest.MonkeyPatch, unasked: dict[int, Unasked], stable: Any, last: Survey | None = None
) -> tuple[Survey, list[Any]]:
    """A survey by a broker whose first open transactions begin at ``stable``; and the spans that it was asked about."""
    asked: list[Any] = []

    def ranges(*_: Any, committed: bool) -> dict[int, tuple[int, int]]:
        assert committed
        if stable is None:
            raise BrokerError("No Kafka broker answers.")
        return {p: (0, high) for p, high in stable.items()}

    def compared(_: Any, __: Any, ___: str, spans: Any, *____: Any) -> Answers:
        asked.append(spans)
        return Answers(empty={0: 1}) if spans else Answers()

    monkeypatch.setattr(module, "offset_ranges", ranges)
    monkeypatch.setattr(module, "_compared", compared)
    kafka = SimpleNamespace(bootstrap_servers="b:1", confluent_options=dict)
    cfg = cast("Any", SimpleNamespace(source=lambda _: SimpleNamespace(topic="t"), kafka=kafka))
    last = last or Survey(ends={0: 2}, empty={0: 1})
    return module._surveyed(cast("Any", None), cfg, "s", last, unasked, False), asked


@pytest.mark.parametrize(
    ("unasked", "stable", "ends", "spans"),
    [
        # Every offset has its record, and nothing is open: Kafka need not be read.
        ({0: Unasked(2, 9, 7)}, {0: 9}, {0: 9}, [{}]),
        # An offset without a record.
        ({0: Unasked(2, 9, 6)}, {0: 9}, {0: 9}, [{0: (2, 9)}]),
        # A transaction is open: what lies before it is asked about, though every offset has its record.
        ({0: Unasked(2, 9, 7)}, {0: 5}, {0: 5}, [{0: (2, 5)}]),
        # It began before anything that is new.
        ({0: Unasked(5, 9, 4)}, {0: 4}, {0: 5}, [{}]),
        # No broker: nothing has moved.
        ({0: Unasked(2, 9, 6)}, None, {0: 2}, []),
    ],
)
def test_kafka_is_asked_up_to_the_first_open_transaction(
    monkeypatch: pytest.MonkeyPatch, unasked: Any, stable: Any, ends: Any, spans: Any
) -> None:
    survey, asked = surveyed(monkeypatch, unasked, stable)
    assert (survey.ends, asked) == (ends, spans)
    assert survey.empty == {0: 2 if any(spans) else 1}


def test_records_without_a_gap_are_asked_about_when_the_marker_behind_them_has_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A transaction is aborted, but what was landed ends before its marker: nothing tells its records from others yet.
    first, asked = surveyed(monkeypatch, {0: Unasked(2, 6, 4), 1: Unasked(0, 3, 3)}, {0: 9, 1: 3})
    assert (first.ends, first.full, asked) == ({0: 6, 1: 3}, {0: 2, 1: 0}, [{}])
    # More of them, and the other partition has nothing new.
    second, asked = surveyed(monkeypatch, {0: Unasked(6, 8, 2), 1: Unasked(3, 3, 0)}, {0: 9, 1: 3}, first)
    assert (second.ends, second.full, asked) == ({0: 8, 1: 3}, {0: 2, 1: 0}, [{}])
    third, asked = surveyed(monkeypatch, {0: Unasked(8, 9, 0), 1: Unasked(3, 3, 0)}, {0: 9, 1: 3}, second)
    assert (third.ends, third.full, asked) == ({0: 9, 1: 3}, {1: 0}, [{0: (2, 9)}])
    # What was asked about is not asked about again.
    fourth, asked = surveyed(monkeypatch, {0: Unasked(9, 12, 2), 1: Unasked(3, 3, 0)}, {0: 12, 1: 3}, third)
    assert (fourth.full, asked) == ({1: 0}, [{0: (9, 12)}])
