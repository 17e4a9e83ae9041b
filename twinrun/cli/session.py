"""Run work on a Spark session chosen by size, and end both in order when the user or the system says so.

The work runs in a thread of its own: a signal that breaks into a call to Java leaves that connection unusable, so
that neither the lease nor the session could be given back. The main thread only waits for signals.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

from twinrun.config.model import Config
from twinrun.errors import BrokerError
from twinrun.job.job import Job
from twinrun.session.settings import MOST_RECORDS, UNKNOWN, Size, by_size, tables_size
from twinrun.session.sparkconf import DEFAULT_MASTER, session_settings

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


# How much a command may read, before its session starts: of tables on this machine, and of topics.


_MODES = ("stream", "batch")


def job_size(cfg: Config, job: Job) -> Size:
    """What a command about a job may read: its sources' tables, static tables, and results in both modes. No Spark."""
    refs = [cfg.table(name, source=source.name) for source in job.sources for name in ("events", "quarantine")]
    refs += [cfg.table("bronze", topic=cfg.source(source.name).topic) for source in job.sources]
    refs += [cfg.tables[table.name].path for table in job.tables if table.name in cfg.tables]
    # Above the versions, so that all of them are counted.
    refs += [cfg.table(f"{mode}_results", job=job.job_name, version=1).rpartition("/")[0] for mode in _MODES]
    return tables_size(refs)


def topic_size(cfg: Config, sources: Iterable[str], *, bounded: bool) -> Size:
    """What a run reads from Kafka, in all or in each of its micro-batches. No Spark; at most a few calls to a broker.

    Parameters
    ----------
    sources : iterable of str
        Names of the sources.
    bounded : bool
        The run ends with what the topics hold now; else only ``stream.max_offsets_per_trigger`` says how much it is.
    """
    from twinrun.broker.topics import offset_ranges

    most = cfg.stream.max_offsets_per_trigger
    if most is not None and most <= MOST_RECORDS:
        return Size(0, most)
    if not bounded:
        return Size(0, None)
    found = 0
    for name in sources:
        try:
            ranges = offset_ranges(cfg.kafka.bootstrap_servers, cfg.source(name).topic, cfg.kafka.confluent_options())
        except BrokerError:
            return Size(0, None)
        found += sum(high - low for low, high in ranges.values())
    return Size(0, found)


T = TypeVar("T")
Work = Callable[["SparkSession", threading.Event], T]
GRACE_S = 20.0
"""How long work may take to end after a signal, before its Spark is stopped under it."""

_LOOK_S = 0.2
_AGAIN_S = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass
class _Running(Generic[T]):
    """What the two threads share."""

    stop: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    spark: SparkSession | None = None
    result: list[T] = field(default_factory=list)
    error: BaseException | None = None
    signals: list[int] = field(default_factory=list)


def with_spark(
    cfg: Config | None,
    name: str,
    work: Work[T],
    *,
    size: Size = UNKNOWN,
    drivers: tuple[str, ...] = (),
    on_signal: Callable[[SparkSession], None] | None = None,
    on_death: Callable[[], None] | None = None,
) -> T:
    """Start a session, do the work, stop the session.

    Parameters
    ----------
    cfg : Config or None
        Says master and settings; None takes twinrun's defaults.
    name : str
        Shown by Spark and in the history of tables.
    work : function of SparkSession and Event
        The event is set when the work should end.
    size : Size
        What the work may read, by which a local session is set up; see `twinrun.session.settings`.
    drivers : tuple of str
        Sets of jars that the work needs besides Spark's, such as the driver of a database.
    on_signal : function of SparkSession, optional
        Called after SIGINT or SIGTERM, besides setting the event. By default all queries of the session are ended.
    on_death : function, optional
        Called when the JVM dies, before this process ends with exit code 2.

    Raises
    ------
    KeyboardInterrupt
        A signal came; the session is stopped.
    MachineError, ConfigError
        The session could not start.
    """
    running: _Running[T] = _Running()
    settings = session_settings(cfg)
    master = settings.get("spark.master", DEFAULT_MASTER)
    settings = by_size(settings, size, cfg.spark.small_data if cfg else "auto", master=master)

    def run() -> None:
        from twinrun.session.jars import fetch_jars
        from twinrun.session.spark import build_session, death_behind, has_own_jars, stop_session, watch_jvm

        try:
            for driver in () if has_own_jars(settings) else drivers:
                fetch_jars(driver)
            running.spark = build_session(f"twinrun {name}", settings, master=master, drivers=drivers)
            try:
                watch_jvm(running.spark, on_death)
                if not running.stop.is_set():
                    running.result.append(work(running.spark, running.stop))
            except Exception as error:
                # After a signal it is no surprise that Spark was stopped under the work.
                death = None if running.signals else death_behind(error, running.spark)
                if death is None:
                    raise
                raise death from error
            finally:
                stop_session(running.spark)
        except BaseException as error:
            running.error = error
        finally:
            running.done.set()

    with _noted_signals(running):
        threading.Thread(target=run, name="twinrun-work", daemon=True).start()
        _wait(running, on_signal or cancel_jobs)
    if running.signals:
        raise KeyboardInterrupt(running.signals[0])
    if running.error is not None:
        raise running.error
    return running.result[0]


def until_stopped(
    cfg: Config,
    name: str,
    work: Work[T],
    *,
    size: Size = UNKNOWN,
    on_death: Callable[[], None] | None = None,
) -> T:
    """As `with_spark`, for work that ends in order by itself: SIGTERM is then a normal end, and no job is cancelled."""
    finished: list[T] = []

    def keep(spark: SparkSession, stop: threading.Event) -> T:
        finished.append(work(spark, stop))
        return finished[0]

    try:
        return with_spark(cfg, name, keep, size=size, on_signal=lambda _: None, on_death=on_death)
    except KeyboardInterrupt as interrupt:
        if finished and interrupt.args == (signal.SIGTERM,):
            return finished[0]
        raise


def cancel_jobs(spark: SparkSession) -> None:
    """End every query of the session that runs, so that the work gets an error instead of waiting.

    Not those of the control table, which has a session of its own: leases are given back meanwhile. Spark and Delta say
    nothing more: what was asked for is no error, and whoever asked is told it in one sentence.
    """
    with suppress(Exception):  # a client of Spark Connect has no log
        spark.sparkContext.setLogLevel("OFF")
    spark.interruptAll()


@contextmanager
def _noted_signals(running: _Running[T]) -> Iterator[None]:
    """Note signals instead of raising: the thread that is interrupted must not be one that talks to Java."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, _: object) -> None:
        running.signals.append(number)
        running.stop.set()

    wanted = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _wait(running: _Running[T], on_signal: Callable[[SparkSession], None]) -> None:
    """Wait for the work; after a signal ask it to end, and after `GRACE_S` or a second signal stop Spark under it."""
    while not running.done.wait(_LOOK_S):
        if running.signals:
            break
    deadline = time.monotonic() + GRACE_S
    asked_at = -_AGAIN_S
    while not running.done.is_set() and time.monotonic() < deadline and len(running.signals) < 2:
        # Asked more than once, since work between two jobs would not notice.
        if running.spark is not None and time.monotonic() - asked_at >= _AGAIN_S:
            # It may end by itself at this very moment.
            with suppress(Exception):
                on_signal(running.spark)
            asked_at = time.monotonic()
        running.done.wait(_LOOK_S)
    if not running.done.is_set() and running.spark is not None:
        from twinrun.session.spark import stop_session

        stop_session(running.spark)
        running.done.wait(GRACE_S)
