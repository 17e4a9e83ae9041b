"""The result of one verify: frozen, JSON-friendly, without any live DataFrame.

All instants are UTC epoch milliseconds (``_ms``); result cells are JSON values (numbers, text, null), with
decimals and timestamps as text so that no digit is lost.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from twinrun.results.ledger import History

SCHEMA_VERSION = 3
"""Version of the JSON form; raised when its shape changes.

2: ``history``, and the ``events`` of each sample. 3: ``rows_behind`` and ``windows_behind``; ``rows_batch`` and
``rows_stream`` count the tables whole, with pending rows."""

Outcome = Literal["agree", "explained", "differ", "stale", "input_behind", "nothing_compared"]
"""``agree``: no difference. ``explained``: all proven and expected. ``differ``: something else, exit code 1."""


@dataclass(frozen=True)
class SourceCut:
    """Which offsets of one source the comparison covers, per Kafka partition; end offsets are exclusive.

    ``bronze_start`` and ``bronze_end``: what the ingest has read, which may reach beyond the last record that bronze
    holds. ``events_in_cut`` and ``events_batch``: records that stream and batch have read.
    """

    source: str
    topic: str
    start: dict[int, int]
    end: dict[int, int]
    bronze_end: dict[int, int]
    batch_end: dict[int, int]
    broker_end: dict[int, int] | None
    events_in_cut: int
    events_batch: int
    bronze_start: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Cut:
    """Everything that is pinned, so that the same verify can be rerun."""

    job: str
    micro_batch: int
    watermark_ms: int | None
    query_id: str
    batch_table: str
    batch_version: int
    stream_table: str
    stream_version: int
    batch_static: dict[str, int]
    stream_static: dict[str, int]
    sources: tuple[SourceCut, ...]
    taken_at_ms: int


@dataclass(frozen=True)
class CauseCount:
    """How much one cause explains. ``events`` is null where a cause is not about events."""

    cause: str
    rows: int
    windows: int
    events: int | None
    proof: str


@dataclass(frozen=True)
class PartitionBehind:
    """A partition of which events were read late: how many, since which micro-batch it was behind, and how far.

    ``behind_ms``: its newest event time against that of the whole topic, at most, when the events were judged; null
    where nothing of it had been read. ``since_micro_batch`` is null where it was within the lateness of the newest.
    """

    topic: str
    partition: int
    events: int
    since_micro_batch: int | None
    behind_ms: int | None


@dataclass(frozen=True)
class Arrival:
    """How the late events came to be late, by the order in which Kafka got them; each event counts once.

    ``arrived_late``: Kafka held what moved the watermark past their window before it held them. ``read_late``: they lay
    in Kafka before that. ``not_told``: named by an older twinrun, or no such event is left.
    """

    arrived_late: int
    read_late: int
    not_told: int
    behind: tuple[PartitionBehind, ...] = ()


@dataclass(frozen=True)
class WatermarkOf:
    """What the watermark of a source follows: its newest event, less the lateness.

    ``only_if``: of those events alone that this condition holds for, since Spark applies it before the watermark; empty
    where every event counts. ``told``: False where the plan does not say which events count.
    """

    source: str
    lateness_ms: int
    only_if: str = ""
    told: bool = True


@dataclass(frozen=True)
class PartitionPoint:
    """How far a partition had been read after a micro-batch: the newest event time of it so far."""

    topic: str
    partition: int
    micro_batch: int
    newest_event_ms: int


@dataclass(frozen=True)
class LateEvent:
    """One event that the stream dropped: a row of evidence.

    ``arrival``: arrived_late, read_late or not_told, see `Arrival`. ``passed_at_ms``: the Kafka timestamp of the first
    event that moves the watermark past its window.
    """

    id: dict[str, Any]
    topic: str
    partition: int
    offset: int
    event_time_ms: int
    known_at_ms: int
    window_start_ms: int | None
    window_end_ms: int | None
    watermark_ms: int
    micro_batch: int
    late_ms: int
    arrival: str | None = None
    passed_at_ms: int | None = None


@dataclass(frozen=True)
class BlamedEvent:
    """One event that a proven cause of a row is about.

    ``micro_batch`` and ``watermark_ms`` (the one that it was judged by) are null where the stream never read the event;
    ``end_ms`` (of the window, session or event that it came too late for), ``late_ms``, ``arrival`` and
    ``passed_at_ms`` (see `LateEvent`) where it was not dropped.
    """

    cause: str
    id: dict[str, Any]
    source: str
    topic: str
    partition: int
    offset: int
    event_time_ms: int
    known_at_ms: int
    micro_batch: int | None
    watermark_ms: int | None
    end_ms: int | None
    late_ms: int | None
    arrival: str | None = None
    passed_at_ms: int | None = None


@dataclass(frozen=True)
class SinkCommit:
    """A commit of the stream's table that is not the stream's, and changed the row."""

    version: int
    operation: str
    at_ms: int
    engine: str


@dataclass(frozen=True)
class RowSample:
    """One differing result row, side by side. ``columns`` are the cells that differ.

    ``events`` are a few blamed events per cause, the latest first; ``causes`` counts all of them. ``events_of`` says to
    what they belong: this ``row``; its ``window``, where the key is worked out by the function; or ``any`` row.
    ``commits`` are those of somebody else that changed the row in the stream's table, and ``emitted`` is what the
    stream had written where that is proven (`sink_changed`); null there: the stream had written no such row.
    """

    key: dict[str, Any]
    window_start_ms: int | None
    kind: str
    columns: tuple[str, ...]
    batch: dict[str, Any] | None
    stream: dict[str, Any] | None
    verdict: str
    causes: dict[str, int]
    events: tuple[BlamedEvent, ...] = ()
    events_of: Literal["row", "window", "any"] = "row"
    emitted: dict[str, Any] | None = None
    commits: tuple[SinkCommit, ...] = ()


@dataclass(frozen=True)
class WindowPoint:
    """Result rows of one window start by verdict; for the timeline."""

    window_start_ms: int
    equal: int
    explained: int
    unexplained: int
    pending: int
    behind: int = 0


@dataclass(frozen=True)
class MicroBatchPoint:
    """One micro-batch of the stream: progress, watermark and how far it lay behind."""

    micro_batch: int
    events: int
    watermark_ms: int
    newest_event_ms: int | None
    started_at_ms: int
    duration_ms: int | None


@dataclass(frozen=True)
class QuarantineCount:
    """Events of one source refused by one rule, with the coordinates of one of them."""

    source: str
    rule: str
    events: int
    example: str
    reason: str


@dataclass(frozen=True)
class Audit:
    """Conservation of one source: bronze = valid + quarantine, and offsets without holes.

    ``missing_offsets``: not in bronze, and nobody says why. ``empty_offsets``: Kafka had no record there when it was
    landed (markers of transactions). ``lost_offsets``: read by the stream, and removed by Kafka before the ingest.
    ``stream_rows``: records that the stream has read.
    """

    source: str
    bronze_rows: int
    valid_rows: int
    quarantined_rows: int
    missing_offsets: int
    repeated_offsets: int
    gaps_allowed: bool
    ok: bool
    note: str
    empty_offsets: int = 0
    lost_offsets: int = 0
    stream_rows: int = 0


@dataclass(frozen=True)
class ExpectationResult:
    """One Great Expectations expectation on one table."""

    table: str
    expectation: str
    success: bool
    observed: str


@dataclass(frozen=True)
class ExternalSide:
    """The stream's side where another engine wrote it: what it is, what was declared, what cannot be proven of it.

    ``records``, ``superseded`` and ``tombstones`` count records of a topic and are null for a table; ``early_rows``
    are rows of windows that are called open. ``out_of_reach``: cause and the reason why it was not looked for.
    ``late_rule``: the name of the declared rule by which its late events are told.
    """

    place: str
    declared: tuple[str, ...]
    offsets_declared: bool
    rows: int
    early_rows: int
    records: int | None
    superseded: int | None
    tombstones: int | None
    malformed: tuple[QuarantineCount, ...]
    out_of_reach: tuple[tuple[str, str], ...]
    late_rule: str = "none"


@dataclass(frozen=True)
class Verdict:
    """What one verify found. ``problems`` are the sentences that make the exit code 1; ``history`` is the ledger's.

    ``events_told``: False where the function does not show which events it leaves out, so that the events that causes
    blame are at most so many.
    ``rows_batch`` and ``rows_stream`` are those of both tables, pending ones too. ``rows_behind`` and
    ``windows_behind`` are not judged: the batch lacks events that the stream has read.
    ``stream_lag_events`` is null where Kafka did not answer, or another engine wrote the result.
    """

    job: str
    outcome: Outcome
    exit_code: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    cut: Cut
    keys: tuple[str, ...]
    shape: str
    window_ms: int | None
    lateness_ms: int | None
    rows_batch: int
    rows_stream: int
    rows_compared: int
    rows_equal: int
    rows_explained: int
    rows_unexplained: int
    windows_compared: int
    windows_equal: int
    windows_different: int
    windows_pending: int
    rows_pending: int
    schema_differences: tuple[str, ...]
    causes: tuple[CauseCount, ...]
    late_events: tuple[LateEvent, ...]
    samples: tuple[RowSample, ...]
    timeline: tuple[WindowPoint, ...]
    micro_batches: tuple[MicroBatchPoint, ...]
    quarantine: tuple[QuarantineCount, ...]
    audits: tuple[Audit, ...]
    expectations: tuple[ExpectationResult, ...]
    stream_lag_events: int | None
    stream_age_ms: int | None
    duration_ms: int
    history: History | None = None
    external: ExternalSide | None = None
    watermarks: tuple[WatermarkOf, ...] = ()
    arrival: Arrival | None = None
    partitions: tuple[PartitionPoint, ...] = ()
    events_told: bool = True
    rows_behind: int = 0
    windows_behind: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, with its schema version first."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}
