"""A source: the declaration of one topic's events, free of any I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from twinrun.durations import parse_ms

EventTimeFormat = Literal["epoch_ms", "iso8601"]
OffsetRule = Literal["contiguous", "gaps"]

PLACE = ("_topic", "_partition", "_offset")
"""Where Kafka holds an event; no two events share it."""
COORDINATES = (*PLACE, "_kafka_timestamp")
"""Columns that every event carries besides its declared fields, in both modes."""

Framing = Literal["confluent"]


@dataclass(frozen=True)
class Avro:
    """Values in Avro's binary form: ``Source(format=Avro(schema))``. Needs the package fastavro wherever tasks run.

    Parameters
    ----------
    schema : str
        The schema that the records were written with, as JSON: a record. Fields of the source have the names of its
        fields.
    framing, schema_id : {"confluent"} and int, optional
        With framing a value begins with a zero byte and the id of its schema, as Confluent's serializers write it. A
        record with another id than ``schema_id`` goes to quarantine; None reads any, which is right only while all
        records were written with ``schema``.
    """

    schema: str
    framing: Framing | None = None
    schema_id: int | None = None


@dataclass(frozen=True)
class Protobuf:
    """Values in Protobuf's binary form: ``Source(format=Protobuf(descriptors, "shop.Order"))``.

    Parameters
    ----------
    descriptors : str
        The file that ``protoc --include_imports --descriptor_set_out=FILE`` writes, in base64.
    message : str
        Full name of the message. Fields of the source have the names of its fields, as the ``.proto`` file writes them.
    framing, schema_id
        As those of `Avro`; Confluent's frame goes on with the place of the message in its file, which is read over.
    """

    descriptors: str
    message: str
    framing: Framing | None = None
    schema_id: int | None = None


Payload = Avro | Protobuf
"""Formats that need more than a name."""


@dataclass(frozen=True)
class Source:
    """One stream of events, bound to a topic and tables in ``conf/``.

    Parameters
    ----------
    name : str
        Name of the source; the job function has a parameter of the same name.
    schema : str
        Spark DDL of the fields in a record, e.g. ``"flight_id STRING NOT NULL, delay INT"``.
        A ``NOT NULL`` field is required: a record without it goes to quarantine.
    event_time : str
        The field that says when the event happened; it becomes a UTC timestamp in both modes.
    lateness : str, optional
        How far the watermark stays behind the newest event time, e.g. ``"1 hour"``. None: no watermark.
    event_time_format : {"epoch_ms", "iso8601"}
        How the record writes the event time.
    max_ahead : str, optional
        An event time later than the record's Kafka timestamp plus this goes to quarantine, so that one wrong
        clock cannot push the watermark over everybody else's events. None: no limit.
    id : list of str
        Fields that name an event in evidence and count duplicates. It never drops one.
    distinct : list of str
        Fields by which later copies of an event are dropped, in each mode by its own operator: see
        `twinrun.events.decode`. Needs a lateness.
    ranges : dict of str to (low, high)
        Inclusive limits of numeric fields; None leaves a side open. Outside goes to quarantine.
    format : str, Avro or Protobuf
        Name of the registered decoder, or what the records were written with.
    offsets : {"contiguous", "gaps"}, optional
        Whether the topic may have offset gaps (compaction, transactions). None: read from the topic.
    """

    name: str
    schema: str
    event_time: str
    lateness: str | None = None
    event_time_format: EventTimeFormat = "epoch_ms"
    max_ahead: str | None = "1 hour"
    id: list[str] = field(default_factory=list)
    distinct: list[str] = field(default_factory=list)
    ranges: dict[str, tuple[float | int | None, float | int | None]] = field(default_factory=dict)
    format: str | Avro | Protobuf = "json"
    offsets: OffsetRule | None = None

    @property
    def lateness_ms(self) -> int | None:
        """Lateness in milliseconds, or None for no watermark."""
        return None if self.lateness is None else parse_ms(self.lateness)

    @property
    def max_ahead_ms(self) -> int | None:
        """Allowed lead of the event time over the Kafka timestamp in milliseconds, or None."""
        return None if self.max_ahead is None else parse_ms(self.max_ahead)
