"""What a scenario has to know of a job: how its records look, how its windows lie, and what its stream drops."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from twinrun.durations import parse_ms
from twinrun.errors import InputError
from twinrun.events.source import EventTimeFormat, Source
from twinrun.job.ddl import DdlError, Field, read_ddl
from twinrun.job.job import Emit, Job, Shape

LateBy = Literal["window", "time", "gap"]
_TEXT = ("string",)


@dataclass(frozen=True)
class Joined:
    """The second source of a join of two streams: at most one of its records answers an event of the first.

    A record answers the event whose id its field ``refers`` holds, if its event time lies at that event's or at most
    ``within_ms`` after it. ``outer``: an event without an answer is a result row too.
    """

    fields: tuple[Field, ...]
    id_field: str
    refers: str
    within_ms: int
    outer: bool


@dataclass(frozen=True)
class Contract:
    """One job as a scenario sees it.

    Parameters
    ----------
    name : str
        The job's name, or that of a built-in shape.
    shape, emit
        As in `twinrun.job.job.Job`.
    window_ms, slide_ms : int or None
        Null without windows.
    lateness_ms : int or None
        Null without a watermark.
    max_ahead_ms : int or None
        How far an event time may lie after the record's Kafka timestamp.
    fields : tuple of Field
        The declared fields of a record.
    id_field : str
        Names an event.
    key_field : str
        The text field that tells scenarios apart. It is a key of the result; of a job whose only key is the event id
        it is the field by which the static table is joined.
    time_field, time_format
        The event time.
    ranges : tuple of (field, low, high)
        Inclusive limits.
    table : str or None
        The static table, if there is one.
    late_by : {"window", "time", "gap"}
        What the first operator of the stream goes by: the end of its windows, the event time itself (a de-duplication,
        a join of streams), or the event time and the gap of its sessions. A function with another operator in front
        of its windows does not say so in the job's definition.
    inner_ms : int or None
        Length of the windows of a first operator whose results are put into the job's windows by a second.
    gap_ms : int or None
        Of session windows.
    distinct : bool
        The source drops further copies of an id: the batch all of them, the stream those that it remembers.
    joined : Joined or None
        The second source, where the job joins two streams.
    away : str or None
        The job filters away events whose key ends in this.
    """

    name: str
    shape: Shape
    emit: Emit
    window_ms: int | None
    slide_ms: int | None
    lateness_ms: int | None
    max_ahead_ms: int | None
    fields: tuple[Field, ...]
    id_field: str
    key_field: str
    time_field: str
    time_format: EventTimeFormat
    ranges: tuple[tuple[str, float | int | None, float | int | None], ...] = ()
    table: str | None = None
    late_by: LateBy = "window"
    inner_ms: int | None = None
    gap_ms: int | None = None
    distinct: bool = False
    joined: Joined | None = None
    away: str | None = None

    def counts(self, key: str) -> bool:
        """Whether the job lets events of this key through to its result."""
        return self.away is None or not key.endswith(self.away)

    @property
    def step_ms(self) -> int:
        """From one end of the first operator's windows to the next; a second where it has none."""
        if self.late_by != "window":
            return 1_000
        return self.inner_ms or self.slide_ms or 1_000

    @property
    def windowed(self) -> bool:
        """Whether a result row belongs to a window of fixed length."""
        return self.shape in ("tumbling", "sliding")

    @property
    def starts(self) -> bool:
        """Whether a result row is named by a start: of its window, or of its session."""
        return self.windowed or self.gap_ms is not None

    @property
    def drops_late(self) -> bool:
        """Whether the stream drops late events at all."""
        return self.lateness_ms is not None and (self.windowed or self.late_by != "window")

    @property
    def row_per_event(self) -> bool:
        """Whether a result row is one event."""
        return self.shape == "stateless"


