"""``twinrun run``: a job in both modes and its verdict, in one session; and those steps, as the demo takes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_static, need_topics
from twinrun.cli.lint import warn_before_first_run
from twinrun.cli.live import progress_text, step
from twinrun.cli.runs import JobName, batch_once, runner
from twinrun.cli.session import job_size, topic_size, with_spark
from twinrun.cli.verify import report_folder, show_verdict
from twinrun.config.model import Config
from twinrun.job.job import Job
from twinrun.results.records import RunSummary, Say
from twinrun.results.verdict import Verdict
from twinrun.session.settings import Size
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

commands = typer.Typer()


@dataclass
class Step:
    """One step while it is done: ``say`` shows how far it is, and ``details`` are printed when it has ended."""

    say: Say
    details: list[str] = field(default_factory=list)


@dataclass
class Steps:
    """What was done so far, each step with its seconds; told as it happens."""

    call: Call
    done: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def doing(self, name: str) -> Iterator[Step]:
        """Time one step, and show how far it is."""
        began = time.monotonic()
        with step(self.call.out, name) as say:
            now = Step(say)
            yield now
        seconds = time.monotonic() - began
        self.done.append((name, seconds))
        self.call.out.note(f"  {seconds:6.1f} s  {name:<8} {'; '.join(now.details)}".rstrip())

    def told(self) -> list[dict[str, Any]]:
        """Each step with its seconds, for JSON."""
        return [{"step": name, "seconds": round(seconds, 1)} for name, seconds in self.done]


@command(commands, "run", "twinrun run departures_per_hour")
def run_whole(call: Call, name: JobName) -> int:
    """Ingest, stream to the end of the topics, batch and verify, in one session: the quickest way to a verdict.

    The exit code is the verdict's. The single commands do the same, each in a session of its own.
    """
    cfg = call.config(("stream.trigger=available-now",))
    job = job_named(cfg, name)
    need_static(cfg, job)
    need_topics(cfg, job.sources)
    steps = Steps(call)

    def work(spark: SparkSession, stop: threading.Event) -> Verdict:
        if not warn_before_first_run(call, spark, cfg, job, "stream"):
            warn_before_first_run(call, spark, cfg, job, "batch")
        return both_modes(spark, cfg, job, steps, stop)

    read = topic_size(cfg, [source.name for source in job.sources], bounded=True)
    size = Size(job_size(cfg, job).table_bytes, read.records)
    verdict = with_spark(cfg, f"run {job.job_name}", work, size=size)
    code = show_verdict(call, verdict, report_folder(cfg, verdict.job), {"steps": steps.told()})
    call.out.note(f"next: twinrun show {name} prints the rows")
    return code


def both_modes(spark: SparkSession, cfg: Config, job: Job, steps: Steps, stop: threading.Event) -> Verdict:
    """Land, run in motion to the end of the topics and at rest, and compare.

    Raises
    ------
    KeyboardInterrupt
        A signal came: what was done stays, and the next step is not begun.
    """
    from twinrun.explain.verify import verify
    from twinrun.history.history import with_history

    with steps.doing("ingest") as now:
        for source in job.sources:
            _tell(now, runner("streaming.ingest")(spark, cfg, source, stop, _shown(now)), "landed in bronze")
    _go_on(stop)
    with steps.doing("stream") as now:
        done = runner("streaming.runner")(spark, cfg, job, None, stop, _shown(now))
        size = cfg.stream.max_offsets_per_trigger
        limit = "" if size is None else f" (stream.max_offsets_per_trigger {size})"
        _tell(now, done, f"in {plural(done.micro_batches, 'micro-batch')}{limit}")
    _go_on(stop)
    with steps.doing("batch") as now:
        _tell(now, batch_once(spark, cfg, job, False, stop), "computed at rest")
    _go_on(stop)
    with steps.doing("verify") as now:
        return with_history(spark, cfg, verify(spark, cfg, job, on_step=now.say))


def _shown(now: Step) -> Any:
    return lambda progress: now.say(progress_text(progress))


def _tell(now: Step, done: RunSummary, what: str) -> None:
    now.details.append(f"{plural(done.events, 'record' if done.mode == 'ingest' else 'event')} {what}")


def _go_on(stop: threading.Event) -> None:
    """End between two steps where a signal came: a stream that was asked to stop returns as if it were done."""
    if stop.is_set():
        raise KeyboardInterrupt
