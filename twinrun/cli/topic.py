"""``twinrun topic list|describe|tail|produce``: Kafka by hand, on any broker of the configuration."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from twinrun.broker.records import Stored, stored_records
from twinrun.broker.topics import all_topics, describe_topic, offset_counts, offset_ranges, offsets_at
from twinrun.cli.call import Call, command
from twinrun.cli.inputs import instant
from twinrun.cli.output import columns
from twinrun.cli.produce import ensure_topic
from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.produce.producer import produce as send
from twinrun.produce.records import Record, line_records
from twinrun.wording import plural

commands = typer.Typer()
TopicName = Annotated[str, typer.Argument(metavar="TOPIC", help="A topic's name, or a source's.")]
_INTERNAL = "__"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@command(commands, "list", "twinrun topic list")
def list_(
    call: Call,
    internal: Annotated[bool, typer.Option("--internal", help="Also Kafka's own, which begin with __.")] = False,
) -> int:
    """List the topics of the broker: partitions, how many offsets they hold now, and the sources that read them."""
    cfg = call.config()
    servers, options = cfg.kafka.bootstrap_servers, cfg.kafka.confluent_options()
    every = all_topics(servers, options)
    topics = {name: parts for name, parts in every.items() if internal or not name.startswith(_INTERNAL)}
    held = offset_counts(servers, topics, options)
    rows = [("topic", "partitions", "offsets", "sources")]
    payload: list[dict[str, Any]] = []
    for name, parts in topics.items():
        sources = _sources(cfg, name)
        rows.append((name, str(parts), f"{held[name]:,}", ", ".join(sources) or "-"))
        payload.append({"topic": name, "partitions": parts, "offsets": held[name], "sources": sources})
    none = f"the broker at {servers} has no topic; twinrun topic produce TOPIC VALUE --create-topic makes one"
    call.out.result({"bootstrap_servers": servers, "topics": payload}, columns(rows, indent="") if topics else [none])
    return EXIT_OK


@command(commands, "describe", "twinrun topic describe flights")
def describe(call: Call, name: TopicName) -> int:
    """Say what a topic is: its id, settings, and for each partition the first offset and the one that comes next."""
    cfg = call.config()
    topic = known_topic(cfg, name)
    servers, options = cfg.kafka.bootstrap_servers, cfg.kafka.confluent_options()
    info, ranges = describe_topic(servers, topic, options), offset_ranges(servers, topic, options)
    parts = [{"partition": number, "first": low, "next": high} for number, (low, high) in ranges.items()]
    rows = [("id", info.topic_id), ("sources", ", ".join(_sources(cfg, topic)) or "-"), *info.config.items()]
    rows += [(f"partition {each['partition']}", _range_words(each["first"], each["next"])) for each in parts]
    call.out.result(
        {
            "topic": topic,
            "topic_id": info.topic_id,
            "config": dict(info.config),
            "sources": _sources(cfg, topic),
            "partitions": parts,
        },
        [topic, *columns(rows)],
    )
    return EXIT_OK


@command(commands, "tail", "twinrun topic tail flights --last 3")
def tail(
    call: Call,
    name: TopicName,
    last: Annotated[int, typer.Option(min=0, help="Show the last so many offsets of each partition.")] = 10,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="earliest|OFFSET|TIME", help="Show all from here on, in place of the last ones."
        ),
    ] = None,
    partition: Annotated[int | None, typer.Option(min=0, help="Of this partition only.")] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with what comes, until Ctrl-C.")] = False,
) -> int:
    """Show records where they lie: PARTITION:OFFSET, the Kafka timestamp in UTC, key and value.

    In order within a partition; across partitions there is none. No consumer group moves by it. With --json a line of
    JSON for each record; a key or value that is no text has "_base64" behind its name there.
    """
    cfg = call.config()
    topic = known_topic(cfg, name)
    servers, options = cfg.kafka.bootstrap_servers, cfg.kafka.confluent_options()
    committed = _committed(cfg, topic)
    ranges = offset_ranges(servers, topic, options, committed=committed)
    if partition is not None and partition not in ranges:
        raise InputError(
            f"the topic {topic} has no partition {partition}.", expected=f"0 to {len(ranges) - 1}", fix="name another"
        )
    starts = _starts(cfg, topic, ranges, start, last, committed=committed)
    wanted = {number: (starts[number], end) for number, (_, end) in ranges.items() if partition in (None, number)}
    found = stored_records(
        servers, topic, wanted, options, committed=committed, follow=follow, ended=lambda: call.out.reader_gone
    )
    try:
        for each in found:
            call.out.event(_payload(topic, each), _line(each))
    except KeyboardInterrupt:
        if not follow:
            raise
    return EXIT_OK


@command(commands, "produce", 'twinrun topic produce clicks \'{"page": "a"}\' --key a')
def produce(
    call: Call,
    name: TopicName,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="[VALUE...]", help="A record each. [default: each line of standard input]"),
    ] = None,
    key: Annotated[str | None, typer.Option(help="Key of all records; it decides the partition.")] = None,
    key_field: Annotated[str | None, typer.Option(help="Field of the JSON value that becomes the key.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="TIME", help="Kafka timestamp of all records. [default: now]")
    ] = None,
    may_create: Annotated[
        bool, typer.Option("--create-topic", help="Create the topic on the development broker.")
    ] = False,
) -> int:
    """Send a few records by hand, acknowledged by the broker, and say where they lie now. A file: twinrun produce."""
    if key is not None and key_field is not None:
        raise InputError("--key and --key-field both say the key.", fix="leave one of them out")
    at_ms = None if time is None else (instant(time, "--time") - _EPOCH) // timedelta(milliseconds=1)
    cfg = call.config()
    topic = _topic_of(cfg, name)
    if may_create:
        ensure_topic(cfg, topic)
    else:
        topic = known_topic(cfg, name)
    done = send(_records(call, values, key, key_field, at_ms), topic, cfg.kafka.confluent_options())
    places = [
        f"  partition {number}: {plural(done.per_partition[number], 'record')}, {_span(first, end)}"
        for number, (first, end) in sorted(done.offsets.items())
    ]
    call.out.result({"topic": topic, **asdict(done)}, [f"{plural(done.acked, 'record')} delivered to {topic}", *places])
    return EXIT_OK


def known_topic(cfg: Config, name: str) -> str:
    """The topic of that name, or the topic of the source of that name.

    Raises
    ------
    InputError
        The broker has no such topic; with the nearest name.
    BrokerError
        No broker answers.
    """
    servers = cfg.kafka.bootstrap_servers
    there = all_topics(servers, cfg.kafka.confluent_options())
    topic = name if name in there else _topic_of(cfg, name)
    if topic in there:
        return topic
    shown = [each for each in there if not each.startswith(_INTERNAL)]
    match = nearest(topic, shown)
    raise InputError(
        f"the broker at {servers} has no topic {topic!r}.",
        expected=f"one of {listed(shown)}" if shown else "a topic; it has none",
        fix=f"write {match}" if match else "make it: twinrun topic produce TOPIC VALUE --create-topic",
    )


def _topic_of(cfg: Config, name: str) -> str:
    return cfg.sources[name].topic if name in cfg.sources else name


def _sources(cfg: Config, topic: str) -> list[str]:
    return sorted(name for name, binding in cfg.sources.items() if binding.topic == topic)


def _committed(cfg: Config, topic: str) -> bool:
    """As the sources of the configuration read it."""
    return any(cfg.sources[name].isolation == "read_committed" for name in _sources(cfg, topic))


def _starts(
    cfg: Config, topic: str, ranges: dict[int, tuple[int, int]], start: str | None, last: int, *, committed: bool
) -> dict[int, int]:
    """The first offset to show of each partition, within what is there."""
    if start is None:
        return {number: max(low, high - last) for number, (low, high) in ranges.items()}
    if start == "earliest":
        return {number: low for number, (low, _) in ranges.items()}
    if start.isascii() and start.isdigit():
        return {number: min(max(low, int(start)), high) for number, (low, high) in ranges.items()}
    try:
        at = instant(start, "--from")
    except InputError:
        raise InputError(
            f"--from {start!r} is no place in a topic.", expected="earliest, an offset, or a time with a zone"
        ) from None
    at_ms = (at - _EPOCH) // timedelta(milliseconds=1)
    return offsets_at(cfg.kafka.bootstrap_servers, topic, at_ms, cfg.kafka.confluent_options(), committed=committed)


def _records(
    call: Call, values: list[str] | None, key: str | None, key_field: str | None, at_ms: int | None
) -> Iterator[Record]:
    lines: Iterable[bytes]
    if values:
        lines = (value.encode() for value in values)
    else:
        if sys.stdin.isatty():
            call.out.note("a record for each line; Ctrl-D ends it")
        lines = (line.removesuffix(b"\n").removesuffix(b"\r") for line in sys.stdin.buffer)
    return line_records(lines, key=key, key_field=key_field, timestamp_ms=at_ms)


def _payload(topic: str, each: Stored) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": each.partition,
        "offset": each.offset,
        "timestamp_ms": each.timestamp_ms,
        **_text_or_base64("key", each.key),
        **_text_or_base64("value", each.value),
        "headers": [{"name": name, **_text_or_base64("value", value)} for name, value in each.headers],
    }


def _text_or_base64(name: str, value: bytes | None) -> dict[str, str | None]:
    try:
        return {name: None if value is None else value.decode("utf-8")}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(value or b"").decode("ascii")}


def _line(each: Stored) -> str:
    at = "no time" if each.timestamp_ms is None else _time_text(each.timestamp_ms)
    headers = "".join(f"  {name}={_shown(value)}" for name, value in each.headers)
    return f"{each.partition}:{each.offset}  {at}  {_shown(each.key)}  {_shown(each.value)}{headers}"


def _time_text(at_ms: int) -> str:
    try:
        return f"{_EPOCH + timedelta(milliseconds=at_ms):%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"
    except OverflowError:
        return f"{at_ms} ms"


def _shown(value: bytes | None) -> str:
    """A text on one line; bytes that are none as escapes."""
    if value is None:
        return "(none)"
    return value.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\n", "\\n")


def _range_words(first: int, following: int) -> str:
    if first == following:
        return f"empty; the next record gets offset {following}"
    return f"{_span(first, following - 1)}; the next record gets {following}"


def _span(first: int, last: int) -> str:
    return f"offset {first}" if first == last else f"offsets {first} to {last}"
