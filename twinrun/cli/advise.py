"""``twinrun advise``: which mode to run, by what was measured. Needs no Spark."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named
from twinrun.cli.measure import measurement_folder, versions_of
from twinrun.cli.output import columns
from twinrun.cli.runs import JobName
from twinrun.errors import EXIT_DIFFERENT, EXIT_OK

if TYPE_CHECKING:
    from twinrun.measure.advise import Advice, Candidate

commands = typer.Typer()
_SHOWN = 8


@command(commands, "advise", "twinrun advise departures_per_hour --freshness 5m --completeness 99.9%")
def advise(
    call: Call,
    name: JobName,
    freshness: Annotated[
        str | None, typer.Option("--freshness", metavar="DURATION", help="p99 from event to readable, such as 5m.")
    ] = None,
    completeness: Annotated[
        str | None, typer.Option("--completeness", metavar="SHARE", help="Least share of events in the result: 99.9%.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option("--budget", metavar="N/day", help="Most that a day may cost, such as 20/day.")
    ] = None,
    price: Annotated[
        float | None, typer.Option("--price-per-core-hour", min=0, help="In the currency of the budget.")
    ] = None,
    rate: Annotated[
        str | None, typer.Option("--rate", metavar="N/s", help="Events per second, such as 2000/s. [default: measured]")
    ] = None,
    growth: Annotated[
        str | None, typer.Option("--growth", metavar="Nx", help="Hold it at so many times the rate, such as 10x.")
    ] = None,
) -> int:
    """Say which mode, trigger or cadence meets what is asked for at the least cost; exit 1 where nothing does.

    Goes by the last `twinrun measure` of the job on this machine.
    """
    from twinrun.measure.advise import advise as run
    from twinrun.measure.advise import check_same, parse_slo
    from twinrun.measure.model import held_out
    from twinrun.measure.results import read_measurement
    from twinrun.measure.usage import machine

    slo = parse_slo(freshness, completeness, budget, rate, growth)
    cfg = call.config()
    job = job_named(cfg, name)
    measured = read_measurement(measurement_folder(cfg, job.job_name) / "measure.json", job.job_name)
    check_same(measured, machine(), versions_of(job))
    found = run(measured, slo, price)
    errors = [{**vars(each), "error": each.error} for each in held_out(measured)]
    call.out.result({**found.to_dict(), "held_out": errors}, lines(found))
    return EXIT_OK if found.best else EXIT_DIFFERENT


def lines(found: Advice) -> list[str]:
    """The answer, why, and the candidates; every figure with the arms that it comes from."""
    from twinrun.measure.advise import seconds

    told = [f"{found.job} at {found.rate_per_s:,.0f} events/s: {found.sentence}"]
    chosen = found.best or found.nearest
    if chosen is not None:
        told.append(f"  p99 freshness  {seconds(chosen.p99_s)}{_margin(found, chosen)}")
        if chosen.watermark_s:
            told.append(f"                 {seconds(chosen.watermark_s)} of it wait for the watermark")
        complete = "not known" if chosen.completeness is None else f"at least {chosen.completeness:.2%}"
        told.append(f"  completeness   {complete}")
        told.append(f"  cost           {_cost(chosen)}{_busy(chosen)}")
        told.append(f"  known from     {', '.join(chosen.arms)}")
    if found.runner_up is not None:
        told.append(f"  runner-up      {found.runner_up.name}: {found.why_lost}")
        told.append(f"                 known from {', '.join(found.runner_up.arms)}")
    told += [f"  note           {note}" for note in found.notes]
    rows = [("candidate", "p99", "complete", "core hours/day", "extrapolated", "misses")]
    for each in found.candidates[:_SHOWN]:
        complete = "-" if each.completeness is None else f"{each.completeness:.2%}"
        far = "yes" if each.extrapolated else "no"
        missed = "; ".join(each.misses) or "-"
        rows.append((each.name, seconds(each.p99_s), complete, f"{each.core_hours:,.1f}", far, missed))
    return [*told, *columns(rows)]


def _margin(found: Advice, chosen: Candidate) -> str:
    asked = found.slo.freshness_s
    if asked is None or chosen.p99_s > asked:
        return ""
    return f", {1 - chosen.p99_s / asked:.0%} below what was asked for"


def _busy(chosen: Candidate) -> str:
    return f", {chosen.busy_cores:.2f} cores busy on average" if math.isfinite(chosen.busy_cores) else ""


def _cost(chosen: Candidate) -> str:
    price = "" if chosen.cost is None else f", {chosen.cost:,.2f}"
    return f"{chosen.core_hours:,.1f} core hours a day{price}"
