"""``twinrun scenario``: a log with planted faults, and what a verify must say about it, known in advance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from twinrun.cli.call import Call, command
from twinrun.cli.inputs import job_named
from twinrun.cli.output import columns
from twinrun.config.problems import nearest
from twinrun.errors import EXIT_OK, InputError
from twinrun.scenario.contract import BUILT_IN, Contract, contract_of
from twinrun.scenario.encode import KNOWN_FIELD, TO_FIELD
from twinrun.scenario.expect import MAY_BE_PROVEN
from twinrun.scenario.generate import MICRO_BATCHES, SIZE, generate
from twinrun.scenario.plan import plan_file, plan_of, write_files
from twinrun.scenario.plants import MIXED, PRESETS, SINK, parse_plants, preset
from twinrun.wording import plural

commands = typer.Typer()
_SHAPE = "tumbling"


@command(commands, "scenario", "twinrun scenario late_tail --seed 7 --plant late=12 --out late.jsonl")
def scenario(
    call: Call,
    name: Annotated[str, typer.Argument(help=f"One of: {', '.join((*PRESETS, MIXED))} (drawn from the seed).")],
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes on any machine.")] = 1,
    plant: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND[:VARIANT]=COUNT", help="Plant this, and only what is named; may be repeated."),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Make records and plan for this job of the configuration.")] = None,
    shape: Annotated[
        str | None, typer.Option(help=f"Without a job: {', '.join(BUILT_IN)}. [default: {_SHAPE}]")
    ] = None,
    size: Annotated[int, typer.Option(help="Records per micro-batch.")] = SIZE,
    micro_batches: Annotated[int, typer.Option(help="How many micro-batches.")] = MICRO_BATCHES,
    out: Annotated[Path | None, typer.Option(help="Write the log here, and its plan beside it (.plan.json).")] = None,
) -> int:
    """Plan a seeded log with planted faults: what is planted, the causes that a verify must find, and their counts."""
    contract, place = _contract(call, job, shape)
    if name != MIXED:
        preset(name)
    plants = parse_plants(plant) if plant else None
    made = generate(name, seed, contract, plants, size=size, micro_batches=micro_batches)
    if made.behind:
        raise InputError(
            "read_late needs a second partition that is read behind the first, and this command makes one log only.",
            fix="leave the plant out; make scenarios makes and runs such logs",
        )
    plan = plan_of(made, place)
    if out is not None:
        write_files(made, place, out)
        plan |= {"file": str(out), "plan_file": str(plan_file(out))}
    call.out.result(plan, _lines(plan))
    return EXIT_OK


def _contract(call: Call, job: str | None, shape: str | None) -> tuple[Contract, list[str]]:
    """What to plan for, and the options that say so."""
    if job is not None and shape is not None:
        raise InputError("--job and --shape exclude each other.", fix="leave one out")
    if job is not None:
        conf = [] if call.conf is None else ["--conf", str(call.conf)]
        return contract_of(job_named(call.config(), job)), ["--job", job, *conf]
    name = shape or _SHAPE
    if name not in BUILT_IN:
        match = nearest(name, BUILT_IN)
        raise InputError(
            f"there is no shape {name!r}.",
            expected=f"one of {', '.join(BUILT_IN)}",
            fix=f"write {match}" if match else "",
        )
    return BUILT_IN[name], ["--shape", name]


def _lines(plan: dict[str, Any]) -> list[str]:
    """The plan for people."""
    lines = [
        f"{plan['scenario']}, seed {plan['seed']}, for {plan['job']} ({plan['shape']}): "
        f"{plural(plan['records'], 'record')} in {plural(plan['micro_batches'], 'micro-batch')} of "
        f"{plan['records_per_micro_batch']}",
        "planted" if plan["planted"] else "planted: nothing",
        *columns([_planted(each) for each in plan["planted"]]),
        "a verify must find",
        *columns(_expected(plan["expected"])),
    ]
    if "file" in plan:
        broken = any(each["kind"] in ("poison", "schema_change") for each in plan["planted"])
        topic = f"a topic of {plural(plan['partitions'], 'partition')}" if not broken else "a topic of one partition"
        lines += [
            f"written: {plan['file']}, {plan['plan_file']}",
            f"send it to {topic if plan['partitions'] > 1 or broken else 'an empty topic'}, and read it with "
            f"--set stream.max_offsets_per_trigger={plan['records_per_micro_batch']}:",
            f"  twinrun produce --file {plan['file']} --topic TOPIC --key-field {TO_FIELD} --time-field {KNOWN_FIELD}",
        ]
    return [*lines, f"again: {plan['reproducer']}"]


def _planted(each: dict[str, Any]) -> tuple[str, str, str, str]:
    name = each["kind"] + (f":{each['variant']}" if each["variant"] else "")
    return name, str(each["count"]), each["counts"], f"-> {each['leads_to']}"


def _expected(expected: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [(cause, _counts(cause, counts)) for cause, counts in expected["causes"].items()]
    rows.append(("rows that differ", str(expected["differing_rows"])))
    rows.append(("unexplained rows", _unexplained(expected)))
    if expected["quarantined"]:
        rows.append(("quarantined", ", ".join(f"{rule} {count}" for rule, count in expected["quarantined"].items())))
    if expected["duplicate_ids"]:
        rows.append(("duplicate ids", str(expected["duplicate_ids"])))
    if expected["late_events_filtered_away"]:
        rows.append(("late, filtered away", str(expected["late_events_filtered_away"])))
    return rows


def _counts(cause: str, counts: dict[str, int]) -> str:
    if cause in SINK:
        own = MAY_BE_PROVEN.get(cause)
        return f"rows: {counts['rows']}, unexplained" + (f" or proven to be {own}" if own else "")
    return ", ".join(f"{what.replace('_', ' ')}: {count}" for what, count in counts.items())


def _unexplained(expected: dict[str, Any]) -> str:
    certain = sum(
        counts["rows"] for cause, counts in expected["causes"].items() if cause in SINK.keys() - MAY_BE_PROVEN
    )
    most = expected["unexplained_rows"]
    return str(most) if certain == most else f"{certain} to {most}"
