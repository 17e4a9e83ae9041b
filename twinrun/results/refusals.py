"""Records that a user takes out of one job in both modes, since its function fails on them: rule `refused_by_logic`.

The decoder's quarantine belongs to a source: it decides by bytes and declaration, the same for every job. This belongs
to a job: another job may well count a record that this one divides by. The whole list is one record of the control
table, and each change the next one, so that who, when and why of every entry stay readable and a change is atomic.

The list is changed only while the job's stream stands still. A start of the stream, or of a batch run, keeps the
places that it leaves out in its own state, and proofs go by that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.errors import CheckpointError
from twinrun.job.job import Job
from twinrun.tables.control import Record, add_record, latest_record
from twinrun.wording import plural

KIND = "refusals"
RULE = "refused_by_logic"
MOST = 1_000
"""Entries that one job may have at a time: every plan holds them. More than that is a case for the function."""

Places = dict[str, list[list[int]]]
"""Partition and offset of left-out records, by source; as JSON keeps it."""


@dataclass(frozen=True)
class Refusal:
    """One record that a job leaves out, or left out for a time.

    Attributes
    ----------
    event_time_ms : int or None
        Epoch ms, as its source decodes it.
    why, by : str
        What the user said, and which user on which machine that was.
    at_ms : int
        When it was added.
    removed_at_ms, removed_by : int, str, optional
        When it was taken back, and by whom; None while it counts.
    passed : str or None
        Of an entry that was taken back: id of the query that had read past the record without using it.
    used_by : str or None
        Id of the query that had used the record when it was added; it must not go on.
    """

    source: str
    topic: str
    partition: int
    offset: int
    event_time_ms: int | None
    why: str
    by: str
    at_ms: int
    removed_at_ms: int | None = None
    removed_by: str | None = None
    passed: str | None = None
    used_by: str | None = None

    @property
    def counts(self) -> bool:
        """Whether the record is left out now."""
        return self.removed_at_ms is None

    @property
    def place(self) -> str:
        """``TOPIC:PARTITION:OFFSET``, as the command takes it."""
        return f"{self.topic}:{self.partition}:{self.offset}"


def refusals_of(spark: SparkSession, cfg: Config, job: str) -> tuple[Refusal, ...]:
    """Every entry of a job, oldest first. Two small Spark jobs."""
    return refusals_in(latest_record(spark, cfg, KIND, job))


def refusals_in(record: Record | None) -> tuple[Refusal, ...]:
    """The entries of a control record of `KIND`. Pure."""
    return tuple(Refusal(**entry) for entry in record.payload["entries"]) if record else ()


def save_refusals(spark: SparkSession, cfg: Config, job: str, entries: Iterable[Refusal]) -> None:
    """Make this the job's list; the caller holds the lease of its stream. Two small Spark jobs."""
    add_record(spark, cfg, KIND, job, {"entries": [asdict(each) for each in entries]})


def left_out(cfg: Config, job: Job, entries: Iterable[Refusal]) -> Places:
    """Where the records lie that the job leaves out now, in the topics that its sources are bound to now."""
    return _places(cfg, job, [each for each in entries if each.counts])


def unused_by(cfg: Config, job: Job, entries: Iterable[Refusal], query_id: str) -> Places:
    """Records that a query does not use when it reads them, or did not before they were taken back."""
    unused = [e for e in entries if (e.counts and e.used_by != query_id) or e.passed == query_id]
    return _places(cfg, job, unused)


def check_unused(job: str, entries: Iterable[Refusal], query_id: str | None) -> None:
    """Refuse to go on from a checkpoint whose state holds records that are left out now.

    Raises
    ------
    CheckpointError
        The message names one of them.
    """
    used = [each for each in entries if each.counts and query_id is not None and each.used_by == query_id]
    if used:
        raise CheckpointError(
            f"the checkpoint of {job} holds {plural(len(used), 'record')} that {job} leaves out now, such as "
            f"{used[0].place}.",
            expected="a checkpoint that has not used them",
            fix=f"start anew: twinrun stream {job} --new-checkpoint; or count it again: twinrun quarantine {job} "
            f"--remove {used[0].place}",
        )


def is_left_out(places: Iterable[Iterable[int]], partition: str = "_partition", offset: str = "_offset") -> Column:
    """Condition: the record is one of these places, each a partition and an offset."""
    by_partition: dict[int, list[int]] = {}
    for number, at in places:
        by_partition.setdefault(number, []).append(at)
    condition = F.lit(False)
    for number, offsets in by_partition.items():
        condition = condition | ((F.col(partition) == number) & F.col(offset).isin(sorted(offsets)))
    return condition


def without(events: DataFrame, places: Mapping[str, list[list[int]]], source: str) -> DataFrame:
    """The events of a source that the job does not leave out; the same frame where it leaves out none. Lazy."""
    mine = places.get(source, [])
    return events.filter(~is_left_out(mine)) if mine else events


def reached(places: Places, ends: Mapping[str, Mapping[int, int]]) -> Places:
    """Those of the places that lie below these end offsets."""
    inside = {name: [p for p in found if p[1] < ends.get(name, {}).get(p[0], 0)] for name, found in places.items()}
    return {name: found for name, found in inside.items() if found}


def differing(one: Places, other: Places) -> Places:
    """Places that only one of the two has."""
    found = {}
    for name in sorted({*one, *other}):
        sides = [{(partition, offset) for partition, offset in places.get(name, [])} for places in (one, other)]
        found[name] = [list(place) for place in sorted(sides[0] ^ sides[1])]
    return {name: places for name, places in found.items() if places}


def _places(cfg: Config, job: Job, entries: Iterable[Refusal]) -> Places:
    topics = {source.name: cfg.source(source.name).topic for source in job.sources}
    found: dict[str, set[tuple[int, int]]] = {}
    for each in entries:
        if topics.get(each.source) == each.topic:
            found.setdefault(each.source, set()).add((each.partition, each.offset))
    return {name: [list(place) for place in sorted(places)] for name, places in sorted(found.items())}
