"""A measurement as a page, as Markdown and as JSON: every arm with its figures, or with the verdict in their place."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from twinrun.durations import human
from twinrun.measure import charts
from twinrun.measure.arms import REAL_TIME
from twinrun.measure.day import day_of
from twinrun.measure.model import held_out
from twinrun.measure.results import Lateness, Measurement, Result, estimate
from twinrun.report.cells import NONE, instant
from twinrun.report.charts import Picture, Words
from twinrun.report.html import csp_hash, environment, style
from twinrun.report.markdown import escape
from twinrun.report.neutral import shorten, visible
from twinrun.report.sections import Cell, Grid, Section, row
from twinrun.report.write import write_files
from twinrun.wording import plural

_HEAD = ("arm", "p50", "p95", "p99", "max", "CPU s/M", "memory", "complete", "verdict")
_MODE_WORDS = {
    "real-time": "by Spark's real-time trigger, into a topic",
    "stream": "a stream that stays up",
    "stream-over-bronze": "an ingest and a stream over its table, both stay up",
    "available-now": "a stream started again and again",
    "batch": "ingest and batch, again and again",
}


def write_page(
    measured: Measurement, folder: Path, slo_s: float | None = None, price: float | None = None
) -> dict[str, str]:
    """Write ``measure.html``, ``measure.md`` and ``measure.json``; gives their paths by kind. No Spark job.

    Raises
    ------
    MachineError
        They cannot be written.
    """
    texts = {
        "measure.json": json.dumps(measured.to_dict(), indent=1, allow_nan=False) + "\n",
        "measure.md": render_markdown(measured, price),
        "measure.html": render_html(measured, slo_s, price),
    }
    write_files(folder, texts)
    kinds = {"html": "measure.html", "json": "measure.json", "markdown": "measure.md"}
    return {kind: str(folder / name) for kind, name in kinds.items()}


def table_of(measured: Measurement) -> list[tuple[str, ...]]:
    """The arms as a table of texts, its head first; in place of figures stands why there are none."""
    return [_HEAD, *(_line(measured, arm_results) for arm_results in _by_arm(measured))]


def render_html(measured: Measurement, slo_s: float | None = None, price: float | None = None) -> str:
    """One page that needs no other file and no network, light and dark; text from data is shown as text."""
    css = style()
    template = files("twinrun.measure").joinpath("templates", "measure.html.j2").read_text(encoding="utf-8")
    return environment().from_string(template).render(
        job=visible(measured.job),
        when=_when(measured),
        sections=sections(measured, slo_s, price),
        pictures=_pictures(measured, slo_s),
        css=Markup(css),  # our own file, no data in it
        css_hash=csp_hash(css),
    )  # fmt: skip


def render_markdown(measured: Measurement, price: float | None = None) -> str:
    """The same without its charts. Ends in a line feed."""
    parts = [f"# {escape(visible(measured.job))}: measured", "", escape(_when(measured)), ""]
    for section in sections(measured, None, price):
        parts += [f"## {section.title}", ""]
        parts += [escape(section.empty or section.intro), ""] if section.empty or section.intro else []
        for grid in () if section.empty else section.grids:
            parts += [f"**{escape(grid.caption)}**", ""] if len(section.grids) > 1 else []
            parts += ["| " + " | ".join(escape(name) for name in grid.head) + " |", "|---" * len(grid.head) + "|"]
            parts += ["| " + " | ".join(escape(cell.text) for cell in line) + " |" for line in grid.rows] + [""]
        parts += [f"- {escape(note)}" for note in section.notes] + ([""] if section.notes else [])
    return "\n".join(parts).rstrip() + "\n"


def sections(measured: Measurement, slo_s: float | None, price: float | None) -> list[Section]:
    """The chapters of the page; ``price`` is that of a core for an hour."""
    table = table_of(measured)
    there = {arm.mode for arm in measured.arms()}
    modes = tuple((role, f"{mode}: {_MODE_WORDS[mode]}") for mode, role in charts.MODE_ROLES.items() if mode in there)
    record = ", and in real time until the record" if REAL_TIME in there else ""
    box = f" The box is a freshness of {human(round(slo_s * 1000))}." if slo_s else ""
    figures = Grid("All arms", table[0], tuple(row(*cells) for cells in table[1:]), numeric=(1, 2, 3, 4, 5, 6, 7))
    found = [
        Section(
            "cost",
            "Freshness against cost",
            intro="Freshness is the time from when an event was due to be sent until the commit that first holds its "
            f"effect{record}. Cost is the CPU of Java and Python; the broker's and the producer's stand apart below. "
            f"The dashed line joins the arms that no other beats in both.{box}",
            chart="cost",
            legend=modes,
            grids=(figures,),
            notes=tuple(visible(note) for note in (*measured.notes, *measured.thrown_away)),
        ),
        Section(
            "time",
            "Where the time goes",
            intro="The watermark's wait lasts until an event was due by which the window could close; the trigger's "
            "until the micro-batch or run began that wrote it, with those before it; the rest is that one's own run.",
            chart="time",
            legend=tuple((role, part) for part, role in charts.PART_ROLES.items()),
            grids=(_parts_grid(measured), *_phases(measured)),
        ),
        Section(
            "cpu",
            "Where the CPU goes",
            chart="cpu",
            legend=tuple((role, who) for who, role in charts.CPU_ROLES.items()),
            grids=(_sizes_grid(measured),),
        ),
        Section("course", "Freshness over the run", chart="course", legend=modes),
        *_lateness(measured),
        _day(measured, price),
        *_limits(measured),
        _honesty(measured),
    ]
    return found


def _lateness(measured: Measurement) -> list[Section]:
    """Completeness against lateness, where one of the streams may drop something."""
    found = lateness_told(measured)
    if found is None:
        return []
    rows = []
    for point in found.points:
        (kept, kept_alone), alone = found.kept(point), point.lost_at_own_pace
        name = human(point.lateness_ms) + (" (as it is)" if point.lateness_ms == found.recorded_ms else "")
        own = (NONE, NONE) if alone is None else (f"{alone:,}", f"{kept_alone:.2%}")
        rows.append(row(name, f"{point.lost:,}", f"{kept:.2%}", *own))
    head = ("lateness", "lost", "complete", "lost at own pace, at most", "complete, at least")
    intro = (
        f"What {found.arm.name} would have lost of {plural(found.events, 'event')} at other latenesses (the dashed "
        "line is the job's own): in the micro-batches that it had under this load, and where events come at the pace "
        "of their own times and each is a micro-batch. An event that is dropped from one of its windows is lost."
    )
    legend = tuple((role, word) for word, role in charts.LATENESS_ROLES.items())
    grids = (Grid("Completeness by lateness", head, tuple(rows), numeric=(1, 2, 3, 4)),)
    title = "Completeness against lateness"
    return [Section("lateness", title, intro=intro, chart="lateness", legend=legend, grids=grids)]


def lateness_told(measured: Measurement) -> Lateness | None:
    """Of the repeat that was asked for it; None where none was, or the job drops nothing."""
    return next((each.lateness for each in measured.results if each.agreed and each.lateness), None)


def _day(measured: Measurement, price: float | None) -> Section:
    rows = []
    for arm in measured.arms():
        day = day_of(measured, arm)
        if day is not None:
            hours = [NONE if each is None else f"{each:,.1f}" for each in (day.up, day.per_run)]
            costs = [NONE if each is None else f"{each * (price or 0):,.2f}" for each in (day.up, day.per_run)]
            rows.append(row(arm.name, f"{day.busy_cores:.2f}", *hours, *(costs if price is not None else [])))
    head: tuple[str, ...] = ("arm", "busy cores", "core hours, up all day", "core hours, started per run")
    if price is not None:
        head = (*head, "cost, up all day", "cost, started per run")
    told = "" if price is None else f" A core costs {price:g} an hour."
    intro = (
        f"At {measured.rate_per_s:,.0f} events a second, with {plural(measured.cores, 'core')}. A machine that is "
        f"started per run pays the start of its session each time ({measured.session_s:.0f} s here).{told}"
    )
    empty = "" if rows else "No arm has figures."
    grids = (Grid("A day of each arm", head, tuple(rows), numeric=tuple(range(1, len(head)))),)
    return Section("day", "What a day takes", intro=intro, grids=grids, empty=empty)


def _limits(measured: Measurement) -> list[Section]:
    """What the search of the highest rate and a kill under load found; nothing where neither was asked for."""
    rates = tuple(
        row(
            each.arm.name,
            NONE if each.rate_per_s is None else f"{each.rate_per_s:,.0f}/s",
            NONE if each.failed_per_s is None else f"{each.failed_per_s:,.0f}/s",
            visible(each.why) or NONE,
            each.outcome,
        )
        for each in measured.sustained
    )
    probes = tuple(
        row(each.arm.name, f"{p.rate_per_s:,.0f}/s", f"{p.seconds:.0f} s", f"{p.growth:.0%}", "yes" if p.held else "no")
        for each in measured.sustained
        for p in each.probes
    )
    kills = tuple(
        row(
            each.arm.name,
            *[NONE if at is None else f"{at:.1f} s" for at in (each.running_s, each.fresh_again_s, each.before_s)],
            NONE if each.worked_twice is None else f"{each.worked_twice:,}",
            each.outcome if each.agreed else shorten(visible("; ".join(each.problems) or each.outcome), 160),
        )
        for each in measured.recoveries
    )
    found: list[Section] = []
    if rates:
        tried = Grid("Loads", ("arm", "rate", "for", "lag grew by", "held"), probes, numeric=(1, 2, 3))
        head: tuple[str, ...] = ("arm", "highest that held", "lowest that did not", "what ended the search", "verdict")
        intro = (
            "A stream keeps up with a rate where the tips of its lag do not grow, all is read soon after the load, and "
            "the producer was on time. How much the lag grew is per second, as a share of the rate."
        )
        grids = (Grid("Highest rate", head, rates, numeric=(1, 2)), tried)
        found.append(Section("limit", "The highest rate that is kept up with", intro=intro, grids=grids))
    if kills:
        head = ("arm", "first commit after", "fresh again after", "longest wait before", "worked twice, at most")
        intro = (
            "Halfway through the load the stream was killed with kill -9, Python and Java, and started again at once. "
            "Fresh again: the commit from which on no event waited longer for the trigger and its run than before."
        )
        killed = Grid("Kills", (*head, "verdict"), kills, numeric=(1, 2, 3, 4))
        found.append(Section("recovery", "After kill -9", intro=intro, grids=(killed,)))
    return found


def _honesty(measured: Measurement) -> Section:
    rows = tuple(
        row(each.arm, each.figure, f"{each.predicted:,.2f}", f"{each.measured:,.2f}", f"{each.error:.0%}")
        for each in held_out(measured)
    )
    head = ("arm", "figure", "predicted without it", "measured", "off by")
    intro = "Each of these arms was left out, and predicted from the others, as advise predicts what was not measured."
    grids = (Grid("Held out", head, rows, numeric=(2, 3, 4)),)
    empty = "" if rows else "No mode has three arms with figures: what advise predicts could not be checked here."
    return Section("honesty", "How far predictions are off", intro=intro, grids=grids, empty=empty)


def _by_arm(measured: Measurement) -> list[list[Result]]:
    return [measured.of(arm) for arm in measured.arms()]


def _line(measured: Measurement, results: list[Result]) -> tuple[str, ...]:
    agreed = [r for r in results if r.agreed]
    name = results[0].arm.name
    if not agreed:
        return (name, *[NONE] * 7, shorten(visible(results[0].why_not), 160))
    fresh = [r.freshness for r in agreed if r.freshness and r.freshness.total]
    figures = [NONE] * 4
    if fresh:
        totals = [each.total for each in fresh if each.total]
        figures = [in_seconds([getattr(t, at) for t in totals]) for at in ("p50", "p95", "p99", "max")]
    complete = min((c for r in agreed if (c := r.completeness) is not None), default=None)
    memory = f"{max(r.peak_memory_bytes for r in agreed) / 2**30:.1f} GiB"
    verdict = agreed[0].outcome if len(agreed) == len(results) else f"{len(agreed)} of {len(results)} agree"
    late = sum(r.overran for r in agreed)
    more = f"; {plural(late, 'run')} began late" if late else ""
    cpu = _told([r.cpu_s_per_million for r in agreed], 0)
    return (name, *figures, cpu, memory, NONE if complete is None else f"{complete:.2%}", verdict + more)


def _parts_grid(measured: Measurement) -> Grid:
    head = (
        "arm",
        "watermark p50",
        "trigger p50",
        "run p50",
        "trigger and run p99",
        "shown",
        "waiting",
        "lost",
        "lost at own pace, at most",
    )
    rows = []
    for each in measured.results:
        fresh = each.freshness
        if not each.agreed or fresh is None or fresh.total is None:
            continue
        parts = [fresh.watermark, fresh.trigger, fresh.run]
        cells = [in_seconds([part.p50]) for part in parts if part]
        both = in_seconds([fresh.machinery.p99]) if fresh.machinery else NONE
        alone = NONE if each.arm.mode == "batch" else f"{fresh.lost_at_own_pace or 0:,}"
        counts = (f"{fresh.shown:,}", f"{fresh.waiting:,}", f"{fresh.lost:,}", alone)
        rows.append(row(_name(measured, each), *cells, both, *counts))
    return Grid("Parts of freshness, and events", head, tuple(rows), numeric=tuple(range(1, 9)))


def _phases(measured: Measurement) -> list[Grid]:
    agreed = [r for r in measured.results if r.agreed and r.micro_batches and r.micro_batches.phases_ms]
    names = sorted({name for r in agreed if r.micro_batches for name in r.micro_batches.phases_ms})
    rows = []
    for each in agreed:
        did = each.micro_batches
        if did is not None:
            cells = [f"{did.phases_ms.get(name, 0.0):,.0f}" for name in names]
            rows.append(row(_name(measured, each), f"{did.phases_of} of {did.number}", *cells))
    if not rows:
        return []
    head = ("arm", "micro-batches seen", *names)
    return [
        Grid("Phases of a micro-batch with data, mean in ms", head, tuple(rows), numeric=tuple(range(1, len(head))))
    ]


def _sizes_grid(measured: Measurement) -> Grid:
    head = (
        "arm",
        "runs or micro-batches",
        "result files",
        "checkpoint files",
        "all bytes",
        "state rows",
        "state bytes",
        "others' share of cores",
    )
    rows = []
    for each in measured.results:
        if not each.agreed:
            continue
        number = f"{each.micro_batches.number if each.micro_batches else len(each.units):,}"
        number = NONE if each.arm.mode == REAL_TIME else number
        size = each.sizes
        state = [f"{size[name]:,}" if name in size else NONE for name in ("state_rows", "state_bytes")]
        files_of = [f"{size.get(name, 0):,}" for name in ("table_files", "checkpoint_files")]
        whole = size.get("all_bytes", 0) + size.get("checkpoint_bytes", 0)
        rows.append(row(_name(measured, each), number, *files_of, f"{whole:,}", *state, f"{each.others_share:.0%}"))
    return Grid("What an arm left behind", head, tuple(rows), numeric=tuple(range(1, 8)))


def _name(measured: Measurement, each: Result) -> Cell:
    several = len(measured.of(each.arm)) > 1
    return Cell(f"{each.arm.name} ({each.repeat + 1})" if several else each.arm.name)


def _told(values: list[float], digits: int = 2) -> str:
    found = estimate(values)
    half = "" if found.half is None else f" ± {found.half:,.{digits}f}"
    return f"{found.mean:,.{digits}f}{half}"


def in_seconds(values: list[float]) -> str:
    """Hundredths of a second; thousandths where all of it is a few of them."""
    return f"{_told(values, 3 if 0 < max(values) < 0.1 else 2)} s"


def _pictures(measured: Measurement, slo_s: float | None) -> dict[str, Picture]:
    if not any(r.agreed and r.freshness and r.freshness.total for r in measured.results):
        return {}
    alt, late = "The same figures stand in the table below.", lateness_told(measured)
    return {
        "cost": charts.cost_picture(measured, Words(f"Freshness against cost, a point per arm. {alt}", "", ""), slo_s),
        "time": charts.time_picture(measured, Words(f"Parts of freshness, a bar per arm. {alt}", "", "")),
        "cpu": charts.cpu_picture(measured, Words(f"CPU by process, a bar per arm. {alt}", "", "")),
        "course": charts.course_picture(measured, Words("p99 freshness over the run, a line per arm.", "", "")),
        **(
            {"lateness": charts.lateness_picture(late, Words(f"Completeness by lateness. {alt}", "", ""))}
            if late
            else {}
        ),
    }


def _when(measured: Measurement) -> str:
    about = measured.machine
    speed = f", {measured.speed:,.0f} times as fast as their own times" if measured.speed > 1.05 else ""
    return visible(
        f"Measured {instant(measured.at_ms)} UTC with {plural(measured.settings['events'], 'event')} at "
        f"{measured.rate_per_s:,.0f}/s{speed}, from {measured.events_from}. {plural(about['cores'], 'core')}, "
        f"{about['memory_gib']} GiB, {about['processor']}; twinrun {measured.versions.get('twinrun')}, "
        f"Spark {measured.versions.get('pyspark')}, Delta {measured.versions.get('delta-spark')}"
        f"{f', commit {measured.commit[:12]}' if measured.commit else ''}."
    )
