"""By which rule another engine calls an event late: one small pure entry per engine, found by running it.

All of them ask whether a clock, the newest event time seen before the event less the lateness, has reached an edge.
They differ in whose clock it is, in which events move it, in the edge, and in what a restart does to it. What depends
on the time on the wall besides says so, and nothing is put down to that part.

Tried with events on, one millisecond before and one after each edge, on a Kafka 4.3.1 broker, in bulk and slowly:
Kafka Streams 4.3.1, Flink 2.2.1 (DataStream and SQL, connector 5.0.0), quixstreams 3.28.1, bytewax 0.21.1, pathway
0.33. The public source of each, named by class below, says the same.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from pyspark.sql import Column
from pyspark.sql import functions as F

from twinrun.job.dataflow import LateRule
from twinrun.job.job import Job
from twinrun.wording import plural

Clock = Literal["partition", "key", "operator", "global"]
MOST_RESTARTS = 10
"""Most restarts of one source: each costs one more run of the job's function."""


@dataclass(frozen=True)
class EngineRule:
    """When an engine drops an event, and what is known of the clock by which it does.

    Attributes
    ----------
    engine : str
        Where it holds.
    clock : {"partition", "key", "operator", "global"}
        Whose newest event time counts: of the event's partition; of its key in its partition; the least of all
        partitions that an operator reads; of everything.
    all_move : bool
        Every event moves the clock, also those that the job filters away before its window.
    ahead_ms : int
        Milliseconds by which the edge lies before the end of the window; -1: the clock must have passed it.
    by_event : bool
        The event's own time is held against the clock, though its window be open; else the end of each of its windows.
    restart : {"memory", "store", "untried"}
        Whether a restart sets the clock back (``memory``), keeps it, or nobody has tried.
    wall : {"no", "adds", "decides"}
        Whether the clock also runs with the time on the wall (``adds``: what the log decides holds whatever the wall
        says; ``decides``: nothing follows from the log).
    by_record : bool
        A window is handed on only with a record that moves its clock so far.
    whose : str
        The clock in words, as ``the newest event time of its partition, less the lateness``.
    kept : str
        What would have kept the events.
    handed_on : str
        When a closed window is written.
    """

    engine: str
    clock: Clock
    whose: str
    kept: str
    handed_on: str
    all_move: bool = False
    ahead_ms: int = 0
    by_event: bool = False
    restart: Literal["memory", "store", "untried"] = "store"
    wall: Literal["no", "adds", "decides"] = "no"
    by_record: bool = True

    @property
    def edge(self) -> str:
        """What the clock has to reach, in words."""
        return "the event's own time" if self.by_event else "the window's end"

    def drop_ms(self, newest_ms: Column, lateness_ms: int) -> Column:
        """The clock that `twinrun.explain.used.is_dropped` holds against a window's end, or an event's time."""
        return newest_ms - F.lit(lateness_ms - self.ahead_ms)

    def spark_rule(self, job: Job) -> LateRule:
        """What of the event the clock is held against."""
        return LateRule("time") if self.by_event else LateRule.of_windows(job)

    def problem(self, job: Job, partitions: Collection[int], carried: Collection[str], told: bool) -> str:
        """Why nothing can be put down to the rule for this job and topic; empty where something can. Pure.

        Parameters
        ----------
        partitions : collection of int
            Those of the topic of which something was read.
        carried : collection of str
            Keys of the result that are fields of the events, unchanged.
        told : bool
            Whether it is known which events reach the job's window.
        """
        if self.wall == "decides":
            return f"which events {self.engine} drops depends on the clock on the wall, and is recorded nowhere"
        if self.clock == "operator" and len(partitions) > 1:
            return (
                f"{self.engine} takes the least clock of the {plural(len(partitions), 'partition')} that were read, "
                "and in which order it read them is recorded nowhere: the rule decides topics of one partition"
            )
        computed = [key for key in job.keys if key != job.window_column and key not in carried]
        if self.clock == "key" and computed:
            return (
                f"{self.engine} has a clock per key, and {' and '.join(computed)} of the result is no field of the "
                "events, so that their keys are not known"
            )
        if not self.all_move and not told:
            return (
                f"only events that reach the window move the clock of {self.engine}, and which do cannot be told from "
                "the job's plan (partition-order takes all of them to)"
            )
        return ""


_PARTITION = "the newest event time of its partition, less the lateness"
_KEY = "the newest event time of its key, less the lateness"
_LONGER = "A longer {word} keeps more late events, and delays results by as much."
_GRACE = _LONGER.replace("{word}", "grace period (grace of TimeWindows)")
_FLINK = _LONGER.replace("{word}", "delay of the watermark strategy")

