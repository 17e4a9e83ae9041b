"""Which record makes a job's function fail: found by halving, proven by running the function over it alone.

A function that divides by a field fails in both modes at every start, and Spark names neither record nor line. The
events that were being computed are cut in halves by their offsets, and the half that fails is cut again, until one
record is left. Only a run over that record alone proves that it is the one; where no record fails alone, as in a sum
that overflows, the first one in order is named that the ones before it do not bear.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.errors import QueryError
from twinrun.events.decode import distinct_in_batch
from twinrun.events.exact import quoted
from twinrun.events.source import Source
from twinrun.job.job import Job
from twinrun.job.jvmplan import has_jvm
from twinrun.lint.calls import Stopped, calls_of, watched
from twinrun.session.plain import DataFailure, data_failure
from twinrun.tables.checkpoint import Offsets, at_or_after, before
from twinrun.wording import plural, worded

MOST_RUNS = 100
"""Runs of the function that one search makes at most; a topic of 2^40 offsets takes 42 where one record fails alone."""
MOST_S = 300.0
"""Seconds after which a search begins no further run."""

_INSTEAD = (
    ("DIVIDE_BY_ZERO", "F.try_divide(a, b)"),
    ("REMAINDER_BY_ZERO", "F.try_mod(a, b)"),
    ("CAST", "column.try_cast(type), F.try_to_date or F.try_to_timestamp"),
    ("CANNOT_PARSE", "F.try_to_timestamp or F.try_to_date"),
    ("DATETIME_FIELD", "F.try_make_timestamp, or F.try_to_date over a text"),
    ("INVALID_ARRAY_INDEX", "F.get(array, index) or F.try_element_at"),
    ("INVALID_INDEX", "F.get(array, index)"),
    ("ARITHMETIC_OVERFLOW", "F.try_add, F.try_subtract, F.try_multiply or F.try_sum, or a wider type"),
    ("BINARY_ARITHMETIC_OVERFLOW", "F.try_add, F.try_subtract or F.try_multiply, or a wider type"),
    ("NUMERIC_", "column.try_cast(type), or a wider type"),
)
_OTHERWISE = "a function that gives null for such a record"


@dataclass(frozen=True)
class Record:
    """One event by name. ``event_time_ms`` in epoch ms, ``id`` as JSON text: ``{}`` where the source declares none."""

    topic: str
    partition: int
    offset: int
    event_time_ms: int | None
    id: str

    @property
    def place(self) -> str:
        """``TOPIC:PARTITION:OFFSET``."""
        return f"{self.topic}:{self.partition}:{self.offset}"


@dataclass(frozen=True)
class Culprit:
    """What a search found.

    Attributes
    ----------
    records : tuple of Record
        The record that fails alone; of a job with several sources up to one of each, which fail together.
    tipping : Record or None
        Where none fails alone: the first record in order that makes those before it fail.
    before : int
        How many records lie before ``tipping``.
    more : bool
        Without the found records the rest fails too.
    failure : DataFailure or None
        Why the function fails on what was found; another record may fail for another reason.
    line : int or None
        Line of the job file, where Spark tells it.
    note : str
        Why nothing, or not more, was found. Empty where a record was.
    runs : int
        Runs of the function that it took.
    """

    records: tuple[Record, ...] = ()
    tipping: Record | None = None
    before: int = 0
    more: bool = False
    failure: DataFailure | None = None
    line: int | None = None
    note: str = ""
    runs: int = 0


@dataclass(frozen=True)
class _Span:
    """Offsets of one source, by partition: from ``starts`` to below ``ends``, in the order of partitions."""

    starts: Offsets
    ends: Offsets

    @property
    def length(self) -> int:
        return sum(self.ends[p] - self.starts[p] for p in self.ends)

    def cut(self, low: int, high: int) -> _Span:
        """The positions from ``low`` to below ``high``, counted over all partitions."""
        starts, ends, passed = {}, {}, 0
        for partition in sorted(self.ends):
            first, size = self.starts[partition], self.ends[partition] - self.starts[partition]
            starts[partition] = first + min(max(low - passed, 0), size)
            ends[partition] = first + min(max(high - passed, 0), size)
            passed += size
        return _Span(starts, ends)

    def of(self, events: DataFrame) -> DataFrame:
        return events.filter(at_or_after(self.starts) & before({p: self.ends.get(p, 0) for p in self.ends}))


class _OutOfTime(Exception):
    """The search may run nothing more."""


@dataclass
class _Search:
    job: Job
    events: Mapping[str, DataFrame]
    statics: Mapping[str, DataFrame]
    began: float = field(default_factory=time.monotonic)
    runs: int = 0

    def fails(self, spans: Mapping[str, _Span], without: tuple[Record, ...] = ()) -> DataFailure | None:
        """Run the function over these offsets alone; why it fails, or None. One Spark job."""
        if self.runs >= MOST_RUNS or time.monotonic() - self.began > MOST_S:
            raise _OutOfTime
        self.runs += 1
        return _failure(lambda: self.job.apply(self.frames(spans, without)))

    def frames(self, spans: Mapping[str, _Span], without: tuple[Record, ...] = ()) -> dict[str, DataFrame]:
        found = dict(self.statics)
        for source in self.job.sources:
            events = spans[source.name].of(self.events[source.name])
            for record in without:
                here = (F.col("_partition") == record.partition) & (F.col("_offset") == record.offset)
                events = events.filter(~((F.col("_topic") == record.topic) & here))
            found[source.name] = distinct_in_batch(events, source)
        return found


Frames = tuple[dict[str, DataFrame], dict[str, DataFrame]]
"""Events by source as the function sees them, coordinates included; and the static tables by name."""


@contextmanager
def record_named(spark: SparkSession, job: Job, doing: str, material: Callable[[], Frames]) -> Iterator[None]:
    """Where values made the job's function fail inside the block, raise an error that names its line and the record.

    Parameters
    ----------
    doing : str
        What was being done, such as ``the stream of orders_per_hour``.
    material : function
        Gives what was being computed; called only if it is needed. Frames that it persists are given back.

    Raises
    ------
    QueryError
        Line and record in plain words. Any other failure passes as it is.
    """
    try:
        yield
    except Exception as error:
        failure = data_failure(error)
        if failure is None:
            raise
        raise _told(job, doing, failure, _looked_for(spark, job, material)) from error


def _looked_for(spark: SparkSession, job: Job, material: Callable[[], Frames]) -> Culprit:
    events: dict[str, DataFrame] = {}
    try:
        events, statics = material()
        return find_culprit(spark, job, events, statics)
    except Exception as problem:  # the search must not hide what it is about
        return Culprit(note=f"the search for it failed ({type(problem).__name__})")
    finally:
        with suppress(Exception):
            for frame in events.values():
                frame.unpersist()


def find_culprit(
    spark: SparkSession, job: Job, events: Mapping[str, DataFrame], statics: Mapping[str, DataFrame]
) -> Culprit:
    """Look for the record; at most `MOST_RUNS` runs of the function, each over at most all of the events.

    Parameters
    ----------
    events : mapping of str to DataFrame
        By source: what the function sees, with the coordinates.
    """
    search = _Search(job, events, statics)
    whole = {source.name: _span_of(events[source.name]) for source in job.sources}
    try:
        return _searched(spark, search, whole)
    except _OutOfTime:
        return Culprit(note=f"it was not found in {plural(search.runs, 'run')} of the function", runs=search.runs)


def _searched(spark: SparkSession, search: _Search, whole: dict[str, _Span]) -> Culprit:
    nothing = {name: span.cut(0, 0) for name, span in whole.items()}
    if search.fails(nothing):
        line = _line(spark, search, nothing)
        return Culprit(
            line=line, note="the function fails without any event, so that no record is the cause", runs=search.runs
        )
    left = dict(whole)
    for source in search.job.sources:
        name = source.name
        if len(left) > 1 and search.fails({**left, name: nothing[name]}):
            left[name] = nothing[name]
            continue
        low, high = 0, left[name].length
        while high - low > 1:
            middle = (low + high) // 2
            if search.fails({**left, name: whole[name].cut(low, middle)}):
                high = middle
            else:
                low = middle
        left[name] = whole[name].cut(low, high)
    failure = search.fails(left)
    if failure:
        records = tuple(r for s in search.job.sources for r in _records(search.events[s.name], left[s.name], s))
        try:
            more = search.fails(whole, records) is not None
        except _OutOfTime:  # what was found stays found
            more = False
        return Culprit(records, more=more, failure=failure, line=_line(spark, search, left), runs=search.runs)
    return _tipping(spark, search, whole)


def _tipping(spark: SparkSession, search: _Search, whole: dict[str, _Span]) -> Culprit:
    """The shortest beginning of the events that fails, where no single record does."""
    if not search.fails(whole):
        note = "over these events alone the function does not fail; earlier ones have a part in it"
        return Culprit(note=note, runs=search.runs)
    line = _line(spark, search, whole)
    if len(search.job.sources) > 1:
        return Culprit(line=line, note="no record of one source makes it fail by itself", runs=search.runs)
    source = search.job.sources[0]
    low, high = 0, whole[source.name].length
    while high - low > 1:
        middle = (low + high) // 2
        if search.fails({source.name: whole[source.name].cut(0, middle)}):
            high = middle
        else:
            low = middle
    last = _records(search.events[source.name], whole[source.name].cut(low, high), source)
    earlier = whole[source.name].cut(0, low).of(search.events[source.name]).count()
    return Culprit(tipping=last[0] if last else None, before=earlier, line=line, runs=search.runs)


def _failure(plan: Callable[[], DataFrame]) -> DataFailure | None:
    """Compute a result and throw it away; which values make it fail, or None. Other failures are raised."""
    try:
        plan().write.format("noop").mode("overwrite").save()
    except Exception as error:
        found = data_failure(error)
        if found is None:
            raise
        return found
    return None


def _span_of(events: DataFrame) -> _Span:
    """The offsets that the events lie in. One Spark job; a row per partition is collected."""
    rows = events.groupBy("_partition").agg(F.min("_offset").alias("first"), F.max("_offset").alias("last")).collect()
    return _Span({r[0]: r["first"] for r in rows}, {r[0]: r["last"] + 1 for r in rows})


def _records(events: DataFrame, span: _Span, source: Source) -> list[Record]:
    named = [F.col(quoted(name)) for name in source.id]
    name = F.to_json(F.struct(*named)) if named else F.lit("{}")
    at = F.unix_millis(F.col(quoted(source.event_time)))
    rows = (
        span.of(events).select("_topic", "_partition", "_offset", at.alias("at"), name.alias("id")).limit(1).collect()
    )
    return [Record(r["_topic"], r["_partition"], r["_offset"], r["at"], r["id"]) for r in rows]


def _line(spark: SparkSession, search: _Search, spans: Mapping[str, _Span]) -> int | None:
    """The line of the job file whose expression fails, as Spark tells it when the function is watched."""
    if not has_jvm(spark):
        return None
    calls = calls_of(search.job)
    frames = search.frames(spans)
    try:
        with watched(spark, calls):
            result = search.job.apply(frames)
    except Stopped:
        return None
    try:
        result.write.format("noop").mode("overwrite").save()
    except Exception as error:
        for context in getattr(error, "getQueryContext", list)():
            found = _line_of(context, search.job, calls.file)
            if found is not None:
                return found
    return None


def _line_of(context: object, job: Job, file: str) -> int | None:
    kind = str(context.contextType())  # type: ignore[attr-defined]
    if kind.endswith("DataFrame"):
        name, _, line = str(context.callSite()).split("\n", 1)[0].rpartition(":")  # type: ignore[attr-defined]
        return int(line) if name == file and line.isdigit() else None
    # A SQL text has positions of its own; the line is told where the text stands once in the function, or in the file.
    text = str(context.fragment()).strip()  # type: ignore[attr-defined]
    for lines, first in _texts(job, file):
        found = [number for number, line in enumerate(lines, first) if text and text in line]
        if len(found) == 1:
            return found[0]
    return None


def _texts(job: Job, file: str) -> Iterator[tuple[list[str], int]]:
    """The lines of the job's function, then those of its file, each with the number of the first."""
    with suppress(OSError, TypeError, ValueError):
        yield inspect.getsourcelines(inspect.unwrap(job.logic))
    with suppress(OSError, ValueError):
        yield Path(file).read_text(encoding="utf-8").splitlines(), 1


