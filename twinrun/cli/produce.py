"""``twinrun produce``: replay a data set or a file of JSON lines or CSV to a topic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from twinrun.broker.process import broker_status
from twinrun.broker.topics import create_topic, describe_topic
from twinrun.cli.broker import data_dir
from twinrun.cli.call import Call, command
from twinrun.cli.live import step
from twinrun.config.model import Config
from twinrun.errors import EXIT_OK, BrokerError, InputError
from twinrun.produce.counts import ProduceSummary
from twinrun.produce.producer import produce as send
from twinrun.produce.records import Record, file_records
from twinrun.wording import plural

commands = typer.Typer()


class DataSet(StrEnum):
    """The data sets that can be replayed."""

    flights = "flights"


@command(commands, "produce", "twinrun produce --dataset flights --day 2013-01-06 --days 7 --create-topic")
def produce(
    call: Call,
    dataset: Annotated[
        DataSet | None, typer.Option(help="Replay a data set, in the order events became known.")
    ] = None,
    day: Annotated[str, typer.Option(help="First day of the data set, as YYYY-MM-DD.")] = "2013-01-06",
    days: Annotated[int, typer.Option(min=1, help="Number of days of the data set.")] = 7,
    file: Annotated[
        Path | None, typer.Option(help="Replay a file: a JSON object per line, or CSV (.csv, .tsv) with a header.")
    ] = None,
    key_field: Annotated[
        str | None, typer.Option(help="Field or column whose value becomes the key (with --file).")
    ] = None,
    time_field: Annotated[
        str | None,
        typer.Option(
            help="Field or column that says when a record became known: its Kafka timestamp (with --file). "
            "[default: the time of sending]"
        ),
    ] = None,
    in_order: Annotated[
        bool,
        typer.Option(
            "--in-order",
            help="The file is a log: its order is the order of knowing, and --time-field says when something happened.",
        ),
    ] = False,
    topic: Annotated[str | None, typer.Option(help="Where to. [default for a data set: its source's topic]")] = None,
    speed: Annotated[float | None, typer.Option(help="Seconds of event time per second. [default: full speed]")] = None,
    may_create: Annotated[
        bool, typer.Option("--create-topic", help="Create the topic on the development broker.")
    ] = False,
) -> int:
    """Send records to a topic, acknowledged and in order per key."""
    cfg = call.config()
    to_topic, records = _records(cfg, dataset, day, days, file, key_field, time_field, in_order, topic)
    if may_create:
        ensure_topic(cfg, to_topic)
    without_key = 0

    def counted() -> Iterator[Record]:
        nonlocal without_key
        for record in records:
            without_key += record.key is None
            yield record

    with step(call.out, f"producing to {to_topic}") as say:
        done = send(
            counted(),
            to_topic,
            cfg.kafka.confluent_options(),
            speed=speed,
            on_progress=lambda so_far: say(f"{so_far.acked:,} delivered, {so_far.failed:,} failed"),
        )
    call.out.result({"topic": to_topic, **asdict(done)}, [_line(to_topic, done)])
    if file is not None and without_key:
        call.out.note(
            f"note: {plural(without_key, 'record')} without a key: no JSON object, or one whose {key_field} is "
            "missing or null"
        )
    return EXIT_OK


def ensure_topic(cfg: Config, topic: str) -> None:
    """Create the topic where it is absent, on the development broker only.

    Raises
    ------
    BrokerError
        The broker of the configuration is not the development broker, or does not answer.
    """
    servers, options = cfg.kafka.bootstrap_servers, cfg.kafka.confluent_options()
    own = broker_status(data_dir(cfg))
    try:
        describe_topic(servers, topic, options)
    except BrokerError as error:
        if "has no topic" not in error.found:
            raise
        if own is None or own.bootstrap_servers != servers:
            raise BrokerError(
                f"The broker at {servers} has no topic {topic!r}, and it is not the development broker.",
                expected="a topic that exists: twinrun makes none on a broker that it did not start",
                fix="create it with your own tools (CreateTime timestamps, a retention that keeps old events)",
            ) from None
        create_topic(servers, topic, cfg.broker.partitions, options)


def _records(
    cfg: Config,
    dataset: DataSet | None,
    day: str,
    days: int,
    file: Path | None,
    key_field: str | None,
    time_field: str | None,
    in_order: bool,
    topic: str | None,
) -> tuple[str, Iterator[Record]]:
    if (dataset is None) == (file is None):
        raise InputError("produce needs one thing to send.", expected="either --dataset or --file")
    if file is not None:
        if topic is None or key_field is None:
            raise InputError("--file needs --topic and --key-field.", fix="name the topic and the field of the key")
        if in_order and time_field is None:
            raise InputError("--in-order needs --time-field.", fix="name the field that says when something happened")
        return topic, file_records(file, key_field=key_field, time_field=time_field, in_order=in_order)
    if key_field is not None or time_field is not None or in_order:
        raise InputError(
            "--key-field, --time-field and --in-order belong to --file; a data set has its own.", fix="leave them out"
        )
    # pandas takes a second to load: only what needs it pays for it.
    from twinrun.produce.flights import flight_events, flight_records

    return topic or cfg.source("flights").topic, flight_events(flight_records(_day(day), days))


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError(f"--day {text!r} is not a day.", expected="such as 2013-01-06") from None


def _line(topic: str, done: ProduceSummary) -> str:
    spread = ", ".join(f"{partition}: {count:,}" for partition, count in done.per_partition.items())
    return f"{plural(done.acked, 'record')} delivered to {topic} in {done.seconds:.1f} s (per partition {spread})"