RULES: dict[str, EngineRule] = {
    "partition-order": EngineRule(
        # As kafka-streams where nothing is filtered away and no restart comes between; for engines without a name here.
        engine="an engine with one clock per partition",
        clock="partition",
        all_move=True,
        whose=_PARTITION,
        kept="A longer lateness (grace period) of the other engine keeps more late events, and delays results by as "
        "much.",
        handed_on="with the record that brings its partition's clock to the end of the window",
        restart="untried",
    ),
    "kafka-streams": EngineRule(
        # KStreamWindowAggregate: observedStreamTime is a field of the processor, so of one task (partition) and
        # operator, raised by each record that reaches it, and dropped if windowEnd > observedStreamTime - grace fails.
        engine="Kafka Streams",
        clock="partition",
        whose=f"{_PARTITION} (stream time of the aggregate's task)",
        kept=_GRACE,
        handed_on="with the record that brings the stream time of its partition to the end of the window (suppress)",
        restart="memory",
    ),
    "flink-datastream": EngineRule(
        # WindowOperator.isWindowLate: window.maxTimestamp() (end - 1 ms) <= watermark, and BoundedOutOfOrderness gives
        # newest - delay - 1 ms: the two milliseconds cancel. With a watermark per event, not one every 200 ms.
        engine="Flink's DataStream API",
        clock="operator",
        all_move=True,
        whose=f"{_PARTITION} (the watermark, one per event)",
        kept=f"{_FLINK} So does allowedLateness, which fires a window again for each of them.",
        handed_on="with the event that brings the watermark to the end of the window",
        restart="untried",
    ),
    "flink-sql": EngineRule(
        # WATERMARK FOR t AS t - INTERVAL: newest - delay without the 1 ms, so that the edge lies one earlier;
        # scan.watermark.emit.strategy = on-event.
        engine="Flink SQL",
        clock="operator",
        all_move=True,
        ahead_ms=1,
        whose=f"{_PARTITION} and counted one millisecond on (a window's last millisecond decides)",
        kept=_LONGER.replace("{word}", "interval in WATERMARK FOR"),
        handed_on="with the event that brings the watermark to the last millisecond of the window",
        restart="untried",
    ),
    "quix-key": EngineRule(
        # closing_strategy="key", the default: the latest timestamp is kept in the window store under the message's key.
        engine="quixstreams (closing strategy key)",
        clock="key",
        whose=_KEY,
        kept=_LONGER.replace("{word}", "grace_ms"),
        handed_on="with a later event of the same key that has passed the end of the window by the lateness",
    ),
    "quix-partition": EngineRule(
        # closing_strategy="partition": one latest timestamp per partition, in the store. on_late is not called for all.
        engine="quixstreams (closing strategy partition)",
        clock="partition",
        whose=_PARTITION,
        kept=_LONGER.replace("{word}", "grace_ms"),
        handed_on="with the event that brings the clock of its partition to the end of the window",
    ),
    "bytewax": EngineRule(
        # EventClock: watermark = newest - wait_for_system_duration + wall time since then; late if ts < watermark.
        engine="bytewax (EventClock)",
        clock="key",
        ahead_ms=-1,
        by_event=True,
        wall="adds",
        whose=f"{_KEY} and one millisecond",
        kept=_LONGER.replace("{word}", "wait_for_system_duration")
        + " The clock runs on with the time on the wall: what it drops by that is in no log, and is proven by nothing.",
        handed_on="with a later event of its key, as time on the wall goes on, or at the end of the input",
        by_record=False,
        restart="untried",
    ),
    "pathway-minibatch": EngineRule(
        # common_behavior(cutoff): the newest time of earlier minibatches, which are cut by the clock on the wall.
        engine="pathway (common_behavior with a cutoff)",
        clock="global",
        all_move=True,
        wall="decides",
        whose="the newest event time of earlier minibatches, less the lateness",
        kept=_LONGER.replace("{word}", "cutoff"),
        handed_on="with a later minibatch",
        by_record=False,
        restart="untried",
    ),
}
"""By the name that is declared; ``none`` is none of them."""


def rule_named(name: str) -> EngineRule | None:
    """The declared rule; None for ``none``."""
    return RULES.get(name)


def restarts_problem(name: str) -> str:
    """Why marks of restarts do not go with a rule; empty where they do."""
    rule = rule_named(name)
    if rule is None:
        return "restarts say where the clock of a late_rule begins anew, and none is declared"
    if rule.restart == "store":
        return f"{rule.engine} keeps its clock over a restart, so that late_rule: {name} has no restarts"
    if rule.restart == "untried":
        return f"what a restart does under late_rule: {name} has not been tried; only kafka-streams has restarts"
    return ""
