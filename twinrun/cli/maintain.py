"""``twinrun maintain``: compact tables and remove files that nobody needs; retention; erasure."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import need_table, sources_named
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.session import with_spark
from twinrun.config.model import Config, Layout
from twinrun.config.problems import listed, nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.job.loader import list_jobs
from twinrun.report.cells import instant, number
from twinrun.results.records import Say
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.maintain.result import Erased, Expired, TableTidy, Tidied

commands = typer.Typer()
_COMMA = ","
Apply = Annotated[bool, typer.Option("--apply", help="Do it; without this nothing is changed.")]


@command(commands, "tidy", "twinrun maintain tidy --apply")
def tidy(
    call: Call,
    apply: Apply = False,
    table: Annotated[
        list[str] | None,
        typer.Option("--table", metavar="NAME", help="Only tables of this name in layout; may be repeated."),
    ] = None,
) -> int:
    """Show what compaction and the removal of old files would do to each table; with --apply do it."""
    for name in table or ():
        if name not in Layout.model_fields:
            match = nearest(name, Layout.model_fields)
            raise InputError(
                f"there is no table {name!r}.",
                expected=f"one of {listed(Layout.model_fields)}",
                fix=f"write {match}" if match else "",
            )
    cfg = call.config()
    _need_warehouse(cfg)

    def work(spark: SparkSession, stop: threading.Event) -> Tidied:
        from twinrun.maintain.tidy import tidy as run

        with step(call.out, "maintain tidy") as say:
            return run(spark, cfg, apply=apply, only=tuple(table or ()), on_table=_telling(call, say, apply, stop))

    done = with_spark(cfg, "maintain tidy", work)
    call.out.result({**asdict(done)}, tidy_lines(done))
    return EXIT_OK


@command(commands, "expire", "twinrun maintain expire --keep-days 90 --apply")
def expire(
    call: Call,
    keep_days: Annotated[int, typer.Option("--keep-days", min=1, metavar="DAYS", help="What is older goes.")],
    apply: Apply = False,
) -> int:
    """Show which records, verifies and log entries are older than a limit; with --apply remove them."""
    cfg = call.config()
    _need_warehouse(cfg)
    files = list_jobs(cfg)
    broken = [file.error for file in files if file.job is None]
    if broken:
        raise InputError(f"a job of {cfg.file} cannot be read: {broken[0]}", fix="correct it: what it needs is kept")
    jobs = [file.job for file in files if file.job is not None]

    def work(spark: SparkSession, stop: threading.Event) -> Expired:
        from twinrun.maintain.expire import expire as run

        with step(call.out, "maintain expire") as say:
            return run(spark, cfg, jobs, keep_days, apply=apply, on_step=_telling(call, say, apply, stop))

    done = with_spark(cfg, "maintain expire", work)
    call.out.result({**asdict(done)}, expire_lines(done))
    return EXIT_OK


def expire_lines(done: Expired) -> list[str]:
    """A line per table, and what stays because somebody needs it."""
    word = "removed" if done.applied else "older"
    rows = [(each.table, number(each.rows, _COMMA), each.ref) for each in done.removals if not each.held]
    lines = [f"before {instant(done.before_ms)} UTC", *columns([("table", word, "at"), *rows])]
    lines += [f"  kept  {each.ref}: {each.held}" for each in done.removals if each.held]
    if done.applied:
        return [*lines, "  the files go with a later: twinrun maintain tidy --apply"]
    if any(each.rows for each in done.removals):
        again = f"twinrun maintain expire --keep-days {done.keep_days} --apply"
        lines.append(f"  nothing was changed; heal what should be healed first, then: {again}")
    return lines


@command(commands, "erase", "twinrun maintain erase flights --key flight_id=N14228-2013-01-06 --apply")
def erase(
    call: Call,
    name: Annotated[str, typer.Argument(metavar="SOURCE", help="A source, or a job that has one.")],
    key: Annotated[str, typer.Option("--key", metavar="FIELD=VALUE", help="Whose records go.")],
    results: Annotated[
        bool, typer.Option("--results", help="Also result rows that have the value in a column of that name.")
    ] = False,
    apply: Apply = False,
) -> int:
    """Count the records of one key in every table; with --apply erase them, on record by place and not by value."""
    field, equals, value = key.partition("=")
    if not (field and equals and value):
        raise InputError("--key is no field and value.", expected="such as --key flight_id=17")
    cfg = call.config()
    sources = sources_named(cfg, name)
    if len(sources) > 1:
        raise InputError(f"{name} has {len(sources)} sources.", fix="name one of them")
    _need_warehouse(cfg)

    def work(spark: SparkSession, stop: threading.Event) -> Erased:
        from twinrun.maintain.erase import erase as run

        with step(call.out, "maintain erase") as say:
            tell = _telling(call, say, apply, stop)
            return run(spark, cfg, sources[0], field, value, results=results, apply=apply, on_step=tell)

    done = with_spark(cfg, "maintain erase", work)
    call.out.result({**asdict(done)}, erase_lines(done))
    return EXIT_OK


def erase_lines(done: Erased) -> list[str]:
    """A line per table, and what comes next; the value is never shown."""
    word = "erased" if done.applied else "found"
    rows = [(each.table, number(each.rows, _COMMA), each.ref) for each in done.removals]
    lines = [f"{done.source}: one value of {done.field}", *columns([("table", word, "at"), *rows])]
    if done.applied:
        return [
            *lines,
            f"  on record as erasure {done.id}; the files go with: twinrun maintain tidy --apply,",
            "  once each table's own retention has passed (7 days where it says nothing)",
        ]
    return [*lines, "  nothing was changed; to do it, give --apply"]


def tidy_lines(done: Tidied) -> list[str]:
    """A line per table: files in use and stored, what goes or went, what stays and why."""
    head = ("table", "files", "stored", "compacted", "removed") if done.applied else ("table", "files", "stored", "old")
    rows = [(*head, "kept for")]
    for each in done.tables:
        counts = (each.compacted, each.removed) if done.applied else (each.removable,)
        cells = [number(each.files, _COMMA), f"{number(each.stored, _COMMA)} ({_size(each.stored_bytes)})"]
        cells += ["-" if count is None else number(count, _COMMA) for count in counts]
        rows.append((each.table, *cells, _kept(each)))
    lines = [plural(len(done.tables), "table"), *columns(rows)]
    lines += [f"  left alone  {each.ref}: {each.left_alone}" for each in done.tables if each.left_alone]
    lines += [f"  no compaction of {each.ref}: {each.note}" for each in done.tables if each.note]
    gone = [(each.ref, pin) for each in done.tables for pin in each.lost]
    lines += [f"  no longer in the log of {ref}: version {pin.version} ({pin.why})" for ref, pin in gone]
    if not done.applied:
        lines.append("  nothing was changed; to do it: twinrun maintain tidy --apply")
    return lines


def _kept(each: TableTidy) -> str:
    return "; ".join(f"version {pin.version}: {pin.why}" for pin in each.pins[:3]) + (
        f"; and {plural(len(each.pins) - 3, 'more version')}" if len(each.pins) > 3 else ""
    )


def _size(count: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB")
    place = 0
    while count >= 1000 and place < len(units) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.0f} {units[place]}" if place == 0 else f"{count:.1f} {units[place]}"


def _telling(call: Call, say: Say, apply: bool, stop: threading.Event) -> Say:
    """Also a line on standard error for each step that changes tables: it may run for long, and without a terminal.

    After a signal no further step is begun: a table whose work was cut off was not left alone, and the next is not its
    turn.
    """

    def tell(text: str) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        say(text)
        if apply:
            call.out.note(text)

    return tell


def _need_warehouse(cfg: Config) -> None:
    need_table(cfg, cfg.table("control"), fix="correct warehouse in the configuration, or run the jobs first")
