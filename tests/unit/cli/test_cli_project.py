"""``init`` makes a project whose files are sound and whose commands exist."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from twinrun.cli.app import app
from twinrun.cli.project import FILES
from twinrun.config.load import load_config
from twinrun.job.check import check_definition
from twinrun.job.loader import list_jobs


def test_the_files_are_all_there_and_the_job_is_sound(run: Any, tmp_path: Path) -> None:
    done = run("init", str(tmp_path / "new project"), "--json")

    folder = tmp_path / "new project"
    assert done.code == 0
    assert json.loads(done.out)["files"] == list(FILES)
    assert sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()) == sorted(FILES)
    compile((folder / "jobs/first_job.py").read_text(encoding="utf-8"), "first_job.py", "exec")
    assert (folder / "README.md").read_text(encoding="utf-8").startswith("# new project\n")
    [file] = list_jobs(load_config(folder / "conf/local.yaml", env={}))
    assert file.error == ""
    assert file.job is not None
    check_definition(file.job)


def test_the_data_fits_the_job(project: Path) -> None:
    orders = [json.loads(line) for line in (project / "data/orders.jsonl").read_text(encoding="utf-8").splitlines()]
    known = [order["known_at"] for order in orders]
    late_ms = [order["known_at"] - order["ordered_at"] for order in orders]

    assert len({order["order_id"] for order in orders}) == len(orders) == 60
    assert known == sorted(known)
    assert sum(late > 3_600_000 for late in late_ms) == 1
    assert min(late_ms) > 0


def test_the_stream_drops_exactly_the_order_that_the_readme_speaks_of(project: Path) -> None:
    hour_ms, lateness_ms, per_micro_batch = 3_600_000, 1_800_000, 10
    orders = [json.loads(line) for line in (project / "data/orders.jsonl").read_text(encoding="utf-8").splitlines()]
    batches = [orders[start : start + per_micro_batch] for start in range(0, len(orders), per_micro_batch)]
    newest, watermarks = 0, [0, 0]
    for batch in batches:
        newest = max([newest, *(order["ordered_at"] for order in batch)])
        watermarks.append(newest - lateness_ms)

    # An event of micro-batch N is dropped by the watermark of N - 1, which has seen the batches up to N - 2.
    dropped = [
        order["order_id"]
        for watermark, batch in zip(watermarks, batches, strict=False)
        for order in batch
        if (order["ordered_at"] // hour_ms + 1) * hour_ms <= watermark
    ]

    assert dropped == ["o015"]


@pytest.mark.parametrize("name", ["Makefile", "README.md"])
def test_every_command_that_the_project_names_can_be_parsed(project: Path, name: str) -> None:
    text = (project / name).read_text(encoding="utf-8").replace("$(TWINRUN)", "twinrun")
    lines = [part for line in text.splitlines() for part in line.replace("'", "`").split("`")]
    named = [line.strip(" \t;\\-") for line in lines if line.strip(" \t;\\-").startswith("twinrun ")]

    assert len(named) >= 7
    for line in named:
        context = typer.main.get_command(app).make_context("twinrun", shlex.split(line)[1:])
        group: Any = context.command
        rest = [*context._protected_args, *context.args]
        while rest and hasattr(group, "commands"):
            assert rest[0] in group.commands, line
            group, rest = group.commands[rest[0]], rest[1:]
        assert group.make_context(line, rest, parent=context), line


def test_the_makefile_stops_its_broker_also_after_a_failure(project: Path) -> None:
    text = (project / "Makefile").read_text(encoding="utf-8")

    assert "trap '$(TWINRUN) broker stop' EXIT" in text
    assert ".SHELLFLAGS := -eu -o pipefail -c" in text


def test_a_folder_that_is_not_empty_is_left_alone(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep", encoding="utf-8")
    (tmp_path / "file").write_text("keep", encoding="utf-8")

    for name in ("mine", "file"):
        done = run("init", str(tmp_path / name))
        assert done.code == 2
        assert "is not an empty folder" in done.err
    assert [f.name for f in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_jobs_lists_and_shows(run: Any, project: Path) -> None:
    assert run("jobs").out.splitlines() == [
        "job        shape     emit   sources  keys",
        "first_job  tumbling  final  orders   shop, window_start",
    ]
    shown = json.loads(run("jobs", "show", "first_job", "--json").out)
    assert shown["keys"] == ["shop", "window_start"]
    assert shown["sources"][0]["topic"] == "orders"
    assert "lateness 30 minutes" in run("jobs", "show", "jobs/first_job.py").out
    (project / "jobs/first_job.py").write_text("JOB = 1\n", encoding="utf-8")
    done = run("jobs")
    assert done.code == 2
    assert "first_job cannot be used: JOB in" in done.out
    assert done.out.splitlines()[0] == "conf/local.yaml lists 1 job, and none of them can be used"


def test_a_configuration_without_jobs_is_listed_as_such(run: Any, project: Path) -> None:
    conf = yaml.safe_load((project / "conf/local.yaml").read_text(encoding="utf-8"))
    (project / "conf/local.yaml").write_text(yaml.safe_dump({**conf, "jobs": {}}), encoding="utf-8")

    assert run("jobs").out == "conf/local.yaml lists no job\n"
