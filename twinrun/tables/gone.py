"""What is not there any more: records that expired by age, were erased, or were lost before they could be landed.

Checks must neither miss them nor judge by what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from twinrun.config.model import Config
from twinrun.tables.control import latest_record
from twinrun.tables.delta import read_table, table_exists
from twinrun.tables.offsets import Offsets, plain

EXPIRY = "expiry"
"""Kind of the control record, by topic, that says how far records have expired. Written before they are removed."""


@dataclass(frozen=True)
class Loss:
    """Offsets of one Kafka partition, ``start`` to ``end`` (exclusive), that Kafka had removed before they were landed.

    ``accepted_at_ms`` (epoch ms): when somebody said to go on without them; None while nobody has.
    """

    partition: int
    start: int
    end: int
    accepted_at_ms: int | None = None

    @property
    def offsets(self) -> int:
        """How many there are."""
        return self.end - self.start


@dataclass(frozen=True)
class Gone:
    """What of one source is gone.

    Attributes
    ----------
    ends : dict
        Per partition: every record below this offset has expired.
    steps : tuple of (int, int)
        Expiries, oldest first: only events before that instant (epoch ms) had expired then, and the number of the last
        decode at that time: what was decoded later came too late for windows that begin before the instant.
    erased : DataFrame or None
        Erased records of the topic that have not expired: ``partition``, ``offset``, ``event_time_ms`` (null for a
        record that never became an event). None where there are none.
    lost : tuple of Loss
        Offsets that the stream read and bronze never got; which windows their events belong to is not known.
    """

    ends: Offsets = field(default_factory=dict)
    steps: tuple[tuple[int, int], ...] = ()
    erased: DataFrame | None = None
    lost: tuple[Loss, ...] = ()

    @property
    def before_ms(self) -> int:
        """Windows that begin at or after this instant (epoch ms) have lost nothing to age; 0: none has."""
        return max((before_ms for before_ms, _ in self.steps), default=0)

    @property
    def anything(self) -> bool:
        """Whether anything is gone at all."""
        return self.before_ms > 0 or self.erased is not None or bool(self.lost)


def gone_of(spark: SparkSession, cfg: Config, source: str) -> Gone:
    """What is gone of a source. At most two small Spark jobs."""
    topic = cfg.source(source).topic
    record = latest_record(spark, cfg, EXPIRY, topic)
    payload = record.payload if record else {"ends": {}, "steps": []}
    return Gone(
        ends=plain(payload["ends"]),
        steps=tuple((int(step["before_ms"]), int(step["seqs"].get(source, 0))) for step in payload["steps"]),
        erased=_erased(spark, cfg, topic, plain(payload["ends"])),
    )


def _erased(spark: SparkSession, cfg: Config, topic: str, ends: Offsets) -> DataFrame | None:
    ref = cfg.table("erased")
    if not table_exists(spark, ref):
        return None
    mine = read_table(spark, ref).filter(F.col("topic") == topic)
    for partition, end in ends.items():
        mine = mine.filter((F.col("partition") != partition) | (F.col("offset") >= end))
    rows = mine.select("partition", "offset", "event_time_ms").distinct()
    return None if rows.isEmpty() else rows
