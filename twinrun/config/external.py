"""A result that another engine wrote: where it is, how its records are read, and what its owner declares about it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from twinrun.config.problems import Problem, several
from twinrun.config.values import EmptySection, Name, NotNegative, TablePath, Topic
from twinrun.durations import parse_ms

_COLUMN = re.compile(r"\s*\w+\s+(string|bigint|int)\s*", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _duration(text: str) -> str:
    parse_ms(text)
    return text


def _instant(text: str) -> str:
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        msg = f"{text!r} is not a time with a zone such as 2013-01-06T00:00:00Z"
        raise ValueError(msg)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
Instant = Annotated[str, AfterValidator(_instant)]
LateRuleName = Literal[
    "none",
    "partition-order",
    "kafka-streams",
    "flink-datastream",
    "flink-sql",
    "quix-key",
    "quix-partition",
    "bytewax",
    "pathway-minibatch",
]
PartitionOffsets = Annotated[dict[NotNegative, NotNegative], EmptySection]


class ExternalBinding(BaseModel):
    """The stream side of a job that another engine runs; everything but its place is a declaration of its owner.

    Attributes
    ----------
    table, format : str
        A Delta or Parquet table. Or else:
    topic : str
        A Kafka topic with one JSON object per record.
    key : {"none", "json", "kafka-streams"}
        ``json``: the record's key is a JSON object that holds key columns of the result. ``kafka-streams``: it is that
        of a time window of Kafka Streams, the bytes of the key and the window's start.
    key_schema : str or None
        With ``kafka-streams``: column and type of the bytes before the start, such as ``shop STRING``.
    time_format : {"epoch_ms", "iso8601"}
        How the records write timestamps.
    rows : {"append", "latest"} or None
        Whether a record is a row of its own or replaces the one with its key; None: as the job's ``emit`` says.
    ignore : list of str
        Columns that are not compared.
    types : dict of str to str
        Columns of a table and the types that their values are read as, where they change none of them.
    naive_time_zone : str or None
        The zone of a table's times without one: UTC, or an offset such as ``+01:00``.
    ready_until : str or None
        ISO instant: windows that end later are pending.
    lateness : str or None
        How far the engine's watermark stays behind the newest event; without ``ready_until`` it says what is pending.
    late_rule : str
        By whose rule events are late (`twinrun.external.rules`), such as ``kafka-streams``; ``partition-order``: an
        event is dropped once the newest event before it in its partition, less ``lateness``, has reached the end of its
        window.
    restarts : dict of str to list of dict
        By source, for each restart of the engine: partition to the offset at which a clock in memory begins anew.
    retention : str or None
        How long the engine's store keeps a window after a restart; None: a window and ``lateness``, its default.
    start, end : dict
        Offsets by source and partition between which the engine read; ``end`` is exclusive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: TablePath | None = None
    format: Literal["delta", "parquet"] = "delta"
    topic: Topic | None = None
    key: Literal["none", "json", "kafka-streams"] = "none"
    key_schema: str | None = None
    time_format: Literal["epoch_ms", "iso8601"] = "epoch_ms"
    rows: Literal["append", "latest"] | None = None
    ignore: list[str] = []
    types: Annotated[dict[str, str], EmptySection] = {}
    naive_time_zone: str | None = None
    ready_until: Instant | None = None
    lateness: Duration | None = None
    late_rule: LateRuleName = "none"
    restarts: Annotated[dict[Name, list[PartitionOffsets]], EmptySection] = {}
    retention: Duration | None = None
    start: Annotated[dict[Name, PartitionOffsets], EmptySection] = {}
    end: Annotated[dict[Name, PartitionOffsets], EmptySection] = {}

    @model_validator(mode="after")
    def _says_one_thing(self) -> ExternalBinding:
        problems = []
        if (self.table is None) == (self.topic is None):
            found = "both a table and a topic are given" if self.table else "neither a table nor a topic is given"
            problems.append(Problem((), found, "exactly one of them", "set the other to null"))
        if self.rows == "latest" and self.topic is None:
            found = "rows: latest needs the order of a topic"
            problems.append(Problem(("rows",), found, "a table that holds the latest rows already, with rows: append"))
        if self.topic is not None and (self.types or self.naive_time_zone is not None):
            found = "types and naive_time_zone are for tables: records are read in the result's types"
            problems.append(Problem(("types" if self.types else "naive_time_zone",), found, fix="leave it out"))
        if (self.key == "kafka-streams") != (self.key_schema is not None):
            found = "key: kafka-streams and key_schema go together"
            expected = "key_schema such as shop STRING, where records have the keys of Kafka Streams' windows"
            problems.append(Problem(("key_schema",), found, expected))
        elif self.key_schema is not None and _COLUMN.fullmatch(self.key_schema) is None:
            found = f"key_schema: {self.key_schema!r} is no column with a type"
            problems.append(Problem(("key_schema",), found, "one column that is STRING, BIGINT or INT"))
        if self.key == "kafka-streams" and self.topic is None:
            problems.append(Problem(("key",), "key: kafka-streams is for records of a topic", fix="leave it out"))
        if self.late_rule != "none" and self.lateness is None:
            problems.append(Problem(("late_rule",), "late_rule needs a lateness", fix="add lateness"))
        if problems:
            raise several(problems)
        return self

    @property
    def place(self) -> str:
        """The table's reference or the topic's name."""
        return self.table or self.topic or ""

    @property
    def key_column(self) -> tuple[str, str]:
        """Name and type of ``key_schema``, the type in small letters."""
        name, _, dtype = (self.key_schema or "").strip().rpartition(" ")
        return name.strip(), dtype.lower()

    @property
    def names_rows(self) -> bool:
        """Whether the records' keys hold key columns of the result, so that a deletion names its row by them."""
        return self.key != "none"

    @property
    def lateness_ms(self) -> int | None:
        """Declared lateness in milliseconds."""
        return None if self.lateness is None else parse_ms(self.lateness)

    @property
    def retention_ms(self) -> int | None:
        """Declared retention of the store in milliseconds."""
        return None if self.retention is None else parse_ms(self.retention)

    @property
    def ready_until_ms(self) -> int | None:
        """Declared end of what is ready, in epoch milliseconds, rounded down."""
        if self.ready_until is None:
            return None
        return (datetime.fromisoformat(self.ready_until) - _EPOCH) // timedelta(milliseconds=1)
