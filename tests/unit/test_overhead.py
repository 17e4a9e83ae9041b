"""The arithmetic of bench/overhead.py: medians, ratios, goals and the lines that are printed; no Spark."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench import overhead
from bench.overhead import Case, Goal, Taken, Work, lines, measure, middle, ratio, reached, summed_up


def work(cpu_s: float | None, wall_s: float | None = None) -> dict[str, Any]:
    return {"cpu_s": cpu_s, "wall_s": wall_s if wall_s is not None else cpu_s}


def case(*works: Work, goals: list[Goal] | None = None, warm_ups: int = 1) -> Case:
    return Case("e", "compare", list(works), goals or [], warm_ups)


def test_medians_and_ratios_of_what_was_measured() -> None:
    assert middle([3.0, 1.0, 2.004]) == 2.0
    assert middle([1.0, 2.0]) == 1.5
    assert middle([]) is None
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(3.0, 0.0) is None
    assert ratio(None, 2.0) is None


@pytest.mark.parametrize(("ours", "peers", "good"), [
    (1.5, {"join": 4.5, "slow": 40.0}, True),
    (1.51, {"join": 9.0}, False),
    (1.5, {"join": 4.4, "slow": 40.0}, False),
    (1.5, {}, True),
])  # fmt: skip
def test_a_goal_needs_the_share_and_the_distance_to_the_cheapest_peer(
    ours: float, peers: dict[str, float], good: bool
) -> None:
    works = {"compare": work(ours), "scan": work(1.0), **{name: work(cpu) for name, cpu in peers.items()}}
    found = reached(Goal("compare", "scan", 1.5, peers=("join", "slow", "absent")), works)
    assert found["reached"] is good
    assert found["cpu_ratio"] == ours
    assert found.get("cheapest_peer") == ("join" if peers else None)


def test_what_was_not_measured_reaches_nothing_and_misses_nothing() -> None:
    found = reached(Goal("compare", "scan", 1.5), {"compare": work(None), "scan": work(1.0)})
    assert (found["reached"], found["cpu_ratio"], found["wall_ratio"]) == (None, None, None)


def test_works_run_in_turn_and_the_first_pair_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    clock = iter(range(1000))
    monkeypatch.setattr(overhead, "tree_cpu_s", lambda: float(next(clock)))
    parts = case(
        Work("one", lambda n: ran.append(f"one{n}"), before=lambda n: ran.append(f"before{n}")),
        Work("two", lambda n: ran.append(f"two{n}")),
        Work("slow", lambda n: ran.append(f"slow{n}"), rounds=1),
    )
    found = measure(parts, 2, lambda _: None)
    assert ran == ["before0", "one0", "two0", "slow0", "before1", "one1", "two1", "before2", "one2", "two2"]
    assert [len(each["rounds_cpu_s"]) for each in found["works"].values()] == [2, 2, 1]
    assert found["works"]["one"]["cpu_s"] == 1.0


def test_a_work_that_fails_is_told_and_the_others_go_on() -> None:
    def fail(number: int) -> None:
        raise ValueError("no such jar\nat a.b.c")

    goals = [Goal("good", "bad", 1.0)]
    found = measure(case(Work("bad", fail), Work("good", lambda _: None), goals=goals, warm_ups=0), 3, lambda _: None)
    assert found["works"]["bad"]["failed"] == "ValueError: no such jar"
    assert len(found["works"]["good"]["rounds_cpu_s"]) == 3
    assert found["goals"][0]["reached"] is None
    shown = lines([found, {"part": "a", "title": "stopped", "failed": "OSError: gone", "works": {}, "goals": []}])
    assert shown[1].split() == ["bad", "ValueError:", "no", "such", "jar"]
    assert shown[3:] == ["    good beside bad: not measured", "(a) stopped", "    failed: OSError: gone"]


def test_the_lines_say_what_was_reached() -> None:
    taken = {"ours": Taken([1.0, 3.0, 2.0], [2.0, 2.0, 2.0]), "base": Taken([1.0], [4.0]), "peer": Taken([5.0], [1.0])}
    parts = Case("e", "t", [], [Goal("ours", "base", 2.5, peers=("peer",))])
    found = summed_up(parts, taken, {"rows": 3})
    assert found["facts"] == {"rows": 3}
    assert found["goals"][0]["wall_ratio"] == 0.5
    assert lines([found])[-1].strip() == (
        "ours takes 2.00 of the CPU of base (at most 2.5), peer 2.50 times as much (at least 3.0): NOT reached"
    )


def test_one_part_that_stops_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def part(name: str, asked: Any, say: Any) -> list[dict[str, Any]]:
        if name == "b":
            return [{"part": name, "title": "stopped", "failed": "OSError: gone", "works": {}, "goals": []}]
        return [measure(case(Work("one", lambda _: None)), asked.rounds, say)]

    monkeypatch.setattr(overhead, "_part", part)
    out = tmp_path / "overhead.json"
    assert overhead.main(["--only", "b", "e", "--rounds", "2", "--rows", "7", "--quiet", "--out", str(out)]) == 1
    written = json.loads(out.read_text())
    assert [each["part"] for each in written["cases"]] == ["b", "e"]
    one = written["cases"][0]
    assert (one["settings"]["rounds"], one["settings"]["rows"], one["settings"]["large"]) == (2, 7, 2_000_000)
    assert {"commit", "machine", "versions"} <= set(one)
    # What is run later takes the place of its own part, and leaves the others.
    assert overhead.main(["--only", "b", "--rounds", "3", "--quiet", "--out", str(out)]) == 1
    rounds = {each["part"]: each["settings"]["rounds"] for each in json.loads(out.read_text())["cases"]}
    assert rounds == {"b": 3, "e": 2}
