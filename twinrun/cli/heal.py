"""``twinrun heal``: what a heal would change, the heal itself, and its undo."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named, need_table
from twinrun.cli.live import step
from twinrun.cli.output import columns
from twinrun.cli.runs import JobName
from twinrun.cli.session import job_size, with_spark
from twinrun.errors import EXIT_OK, InputError
from twinrun.report.cells import instant, number
from twinrun.wording import plural

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from twinrun.heal.plan import Healed, HealPlan, LeftAlone, Undone

commands = typer.Typer()
_SHOWN_WINDOWS = 10
_COMMA = ","


@command(commands, "heal", "twinrun heal departures_per_hour --apply")
def heal(
    call: Call,
    name: JobName,
    apply: Annotated[bool, typer.Option("--apply", help="Make the planned changes, in one transaction.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take the newest heal back.")] = False,
) -> int:
    """Show which proven rows of the stream's table would become the batch's; with --apply make them so."""
    if apply and undo:
        raise InputError("--apply and --undo exclude each other.", fix="give one of them")
    cfg = call.config()
    job = job_named(cfg, name)
    need_table(cfg, cfg.table("ledger"), fix=f"verify the job first: twinrun verify {job.job_name}")

    def work(spark: SparkSession, _: threading.Event) -> tuple[dict[str, Any], list[str]]:
        with step(call.out, f"heal {job.job_name}"):
            if undo:
                from twinrun.heal.write import undo_heal

                undone = undo_heal(spark, cfg, job)
                return {"undone": asdict(undone)}, undone_lines(undone)
            if apply:
                from twinrun.heal.heal import apply_heal

                plan, done = apply_heal(spark, cfg, job)
                return plan_payload(plan, done), [*plan_lines(plan), *applied_lines(plan, done)]
            from twinrun.heal.plan import plan_heal

            plan = plan_heal(spark, cfg, job)
            hint = [f"  nothing was changed; to do it: twinrun heal {job.job_name} --apply"] if plan.rows else []
            return plan_payload(plan, None), [*plan_lines(plan), *hint]

    payload, lines = with_spark(cfg, f"heal {job.job_name}", work, size=job_size(cfg, job))
    call.out.result(payload, lines)
    return EXIT_OK


def plan_payload(plan: HealPlan, done: Healed | None) -> dict[str, Any]:
    """The plan, and the heal where one was made, as JSON."""
    healed = None if done is None else {"id": done.id, "version": done.version, "at_ms": done.at_ms}
    return {"plan": asdict(plan), "healed": healed}


def plan_lines(plan: HealPlan) -> list[str]:
    """What would change, and what is left alone."""
    if plan.rows == 0:
        return [
            f"{plan.job}: nothing to heal in version {plan.stream_version} of the stream's table",
            *_left(plan.left),
        ]
    lines = [
        f"{plan.job}: {plural(plan.rows, 'row')} in {plural(plan.windows_total, 'window')}: "
        f"{number(plan.updated, _COMMA)} to change, {number(plan.inserted, _COMMA)} to insert, "
        f"{number(plan.deleted, _COMMA)} to remove",
        f"  stream  {plan.stream_table} version {plan.stream_version}",
        f"  batch   {plan.batch_table} version {plan.batch_version}, verify {plan.verify_id}",
    ]
    causes = [(cause.cause, plural(cause.rows, "row"), plural(cause.windows, "window")) for cause in plan.causes]
    lines += ["", *columns([("cause", "rows", "windows"), *causes])]
    shown = [window for window in plan.windows[:_SHOWN_WINDOWS] if window.window_start_ms is not None]
    if shown:
        rows = [(instant(w.window_start_ms), number(w.rows, _COMMA), ", ".join(w.causes)) for w in shown]
        lines += ["", *columns([("window (UTC)", "rows", "causes"), *rows])]
        if plan.windows_total > len(shown):
            lines.append(f"  and {plural(plan.windows_total - len(shown), 'more window')}; see --json")
    return [*lines, "", *_left(plan.left)]


def applied_lines(plan: HealPlan, done: Healed | None) -> list[str]:
    """What was done, and what comes next."""
    if done is None:
        return []
    return [
        f"  healed by {done.id}: version {done.version} of the stream's table",
        f"  next: twinrun verify {plan.job} (to take it back: twinrun heal {plan.job} --undo)",
    ]


def undone_lines(undone: Undone) -> list[str]:
    """What an undo did."""
    older = f"; {plural(undone.still_standing, 'older heal')} left" if undone.still_standing else ""
    return [
        f"{undone.job}: heal {undone.id} was taken back, {plural(undone.rows, 'row')}: "
        f"version {undone.version} of the stream's table{older}",
        f"  next: twinrun verify {undone.job}",
    ]


def _left(left: LeftAlone) -> list[str]:
    reasons = (
        (left.unexplained, "unexplained: nobody knows which side is right"),
        (left.evidence_expired, "without evidence any more (evidence_expired)"),
        (left.not_final, "proven, but the stream could still write them, or neither side is better"),
    )
    return [f"  left alone: {plural(count, 'row')} {why}" for count, why in reasons if count]
