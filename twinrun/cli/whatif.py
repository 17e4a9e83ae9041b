"""``twinrun what-if``: the loss at other settings of lateness, without running the stream again."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_runs
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.runs import JobName
from twinrun.cli.session import job_size, with_spark
from twinrun.durations import human, parse_ms
from twinrun.errors import EXIT_OK, InputError
from twinrun.wording import plural, worded

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.whatif.whatif import WhatIf

commands = typer.Typer()


@command(commands, "what-if", "twinrun what-if departures_per_hour --keep 0.999")
def what_if(
    call: Call,
    name: JobName,
    keep: Annotated[
        float, typer.Option("--keep", min=0, max=1, help="The share of events that the stream should not lose.")
    ] = 0.999,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="LATENESS", help="One more lateness, such as '90 min'.")
    ] = None,
) -> int:
    """Show what the stream would have lost, how late its windows come and what it would hold, at other latenesses."""
    try:
        also_ms = tuple(parse_ms(text) for text in at or ())
    except ValueError as error:
        raise InputError(f"--at: {error}", expected="a duration such as '90 min'") from None
    cfg = call.config()
    job = job_named(cfg, name)
    need_runs(cfg, job)

    def work(spark: SparkSession, _: threading.Event) -> WhatIf:
        from twinrun.whatif.whatif import what_if as run

        with step(call.out, f"what-if {job.job_name}"):
            return run(spark, cfg, job, keep, also_ms)

    found = with_spark(cfg, f"what-if {job.job_name}", work, size=job_size(cfg, job))
    call.out.result(found.to_dict(), lines(found))
    return EXIT_OK


def lines(found: WhatIf) -> list[str]:
    """The table that a terminal shows."""
    rows: list[tuple[str, ...]] = [("lateness", "events lost", "share", "delay of a window", "rows held")]
    for point in found.points:
        mark = " (recorded)" if point.lateness_ms == found.recorded_ms else ""
        share = point.lost / found.events if found.events else 0.0
        rows.append(
            (
                f"{human(point.lateness_ms)}{mark}",
                f"{point.lost:,}",
                f"{share:.3%}",
                "-" if point.delay_ms is None else human(point.delay_ms),
                "-" if point.open_rows is None else f"{point.open_rows:,.1f}",
            )
        )
    keep = f"{found.keep * 100:.10g}%"  # as it was asked for: rounded, it would promise more
    return [
        f"{found.job}: {plural(found.events, 'event')} in {plural(found.micro_batches, 'micro-batch')}, "
        "the same for every line",
        *columns(rows),
        *_lost_at_any(found),
        f"To keep {keep} of the events: a lateness of {human(found.enough_ms)}."
        if found.enough_ms is not None
        else f"No lateness keeps {keep} of the events.",
        *([_read_late(found)] if found.read_late else []),
    ]


def _lost_at_any(found: WhatIf) -> list[str]:
    if not found.before_1970:
        return []
    return [
        f"{plural(found.before_1970, 'event')} of before 1970 would be lost at any lateness: "
        "a stream's watermark begins at 1970-01-01 00:00 UTC."
    ]


def _read_late(found: WhatIf) -> str:
    were = worded(found.read_late, "lay in Kafka in time and was", "lay in Kafka in time and were")
    return (
        f"Of the {plural(found.recorded_lost, 'event')} lost in this run {were} read late, behind other partitions: "
        "even partitions, or more records per trigger (stream.max_offsets_per_trigger), keep such events without a "
        "longer lateness."
    )
