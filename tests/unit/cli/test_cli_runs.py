"""ingest, batch, stream and requeue: what reaches the runners, what is refused before, what is printed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import twinrun.cli.inputs
import twinrun.cli.runs
from twinrun.cli.call import Call
from twinrun.cli.output import Output
from twinrun.cli.runs import run_lines, telling
from twinrun.errors import BrokerError, QueryError
from twinrun.results.records import Progress, RunSummary
from twinrun.tables.kafka import places_of


@dataclass(frozen=True)
class RequeueSummary:
    source: str
    rule: str
    examined: int
    accepted: int
    refused: int


@dataclass
class Runners:
    """Records the calls of the runners and stands for them."""

    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    error: Exception | None = None
    signal: int | None = None

    def load(self, module: str) -> Any:
        def run(spark: Any, cfg: Any, *rest: Any, on_progress: Any = None, accept_loss: bool = False) -> Any:
            self.calls.append((module, rest))
            if self.error is not None:
                raise self.error
            if module == "batch.requeue":
                return RequeueSummary(rest[0].name, rest[1], 3, 2, 1)
            report = on_progress or (rest[3] if len(rest) > 3 else None)
            if report:
                report(Progress(1, 60, None))
            stop = next((each for each in rest if isinstance(each, threading.Event)), threading.Event())
            if self.signal is not None:
                os.kill(os.getpid(), self.signal)
                stop.wait(5)
            mode = {"streaming.ingest": "ingest", "streaming.runner": "stream"}.get(module, "batch")
            stopped = "request" if stop.is_set() else None
            return RunSummary(mode, "first_job", "r1", 60, "/t", 3, 6, notes=("a note",), stopped_by=stopped)

        return run


@pytest.fixture
def runners(spark: Any, monkeypatch: pytest.MonkeyPatch) -> Runners:
    fake = Runners()
    monkeypatch.setattr(twinrun.cli.runs, "runner", fake.load)
    monkeypatch.setattr(twinrun.cli.inputs, "describe_topic", lambda *_: None)
    return fake


@pytest.fixture
def landed(project: Path) -> None:
    for table in ("bronze/orders", "quarantine/orders"):
        (project / ".data/warehouse" / table).mkdir(parents=True)


@pytest.mark.parametrize("name", ["orders", "first_job", "jobs/first_job.py"])
def test_ingest_takes_a_source_a_job_or_a_job_file(name: str, run: Any, runners: Runners, spark: Any) -> None:
    done = run("ingest", name)

    assert done.code == 0
    assert done.out.splitlines()[0] == "ingest first_job: 60 records, 6 micro-batches, 0.0 s"
    assert done.err == ""
    [(module, (source, _))] = runners.calls
    assert (module, source.name) == ("streaming.ingest", "orders")
    assert spark.stopped == 1


def test_ingest_takes_several_and_lands_each_topic_once(run: Any, runners: Runners) -> None:
    done = run("ingest", "orders", "first_job")

    assert done.code == 0
    assert [source.name for _, (source, _) in runners.calls] == ["orders"]


@pytest.mark.parametrize(
    ("done", "says"),
    [
        (
            RunSummary("stream", "j", "r", 201, "/t", 3, 2, rows=40, quarantined={"not_json": 1, "wrong_type": 4}),
            "stream j: 201 valid, 5 quarantined (not_json 1, wrong_type 4), 2 micro-batches, 40 rows written, 0.0 s",
        ),
        (
            RunSummary("batch", "j", "r", 0, "/t", 3, rows=3052, quarantined={}),
            "batch j: 0 valid, 0 quarantined, 3,052 rows written, 0.0 s",
        ),
        (
            RunSummary("ingest", "t", "r", 1, "/t", 3, 1, rows=1),
            "ingest t: 1 record, 1 micro-batch, 1 row written, 0.0 s",
        ),
        (
            RunSummary("stream", "j", "r", 7, "/t", 3, 1),
            "stream j: 7 records read (valid and quarantined were not told apart), 1 micro-batch, 0.0 s",
        ),
    ],
)
def test_a_run_ends_with_the_counts_of_this_run(done: RunSummary, says: str) -> None:
    assert run_lines(done)[0] == says


def test_what_a_stream_waits_for_is_said_once_and_when_it_is_over(capsys: pytest.CaptureFixture[str]) -> None:
    steps: list[str] = []
    tell = telling(Call(Output(sys.stdout)), "stream j", steps.append)
    waits = "waits for Kafka at localhost:9092, which does not answer; no micro-batch since 2024-01-01 10:00:00 UTC"
    for text in ("", waits, waits, ""):
        tell(Progress(3, 60, None, behind=12, waits=text))
    assert capsys.readouterr().err.splitlines() == [f"stream j {waits}", "stream j goes on: Kafka answers again"]
    assert steps == ["micro-batch 3, 60 records, behind by 12", waits, waits, "micro-batch 3, 60 records, behind by 12"]


@pytest.mark.usefixtures("landed")
@pytest.mark.parametrize(("option", "fresh"), [([], None), (["--full"], "full")])
def test_batch(option: list[str], fresh: str | None, run: Any, runners: Runners) -> None:
    done = run("batch", "first_job", *option, "--json")

    assert done.code == 0
    assert json.loads(done.out)["table"] == "/t"
    [(module, (job, given, _))] = runners.calls
    assert (module, job.job_name, given) == ("batch.runner", "first_job", fresh)


@pytest.mark.parametrize(
    ("options", "fresh"),
    [
        ([], None),
        (["--new-checkpoint"], "earliest"),
        (["--new-checkpoint", "--from", "latest"], "latest"),
        (["--new-checkpoint", "--from", "2024-01-01T10:00:00+01:00"], "2024-01-01T09:00:00+00:00"),
        (["--new-checkpoint", "--set", "sources.orders.starting_offsets=latest"], "latest"),
    ],
)
def test_stream(options: list[str], fresh: str | None, run: Any, runners: Runners) -> None:
    done = run("stream", "first_job", *options)

    assert done.code == 0
    assert runners.calls[0][1][1] == fresh
    assert "  note       a note" in done.out


@pytest.mark.usefixtures("landed")
def test_requeue(run: Any, runners: Runners) -> None:
    done = run("requeue", "orders", "--rule", "not_json")

    assert done.code == 0
    assert done.out == "orders: 3 records of not_json decoded again, 2 accepted, 1 still refused\n"
    assert json.loads(run("requeue", "orders", "--rule", "not_json", "--json").out)["requeued"][0]["accepted"] == 2


def test_a_stream_begins_at_offsets_and_where_none_is_given_at_the_first(
    run: Any, runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twinrun.cli.runs, "offset_ranges", lambda *_: {0: (5, 60), 1: (0, 40), 2: (0, 0)})

    done = run("stream", "first_job", "--new-checkpoint", "--from", "orders:0:17,orders:1:40")

    assert (done.code, done.err) == (0, "")
    [(_, (_, fresh, *_))] = runners.calls
    assert fresh == "orders:0:17,orders:1:40,orders:2:0"
    assert places_of(fresh) == {"orders": {0: 17, 1: 40, 2: 0}}
    assert places_of("2013-01-06T00:00:00+00:00") == places_of("earliest") == {}


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ("orders:0:4", ("does not hold offset 4 of partition 0 of orders", "5 to 60")),
        ("orders:0:61", ("does not hold offset 61", "5 to 60")),
        ("orders:7:0", ("has no partition 7", "0 to 2")),
        ("orders:0:17,orders:0:18", ("names partition 0 of orders twice",)),
        ("ordres:0:17", ("does not read the topic 'ordres'", "write orders")),
        ("orders:0:17,", ("'' names no record", "TOPIC:PARTITION:OFFSET")),
        ("orders:0:x", ("'orders:0:x' names no record",)),
        ("2024-01-01T10:00:00", ("is not a time with a zone",)),
    ],
)
def test_offsets_that_cannot_be_begun_at_are_refused_before_spark_starts(
    places: str, says: tuple[str, ...], run: Any, runners: Runners, spark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twinrun.cli.runs, "offset_ranges", lambda *_: {0: (5, 60), 1: (0, 40), 2: (0, 0)})

    done = run("stream", "first_job", "--new-checkpoint", "--from", places)

    assert done.code == 2
    assert [text for text in says if text not in done.err] == []
    assert (runners.calls, spark.started) == ([], [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_stream_that_is_ended_says_so(number: int, code: int, run: Any, runners: Runners, spark: Any) -> None:
    runners.signal = number

    done = run("stream", "first_job")

    assert done.code == code
    assert "stopped    by request; the next run continues" in done.out
    assert done.err.startswith("interrupted: ") == (code == 130)
    assert spark.stopped == 1


@pytest.mark.usefixtures("landed")
def test_an_interrupted_batch_is_130(run: Any, runners: Runners, spark: Any) -> None:
    runners.signal = signal.SIGINT

    done = run("batch", "first_job", "--json")

    assert done.code == 130
    assert json.loads(done.out)["error"]["type"] == "Interrupted"
    assert spark.stopped == 1


@pytest.mark.usefixtures("landed")
def test_an_error_of_a_runner_is_2_and_the_session_is_stopped(run: Any, runners: Runners, spark: Any) -> None:
    runners.error = QueryError("the batch run of first_job failed: the disk is full.", fix="free disk space")

    done = run("batch", "first_job")

    assert done.code == 2
    assert done.err == "error: the batch run of first_job failed: the disk is full.\n  to fix: free disk space\n"
    assert spark.stopped == 1


def test_what_is_missing_is_refused_before_spark_starts(
    run: Any, runners: Runners, spark: Any, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "land the topic first: twinrun ingest orders" in run("batch", "first_job").err
    assert "run the batch first" in run("requeue", "orders", "--rule", "not_json").err
    assert "run both modes first" in run("verify", "first_job").err

    def no_broker(*_: Any) -> None:
        raise BrokerError("No Kafka broker answers at 127.0.0.1:9092.", fix="twinrun broker start")

    monkeypatch.setattr(twinrun.cli.inputs, "describe_topic", no_broker)
    for command in ("ingest", "stream"):
        done = run(command, "first_job")
        assert done.code == 2
        assert "No Kafka broker answers" in done.err
    text = (project / "jobs/first_job.py").read_text(encoding="utf-8")
    with_table = text.replace("JOB = Job(first_job,", 'JOB = Job(first_job, tables=[Table("shops")],')
    with_table = with_table.replace("import Job, Source", "import Job, Source, Table")
    with_table = with_table.replace("(orders: DataFrame)", "(orders: DataFrame, shops: DataFrame)")
    (project / "jobs/first_job.py").write_text(with_table, encoding="utf-8")
    assert "does not bind" in run("stream", "first_job").err
    assert "there is no table at" in run("stream", "first_job", "--set", "tables.shops.path=./none").err
    assert runners.calls == []
    assert spark.started == []


def test_a_definition_with_problems_is_refused_with_all_of_them(run: Any, project: Path, spark: Any) -> None:
    file = project / "jobs/first_job.py"
    text = file.read_text(encoding="utf-8").replace(
        'window="1 hour")', 'window="1 hour", slide="7 hours", emit="fnal")'
    )
    file.write_text(text, encoding="utf-8")

    done = run("batch", "first_job")

    assert done.code == 2
    assert "slide" in done.err
    assert "final" in done.err
    assert spark.started == []


def test_several_sources_that_never_end_are_refused(run: Any, project: Path, runners: Runners) -> None:
    file = project / "jobs/first_job.py"
    text = file.read_text(encoding="utf-8").replace(
        "sources=[ORDERS]", "sources=[ORDERS, replace(ORDERS, name='more')]"
    )
    text = text.replace(
        "from pyspark.sql import DataFrame", "from dataclasses import replace\n\nfrom pyspark.sql import DataFrame"
    )
    text = text.replace("(orders: DataFrame)", "(orders: DataFrame, more: DataFrame)")
    file.write_text(text, encoding="utf-8")

    assert run("ingest", "first_job").code == 0
    assert len(runners.calls) == 2
    done = run("ingest", "first_job", "--set", "stream.trigger=processing-time")
    assert "twinrun ingest orders; twinrun ingest more" in done.err


@pytest.mark.usefixtures("landed")
def test_a_schedule_runs_until_it_is_ended_and_survives_a_failure(
    run: Any, runners: Runners, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = twinrun.cli.runs.batch_once

    def batch_once(*arguments: Any) -> RunSummary:
        if len(runners.calls) == 1:
            runners.calls.append(("failed", ()))
            raise QueryError("this one fails")
        done = once(*arguments)
        if len(runners.calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return done

    monkeypatch.setattr(twinrun.cli.runs, "batch_once", batch_once)

    done = run("batch", "first_job", "--schedule", "* * * * * *", "--json")

    assert done.code == 0
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert [line.get("mode") or line["event"] for line in lines] == ["batch", "failed", "batch"]
    assert "first_job failed: this one fails" in done.err
    assert "schedule ended: 3 run, 1 failed, 0 refused" in done.err
    assert "Traceback" not in done.err
