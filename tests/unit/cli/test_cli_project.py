"""``init`` makes a project whose files are sound and whose commands exist."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import typer
import yaml
from polars.testing import assert_frame_equal

import twinrun
from twinrun.cli.app import app
from twinrun.cli.project import EVENTS, FILES, SEED, _sendable
from twinrun.config.load import load_config
from twinrun.gallery.entries import ENTRIES, entry_of
from twinrun.job.check import check_definition
from twinrun.job.loader import list_jobs
from twinrun.produce.records import Record, file_records


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

    assert len(named) >= {"Makefile": 5, "README.md": 7}[name]
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


@pytest.mark.parametrize("name", [entry.job for entry in ENTRIES])
def test_a_project_begins_with_any_job_of_the_gallery(
    name: str, run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    done = run("init", str(folder), "--from", name, "--json")
    assert (done.code, done.err) == (0, "")
    said = json.loads(done.out)
    assert said["job"] == name
    assert sorted(said["files"]) == sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())
    assert "jobs/first_job.py" not in said["files"]

    # All that it needs came with it: nothing of the checkout is on the way any more.
    monkeypatch.chdir(folder)
    listed = run("jobs", "--json")
    assert (listed.code, listed.err) == (0, "")
    [job] = json.loads(listed.out)["jobs"]
    assert (job["name"], job["job"], job["problem"]) == (name, name, "")
    assert Path(job["file"]).parent == folder / "jobs"
    conf = yaml.safe_load((folder / "conf/local.yaml").read_text(encoding="utf-8"))
    assert sorted(conf["sources"]) == sorted(source["name"] for source in job["sources"])

    makefile = (folder / "Makefile").read_text(encoding="utf-8")
    entry = entry_of(name)
    for source in job["sources"]:
        [line] = [row for row in makefile.splitlines() if f"--topic {source['name']} " in row]
        words = shlex.split(line.strip().rstrip("; \\"))
        options = dict(zip(words[2:-1:2], words[3:-1:2], strict=True))
        sent = list(
            file_records(
                folder / options["--file"], key_field=options["--key-field"], time_field=options["--time-field"]
            )
        )
        same_as_the_log(sent, entry.logs[source["name"]](SEED, EVENTS))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert entry.question in readme
    assert (f"pip install {entry.needs}" in readme) == (entry.needs is not None)
    assert sorted(conf.get("tables", {})) == sorted(entry.tables)
    for table, bound in conf.get("tables", {}).items():
        rows = pl.read_parquet(folder / bound["path"] / "*.parquet")
        made = pl.from_pandas(entry.tables[table].make(SEED, EVENTS))
        assert_frame_equal(rows, made, check_dtypes=False)


def same_as_the_log(sent: list[Record], log: Any) -> None:
    """The records that the file gives are those of the gallery's log, with a field more."""
    assert len(sent) == len(log)
    whole = (log["planted"] != "not_json").tolist()
    assert 0 < whole.count(False) < len(whole) / 10
    for record, is_whole, key, value, known_ms in zip(
        sent, whole, log["key"], log["value"], log["known_ms"], strict=True
    ):
        if not is_whole:
            assert record.value == value.encode()
            continue
        assert (record.key, record.timestamp_ms) == (key.encode(), known_ms)
        made = json.loads(record.value or b"")
        assert {name: made[name] for name in json.loads(value)} == json.loads(value)
        assert len(made) - len(json.loads(value)) in (1, 2)


@pytest.mark.parametrize(
    ("name", "says"), [("page_visit", "to fix: write page_visits"), ("zzz", "twinrun gallery lists them")]
)
def test_a_job_that_the_gallery_does_not_have_is_told_with_the_nearest(
    name: str, says: str, run: Any, tmp_path: Path
) -> None:
    done = run("init", str(tmp_path / "mine"), "--from", name)

    assert done.code == 2
    assert f"the gallery has no job {name!r}" in done.err
    assert says in done.err
    assert not (tmp_path / "mine").exists()


def test_without_the_checkout_a_project_of_the_gallery_cannot_be_made(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twinrun, "__file__", str(tmp_path / "site-packages/twinrun/__init__.py"))

    done = run("init", str(tmp_path / "mine"), "--from", "receipts")

    assert done.code == 2
    assert "the file of receipts is in the checkout of twinrun only" in done.err
    assert not (tmp_path / "mine").exists()


def test_a_record_key_that_is_no_field_gets_a_field_of_its_own() -> None:
    rows = [("k1", '{"a":1}', 5, "normal"), ("k2", '{"a":2}', 6, "normal"), ("k3", '{"a"', 7, "not_json")]
    log = pd.DataFrame(rows, columns=["key", "value", "known_ms", "planted"])

    sending, text = _sendable("things", log)

    assert (sending.key_field, sending.time_field) == ("record_key", "known_at")
    assert text.splitlines() == [
        '{"a":1,"known_at":5,"record_key":"k1"}',
        '{"a":2,"known_at":6,"record_key":"k2"}',
        '{"a"',
    ]
