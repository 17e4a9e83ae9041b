"""The same seed gives the same bytes: on any machine, in any order of calls, and through a file."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.scenario.oracle import ONLY_IN
from twinrun.produce.records import file_records
from twinrun.scenario.contract import BUILT_IN
from twinrun.scenario.counter import Draws
from twinrun.scenario.encode import KNOWN_FIELD, TO_FIELD
from twinrun.scenario.generate import generate
from twinrun.scenario.plan import log_bytes, plan_file, write_files
from twinrun.scenario.plants import MIXED, PRESETS
from twinrun.scenario.suite import suite_of

GOLDEN = {
    ("everything", 7, "tumbling"): "34d55f24c702bd1e64266c01468ee75b940c9ec8793973e3f2d97c1b0e5528fb",
    ("late_edge", 12_345, "sliding"): "9522f43a73f78f4612710f2ff0cb6da66ea618f401d6bc8a1fa4bb5cfd9cad3a",
    (MIXED, 2**63 - 1, "stateless"): "e1a2505fc9a266e496d8be33a3f00f9b7b3b286f2dd95d6cc4d100093861791b",
}


def digest(name: str, seed: int, shape: str) -> str:
    return hashlib.sha256(log_bytes(generate(name, seed, BUILT_IN[shape]))).hexdigest()


@pytest.mark.parametrize("made", GOLDEN)
def test_the_bytes_of_a_seed_never_change(made: tuple[str, int, str]) -> None:
    assert digest(*made) == GOLDEN[made]


def test_a_new_process_with_another_hash_seed_makes_the_same_bytes() -> None:
    code = "from tests.unit.scenario.test_scenario_bytes import digest; print(digest('everything', 7, 'tumbling'))"
    for hash_seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": hash_seed},
            cwd=Path(__file__).resolve().parents[3],
        )
        assert done.stdout.strip() == GOLDEN["everything", 7, "tumbling"]


def test_another_seed_or_name_makes_other_bytes() -> None:
    assert len({digest("late_tail", seed, "tumbling") for seed in range(50)}) == 50
    assert digest("late_tail", 1, "tumbling") != digest("late_edge", 1, "tumbling")


def test_a_number_depends_on_nothing_but_seed_label_and_counter() -> None:
    draws = Draws(7, "x")
    first = [draws.below(1000, "a", n) for n in range(5)]
    draws.below(1000, "b")
    assert [draws.below(1000, "a", n) for n in range(5)] == first == [471, 682, 473, 566, 924]


@pytest.mark.parametrize("name", [*PRESETS, MIXED])
def test_a_file_gives_the_same_records_as_the_scenario(name: str, tmp_path: Path) -> None:
    shape = ONLY_IN.get(name, "tumbling")
    scenario = generate(name, 11, BUILT_IN[shape])
    log = tmp_path / "log.jsonl"
    write_files(scenario, ["--shape", shape], log)
    sent = list(file_records(log, key_field=TO_FIELD, time_field=KNOWN_FIELD))
    assert sent == scenario.records()
    assert plan_file(log).exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.jsonl", "log.plan.json"]


def test_all_records_of_a_suite_go_to_one_partition_in_order_and_those_read_behind_it_to_another() -> None:
    suite = suite_of(generate(MIXED, seed, BUILT_IN["tumbling"]) for seed in range(45))
    records, behind = suite.records()[: len(suite.lines)], suite.records()[len(suite.lines) :]
    assert {record.key for record in behind} == {b"two"}
    assert [record.value for record in behind] == [line.value for line in suite.behind]
    assert {record.key for record in records} == {b"one"}
    assert [record.value for record in records] == [line.value for line in suite.lines]
    times = [record.timestamp_ms or 0 for record in records]
    assert times[0] > 0
    assert times[-1] == max(times)
