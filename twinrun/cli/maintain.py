"""``twinrun maintain``: compact tables and remove files that nobody needs; retention; erasure."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import need_table
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.session import with_spark
from twinrun.config.layout import Layout
from twinrun.config.model import Config
from twinrun.config.nearest import listed, nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.report.cells import number, plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.maintain.result import TableTidy, Tidied

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

    def work(spark: SparkSession, _: threading.Event) -> Tidied:
        from twinrun.maintain.tidy import tidy as run

        with step(call.out, "maintain tidy") as say:
            return run(spark, cfg, apply=apply, only=tuple(table or ()), on_table=say)

    done = with_spark(cfg, "maintain tidy", work)
    call.out.result({**asdict(done)}, tidy_lines(done))
    return EXIT_OK


def tidy_lines(done: Tidied) -> list[str]:
    """A line per table: files in use and stored, what goes or went, what stays and why."""
    head = ("table", "files", "stored", "compacted", "removed") if done.applied else ("table", "files", "stored", "old")
    rows = [(*head, "kept for")]
    for each in done.tables:
        counts = (each.compacted, each.removed) if done.applied else (each.removable,)
        cells = [number(each.files, _COMMA), f"{number(each.stored, _COMMA)} ({_size(each.stored_bytes)})"]
        cells += ["-" if count is None else number(count, _COMMA) for count in counts]
        rows.append((each.table, *cells, _kept(each)))
    lines = [plural(len(done.tables), "table", _COMMA), *columns(rows)]
    lines += [f"  left alone  {each.ref}: {each.left_alone}" for each in done.tables if each.left_alone]
    lines += [f"  no compaction of {each.ref}: {each.note}" for each in done.tables if each.note]
    if not done.applied:
        lines.append("  nothing was changed; to do it: twinrun maintain tidy --apply")
    return lines


def _kept(each: TableTidy) -> str:
    return "; ".join(f"version {pin.version}: {pin.why}" for pin in each.pins[:3]) + (
        f"; and {plural(len(each.pins) - 3, 'more version', _COMMA)}" if len(each.pins) > 3 else ""
    )


def _size(count: float) -> str:
    units = ("B", "kB", "MB", "GB", "TB")
    place = 0
    while count >= 1000 and place < len(units) - 1:
        count, place = count / 1000, place + 1
    return f"{count:.0f} {units[place]}" if place == 0 else f"{count:.1f} {units[place]}"


def _need_warehouse(cfg: Config) -> None:
    need_table(cfg, cfg.table("control"), fix="correct warehouse in the configuration, or run the jobs first")