def _told(job: Job, doing: str, failure: DataFailure, culprit: Culprit) -> QueryError:
    file = Path(calls_of(job).file).name
    failure = culprit.failure or failure
    where = f" in line {culprit.line} of {file}" if culprit.line else f" in {job.job_name} of {file}" if file else ""
    found = f"{doing} failed{where}: {failure.sentence} ({failure.condition})."
    form = next((form for prefix, form in _INSTEAD if failure.condition.startswith(prefix)), _OTHERWISE)
    fix = f"write {form} (a changed function needs: twinrun stream {job.job_name} --new-checkpoint)"
    if culprit.records:
        named = " and ".join(_named(record) for record in culprit.records)
        alone = "this record alone" if len(culprit.records) == 1 else "these records together, without any other"
        found += f" The function fails on {alone}: {named}."
        if culprit.more:
            found += " Other records fail too."
        add = f"twinrun quarantine {job.job_name} --add {culprit.records[0].place} --why TEXT"
        fix += f"; or leave the record out of both modes: {add}"
    elif culprit.tipping is not None:
        found += (
            f" No record fails alone: in the order of partitions and offsets, the first "
            f"{worded(culprit.before, 'record does', 'records do')} not fail, and with the next one they do: "
            f"{_named(culprit.tipping)}."
        )
    else:
        found += f" No record is named: {culprit.note}." if culprit.note else ""
    return QueryError(found, expected="a function that gives a value, or null, for every valid record", fix=fix)


def _named(record: Record) -> str:
    at = "unknown" if record.event_time_ms is None else _utc(record.event_time_ms)
    name = "" if record.id == "{}" else f", id {record.id}"
    return f"topic {record.topic}, partition {record.partition}, offset {record.offset}, event time {at}{name}"


def _utc(epoch_ms: int) -> str:
    try:
        at = datetime.fromtimestamp(epoch_ms / 1000, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return f"{epoch_ms} ms since 1970"
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
