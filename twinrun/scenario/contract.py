"""What a scenario has to know of a job: how its records look, how its windows lie, and what its stream drops."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from twinrun.errors import InputError
from twinrun.events.source import EventTimeFormat, Source
from twinrun.job.ddl import DdlError, Field, read_ddl
from twinrun.job.job import Emit, Job, Shape

LateBy = Literal["window", "time"]
_TEXT = ("string",)


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
    late_by : {"window", "time"}
        What the first operator of the stream goes by: the end of its windows, or the event time itself (a
        de-duplication before the windows). A job's definition does not say it: `contract_of` takes the windows.
    inner_ms : int or None
        Length of the windows of a first operator whose results are put into the job's windows by a second.
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

    @property
    def step_ms(self) -> int:
        """From one end of the first operator's windows to the next; a second where it has none."""
        if self.late_by == "time":
            return 1_000
        return self.inner_ms or self.slide_ms or 1_000

    @property
    def windowed(self) -> bool:
        """Whether a result row belongs to a window of fixed length."""
        return self.shape in ("tumbling", "sliding")

    @property
    def drops_late(self) -> bool:
        """Whether the stream drops late events at all."""
        return self.windowed and self.lateness_ms is not None

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
    refused = [
        *([f"{len(job.sources)} sources"] if len(job.sources) != 1 else []),
        *(["session windows"] if job.shape == "session" else []),
        *(["a source that drops duplicates"] if getattr(source, "distinct", None) else []),
    ]
    if refused:
        raise InputError(
            f"{job.job_name} has {' and '.join(refused)}: a scenario cannot say in advance what its stream drops.",
            expected="one source, and tumbling, sliding or no windows",
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
    "latest": replace(
        _TUMBLING, name="latest", shape="latest", emit="updates", window_ms=None, slide_ms=None, lateness_ms=None
    ),
    "stateless": replace(_TUMBLING, name="stateless", shape="stateless", window_ms=None, slide_ms=None, table="prices"),
}
"""Contracts over clicks per page and minute, for a scenario without a job of one's own."""
