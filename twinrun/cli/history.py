"""``twinrun history``: what the ledger says about a job, and whether it keeps its thresholds."""

from __future__ import annotations

import threading
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import instant as instant_of
from twinrun.cli.inputs import job_named, need_table
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.runs import JobName
from twinrun.cli.session import with_spark
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK, InputError
from twinrun.report.cells import NONE, THIN, instant, number
from twinrun.report.history import percent
from twinrun.results.verdict import ExpectationResult
from twinrun.session.settings import tables_size
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.results.ledger import History, VerifyPoint

commands = typer.Typer()
_SHOWN_VERIFIES = 10
_SHOWN_WINDOWS = 5
_COMMA = ","


@command(commands, "history", "twinrun history departures_per_hour --min-completeness 0.999")
def history(
    call: Call,
    name: JobName,
    since: Annotated[
        str | None,
        typer.Option(metavar="DAY|TIME", help="Only verifies made since this UTC day, or this time with its zone."),
    ] = None,
    min_completeness: Annotated[
        float | None,
        typer.Option(
            "--min-completeness", min=0, max=1, metavar="SHARE", help="Exit 1 if a smaller share of rows is equal."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write it as one HTML page, with a chart.")
    ] = None,
) -> int:
    """Say since when a job's results differ, how often and why; exit 1 if the last verify breaks a threshold."""
    cfg = call.config()
    job = job_named(cfg, name)
    since_ms = None if since is None else since_instant_ms(since)
    need_table(cfg, cfg.table("ledger"), fix=f"verify the job first: twinrun verify {job.job_name}")

    def work(spark: SparkSession, _: threading.Event) -> tuple[History, tuple[ExpectationResult, ...]]:
        from twinrun.history.history import check_thresholds
        from twinrun.history.history import history as run

        with step(call.out, f"history {job.job_name}") as say:
            found = run(spark, cfg, job.job_name, since_ms)
            say("checking thresholds")
            return found, check_thresholds(spark, cfg, job.job_name, min_completeness)

    found, checks = with_spark(cfg, f"history {job.job_name}", work, size=tables_size([cfg.table("ledger")]))
    found = replace(found, min_completeness=min_completeness)
    if html is not None:
        # Charts and templates take a second to load: only what renders pays for it.
        from twinrun.report.write import write_history

        write_history(found, job.window_ms if job.windowed else None, html)
    code = EXIT_OK if all(check.success for check in checks) else EXIT_DIFFERENT
    call.out.result(history_payload(found, checks, code), [*history_lines(found), *_check_lines(checks, code)])
    return code


def since_instant_ms(text: str) -> int:
    """A day (its first instant in UTC) or a time with a zone, as epoch milliseconds.

    Raises
    ------
    InputError
        It is neither.
    """
    try:
        at = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        try:
            at = instant_of(text, "--since")
        except InputError as error:
            raise InputError(
                error.found, expected="a day such as 2013-01-06, or a time such as 2013-01-06T14:00:00Z"
            ) from None
    return int(at.timestamp() * 1000)


def history_payload(found: History, checks: tuple[ExpectationResult, ...], exit_code: int) -> dict[str, Any]:
    """The JSON form; each verify with its completeness."""
    document = asdict(found)
    for values, point in zip(document["verifies"], found.verifies, strict=True):
        values["completeness"] = point.completeness
    return {"exit_code": exit_code, **document, "checks": [asdict(check) for check in checks]}


def history_lines(found: History) -> list[str]:
    """The history as a few small tables, newest first."""
    noun = "verify" if found.verifies_total == 1 else "verifies"
    lines = [f"{found.job}: {number(found.verifies_total, _COMMA)} {noun}, {_now(found)}"]
    shown = found.verifies[-_SHOWN_VERIFIES:]
    head = ("verified (UTC)", "micro-batch", "compared", "equal", "explained", "unexplained", "pending", "complete")
    lines += ["", *columns([head, *[_verify_cells(point) for point in reversed(shown)]])]
    if found.causes:
        causes = [
            (
                cause.cause,
                number(cause.rows_now, _COMMA),
                f"{cause.verifies} of {found.verifies_total}",
                instant(cause.first_seen_ms),
                instant(cause.last_seen_ms),
                str(cause.trend.direction),
            )
            for cause in found.causes
        ]
        lines += ["", *columns([("cause", "rows now", "verifies", "first seen", "last seen", "trend"), *causes])]
    if found.windows and found.windows[0].window_start_ms is not None:
        rows = [
            (
                instant(window.window_start_ms),
                instant(window.first_seen_ms),
                f"{window.verifies} of {found.verifies_total}",
                window.verdict if window.still else f"{window.verdict} until {instant(window.last_seen_ms)}",
                ", ".join(sorted(window.causes)) or NONE,
            )
            for window in found.windows[:_SHOWN_WINDOWS]
        ]
        lines += ["", *columns([("window (UTC)", "differs since", "verifies", "verdict", "causes"), *rows])]
        if found.windows_total > _SHOWN_WINDOWS:
            lines.append(f"  and {plural(found.windows_total - _SHOWN_WINDOWS, 'more window')}; see --json")
    return lines


def _now(found: History) -> str:
    if found.differs_since_ms is None:
        return "the last one found no difference"
    return f"the results differ since {instant(found.differs_since_ms)} UTC"


def _verify_cells(point: VerifyPoint) -> tuple[str, ...]:
    counts = (
        point.rows_compared,
        point.rows_equal,
        point.rows_explained,
        point.rows_unexplained,
        point.rows_pending,
    )
    complete = percent(point.completeness).replace(THIN, " ")
    return (instant(point.at_ms), str(point.micro_batch), *(number(count, _COMMA) for count in counts), complete)


def _check_lines(checks: tuple[ExpectationResult, ...], code: int) -> list[str]:
    lines = [f"  {'ok    ' if check.success else 'FAILED'} {check.expectation}: {check.observed}" for check in checks]
    return ["", *lines, *(["  thresholds are broken (exit code 1)"] if code else [])]