def contract_of(job: Job) -> Contract:
    """Read the contract off a job's definition; no Spark.

    Raises
    ------
    InputError
        A scenario cannot be made for this job (with the reason).
    """
    source = job.sources[0]
    if not isinstance(source.format, str):
        raise InputError(
            f"{job.job_name} reads {type(source.format).__name__}, and a scenario writes JSON.",
            expected="a source with format='json'",
            fix="try the job's function with a source that declares the same fields in JSON",
        )
    refused = [
        *([f"{len(job.sources)} sources"] if len(job.sources) != 1 else []),
        *(["a source that is distinct by more than its id"] if source.distinct not in ([], source.id) else []),
    ]
    if refused:
        raise InputError(
            f"{job.job_name} has {' and '.join(refused)}: a scenario cannot say in advance what its stream drops.",
            expected="one source; where it is distinct, by its id",
        )
    try:
        fields = read_ddl(source.schema)
    except DdlError as error:
        raise InputError(f"the schema of source {source.name} cannot be read: {error}.") from None
    if len(source.id) != 1:
        raise InputError(
            f"the source {source.name} of {job.job_name} names an event by {len(source.id)} fields.",
            expected="one text field as id",
        )
    return Contract(
        name=job.job_name,
        shape=job.shape,
        emit=job.emit,
        window_ms=job.window_ms,
        slide_ms=job.slide_ms,
        lateness_ms=source.lateness_ms,
        max_ahead_ms=source.max_ahead_ms,
        fields=fields,
        id_field=_text_field(job, fields, source.id),
        key_field=_text_field(job, fields, _key_candidates(job, fields, source)),
        time_field=source.event_time,
        time_format=source.event_time_format,
        ranges=tuple((name, low, high) for name, (low, high) in sorted(source.ranges.items())),
        table=job.tables[0].name if job.tables else None,
        late_by="gap" if job.shape == "session" else "time" if source.distinct else "window",
        gap_ms=parse_ms(job.gap) if job.gap else None,
        distinct=bool(source.distinct),
    )


def _key_candidates(job: Job, fields: tuple[Field, ...], source: Source) -> list[str]:
    others = [field.name for field in fields if field.name not in (*source.id, source.event_time)]
    return [name for name in job.keys if name in others] or (others if job.shape == "stateless" else [])


def _text_field(job: Job, fields: tuple[Field, ...], names: list[str]) -> str:
    types = {field.name: field.type for field in fields}
    for name in names:
        if types.get(name) in _TEXT:
            return name
    raise InputError(
        f"{job.job_name} has no text field that could tell the scenario's rows from others.",
        expected="an id and a key (besides the window) that are STRING fields of its source",
    )


_CLICKS = (
    Field("id", "string", True),
    Field("at", "bigint", True),
    Field("page", "string", True),
    Field("amount", "decimal", False),
    Field("weight", "double", False),
)
_TUMBLING = Contract(
    name="tumbling",
    shape="tumbling",
    emit="final",
    window_ms=60_000,
    slide_ms=60_000,
    lateness_ms=10_000,
    max_ahead_ms=3_600_000,
    fields=_CLICKS,
    id_field="id",
    key_field="page",
    time_field="at",
    time_format="epoch_ms",
    ranges=(("amount", 0, None),),
)
BUILT_IN: dict[str, Contract] = {
    "tumbling": _TUMBLING,
    "sliding": replace(_TUMBLING, name="sliding", shape="sliding", slide_ms=20_000),
    "updates": replace(_TUMBLING, name="updates", emit="updates"),
    "deduplicated": replace(_TUMBLING, name="deduplicated", late_by="time"),
    "chained": replace(_TUMBLING, name="chained", inner_ms=10_000),
    "session": replace(
        _TUMBLING, name="session", shape="session", window_ms=None, slide_ms=None, late_by="gap", gap_ms=10_000
    ),
    "distinct": replace(_TUMBLING, name="distinct", late_by="time", distinct=True),
    "filtered": replace(_TUMBLING, name="filtered", away=".away"),
    "latest": replace(
        _TUMBLING, name="latest", shape="latest", emit="updates", window_ms=None, slide_ms=None, lateness_ms=None
    ),
    "stateless": replace(_TUMBLING, name="stateless", shape="stateless", window_ms=None, slide_ms=None, table="prices"),
    "projected": replace(_TUMBLING, name="projected", shape="stateless", window_ms=None, slide_ms=None),
    "once": replace(_TUMBLING, name="once", shape="stateless", window_ms=None, slide_ms=None, late_by="time"),
}
"""Contracts over clicks per page and minute, for a scenario without a job of one's own."""
