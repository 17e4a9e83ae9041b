"""An open loop: a stall, wherever it is, must show in the figures."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twinrun.errors import InputError
from twinrun.measure.load import Due, Load, Sent, check_rate, read_dues, schedule, send_on_time, write_dues
from twinrun.measure.usage import Cpu, cpu
from twinrun.produce.records import Record

STALL_S = 5.0


def records(times_ms: list[int | None]) -> list[Record]:
    return [Record(b"k", str(number).encode(), at) for number, at in enumerate(times_ms)]


class Clock:
    """Time that passes only where somebody waits, or is held up."""

    def __init__(self, stalled_at: int | None = None) -> None:
        self.now, self.sent, self.stalled_at = 1_000.0, [], stalled_at
        self.delays: list[tuple[float, float]] = []

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def send(self, record: Record, due_us: int) -> None:
        if len(self.sent) == self.stalled_at:
            self.now += STALL_S
        self.sent.append(record)
        self.delays.append((self.now - due_us / 1e6, 0.0))


def p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]


def test_a_producer_that_is_held_up_for_5_s_shows_in_p99_since_records_keep_their_due_times() -> None:
    dues = [Due(number / 100, record) for number, record in enumerate(records([None] * 3_000))]
    clock = Clock(stalled_at=1_000)

    sent, late, most_s, end_s = send_on_time(dues, 1_000.0, clock.send, clock=lambda: clock.now, wait=clock.wait)

    waited = [delay for delay, _ in clock.delays]
    assert sent == 3_000
    assert late == pytest.approx(STALL_S * 100, abs=5)  # all that were due while it stood
    assert most_s == pytest.approx(STALL_S - 0.01, abs=0.02)
    assert p99(waited) > 4.5
    assert max(waited) == pytest.approx(STALL_S, abs=0.02)
    assert end_s == pytest.approx(0.0, abs=0.001)


def test_without_a_stall_nothing_is_late() -> None:
    dues = [Due(number / 100, record) for number, record in enumerate(records([None] * 500))]
    clock = Clock()

    sent, late, most_s, _ = send_on_time(dues, 1_000.0, clock.send, clock=lambda: clock.now, wait=clock.wait)

    assert (sent, late) == (500, 0)
    assert most_s < 0.001


def test_the_rhythm_of_the_records_is_kept_at_another_speed() -> None:
    dues, speed = schedule(records([10_000, 10_000, 40_000, 30_000, 50_000]), rate=10.0)

    # 40 s of record time in half a second; what is older than one before it is due with that one.
    assert speed == pytest.approx(80.0)
    assert [each.due_s for each in dues] == pytest.approx([0, 0, 0.375, 0.375, 0.5])


@pytest.mark.parametrize("times", [[None] * 4, [7_000] * 4])
def test_records_whose_times_do_not_move_come_evenly(times: list[int | None]) -> None:
    dues, speed = schedule(records(times), rate=2.0)

    assert speed == 0.0
    assert [each.due_s for each in dues] == [0, 0.5, 1, 1.5]


def test_a_schedule_is_read_again_as_it_was_written(tmp_path: Path) -> None:
    strange = Record(None, None, None, (("h", None), ("h", b"\xff")))
    dues = [Due(0.25, strange), Due(1.5, Record(b"\x00", b"{}\xfe", 7))]

    write_dues(dues, tmp_path / "dues.jsonl")

    assert list(read_dues(tmp_path / "dues.jsonl")) == dues


@pytest.mark.parametrize(
    ("end_late_s", "seconds", "kept"), [(0.9, 10, True), (1.1, 10, False), (4.9, 100, True), (5.1, 100, False)]
)
def test_a_load_that_ended_late_did_not_have_its_rate(end_late_s: float, seconds: float, kept: bool) -> None:
    assert Sent(10, 10, 0, 0.0, end_late_s, seconds, 0.1).kept_pace is kept


def test_a_rate_over_half_of_what_the_producer_reaches_is_refused() -> None:
    check_rate(5_000, reached=10_000)
    with pytest.raises(InputError, match="the producer cannot make 5,001 events/s here") as error:
        check_rate(5_001, reached=10_000)
    assert "give a lower --rate" in error.value.sentence()


def test_the_cpu_of_a_producer_that_has_ended_is_not_that_of_python(tmp_path: Path) -> None:
    """A child that was reaped counts as its parent's: it is only looked at until its answer is read."""
    load = Load.__new__(Load)
    load._answer = tmp_path / "sent.json"
    busy = "import time; at = time.process_time()\nwhile time.process_time() - at < 1.0: pass"
    before = cpu(None).python_s
    load.process = subprocess.Popen([sys.executable, "-c", busy, "twinrun.measure.load"])
    while not load.over:
        time.sleep(0.02)
    assert load.over
    assert cpu(None).python_s - before < 0.7
    load.stop()
    assert load.process.returncode == 0
    assert load.over
    assert cpu(None).python_s - before > 0.9


@pytest.mark.parametrize("ended", [False, True])
def test_workers_in_python_count_when_java_has_ended_them_as_before(
    monkeypatch: pytest.MonkeyPatch, ended: bool
) -> None:
    """They are ended after a minute without work: a span in which that happens had less CPU than none."""
    times = namedtuple("times", ["user", "system", "children_user", "children_system"])

    def process(pid: int, name: str, used: tuple[float, ...]) -> Any:
        return SimpleNamespace(
            pid=pid, name=lambda: name, cmdline=lambda: [name], cpu_times=lambda: times(*used), children=lambda **_: []
        )

    java = process(2, "java", (12.0, 1.0, 2.0, 0.5) if ended else (10.0, 1.0, 0.0, 0.0))
    worker = process(3, "python3", (2.0, 0.5, 0.0, 0.0))
    own = process(1, "python3", (1.0, 0.0, 0.0, 0.0))
    own.children = lambda **_: [java] if ended else [java, worker]
    monkeypatch.setattr("twinrun.measure.usage.psutil.Process", lambda _=None: own)

    found = cpu(None)

    assert (found.jvm_s, found.python_s) == ((15.5, 1.0) if ended else (11.0, 3.5))
    since = found.since(Cpu(11.0, 3.5, 0.0, 0.0, 0.0))
    assert (since.jvm_s, since.python_s) == ((2.0, 0.0) if ended else (0.0, 0.0))
