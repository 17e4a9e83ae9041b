"""A scenario's plan as JSON values, and its two files: the log that ``twinrun produce`` sends, and the plan."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from pathlib import Path
from typing import Any

from twinrun.errors import InputError
from twinrun.scenario.encode import KNOWN_FIELD, TO_FIELD
from twinrun.scenario.expect import Expectation, expect
from twinrun.scenario.faults import sink_faults
from twinrun.scenario.model import Scenario
from twinrun.scenario.plants import KINDS

PLAN_VERSION = 1
"""Version of the JSON form of a plan; raised when a field changes its meaning or goes."""


def log_bytes(scenario: Scenario) -> bytes:
    """The log as JSON lines; a broken record is a line like any other."""
    return b"".join(line.value + b"\n" for line in scenario.lines)


def reproducer(scenario: Scenario, place: list[str]) -> str:
    """The one line that makes the same bytes and the same plan again.

    Parameters
    ----------
    place : list of str
        The options that name the job or shape.
    """
    words = ["twinrun", "scenario", scenario.name, "--seed", str(scenario.seed), *place]
    words += [word for plant in scenario.plants for word in ("--plant", str(plant))]
    words += ["--size", str(scenario.size), "--micro-batches", str(scenario.timeline.micro_batches)]
    return shlex.join(words)


def plan_of(scenario: Scenario, place: list[str]) -> dict[str, Any]:
    """What is planted and what a verify must find, in counts; instants are UTC epoch milliseconds."""
    expected = expectation_of(scenario)
    return {
        "plan_version": PLAN_VERSION,
        "scenario": scenario.name,
        "seed": scenario.seed,
        "job": scenario.contract.name,
        "shape": scenario.contract.shape,
        "records": len(scenario.lines),
        "records_per_micro_batch": scenario.size,
        "micro_batches": scenario.timeline.micro_batches,
        "partitions": scenario.partitions,
        "sha256": hashlib.sha256(log_bytes(scenario)).hexdigest(),
        "reproducer": reproducer(scenario, place),
        "key_field": TO_FIELD,
        "time_field": KNOWN_FIELD,
        "planted": [
            {
                "kind": plant.kind,
                "variant": plant.variant or None,
                "count": plant.count,
                "counts": KINDS[plant.kind].counts,
                "leads_to": KINDS[plant.kind].leads_to,
            }
            for plant in scenario.plants
        ],
        "expected": expected.to_dict(),
    }


def expectation_of(scenario: Scenario) -> Expectation:
    """What the scenario alone must lead to in its own job."""
    return expect(scenario.both, [scenario], scenario.contract, scenario.second)[scenario.prefix]


def details_of(scenario: Scenario) -> dict[str, Any]:
    """Every row, event and record that the plan is about, for a program that checks them."""
    expected = expectation_of(scenario)
    return {
        "watermarks": [
            {"micro_batch": number, "newest_ms": newest, "dropping_ms": scenario.timeline.dropping_ms(number)}
            for number, newest in enumerate(scenario.timeline.newest_ms)
        ],
        "rows": [
            {"key": key, "window_start_ms": start, "kind": row.kind, "cause": cause, "events": events}
            for (key, start), row in sorted(expected.rows.items(), key=lambda each: (each[0][1] or 0, each[0][0]))
            for cause, events in row.causes.items()
        ],
        "late": [{"id": name, "window_start_ms": start} for name, start in sorted(expected.late_pairs, key=str)],
        "quarantined": [{"place": place, "rule": rule} for place, rule in sorted(expected.quarantined.items())],
        "duplicates": dict(sorted(expected.duplicates.items())),
        "empty_windows_ms": list(scenario.gaps),
        "change_in_the_streams_table": [
            {"kind": fault.kind, "key": fault.row[0], "window_start_ms": fault.row[1]}
            for fault in sink_faults(scenario, scenario.contract)
        ],
        "change_in_the_static_table": list(scenario.static_keys),
    }


def plan_file(log: Path) -> Path:
    """Where the plan of a log stands: beside it."""
    return log.with_suffix(".plan.json")


def write_files(scenario: Scenario, place: list[str], log: Path) -> None:
    """Write the log and, beside it, its plan. Both are whole or not there.

    Raises
    ------
    InputError
        The folder is not there, or the name is that of a plan or a folder.
    """
    if not log.parent.is_dir():
        raise InputError(f"there is no folder {log.parent}.", fix="make it first")
    if log.is_dir() or plan_file(log) == log:
        raise InputError(f"{log} cannot be the file of a log.", expected="a file such as late.jsonl")
    plan = {**plan_of(scenario, place), **details_of(scenario)}
    files = {log: log_bytes(scenario), plan_file(log): (json.dumps(plan, indent=1) + "\n").encode()}
    unfinished = {path: path.with_name(f".{path.name}.unfinished") for path in files}
    try:
        for path, content in files.items():
            unfinished[path].write_bytes(content)
        for path, made in unfinished.items():
            os.replace(made, path)
    finally:
        for made in unfinished.values():
            made.unlink(missing_ok=True)
