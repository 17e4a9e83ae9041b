"""Checkpoints, leases, tables and columns that are not what a run needs: refused, and nothing is lost."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.bad_input.conftest import Place, names, offsets_in, refused
from twinrun.tables.lease import held_lease

pytestmark = pytest.mark.usefixtures("one_session")


@pytest.fixture(scope="module")
def place(make_place: Callable[[], Place], one_session: SparkSession) -> Place:
    """Four clicks that both modes have, and four more that wait in the topic."""
    place = make_place()
    place.make_topic()
    place.produce(names(0, 4))
    place.works("ingest clicks", "stream seen", "batch seen")
    place.produce(names(4, 8))
    return place


@contextmanager
def moved(folder: Path, instead: Path | None = None) -> Iterator[None]:
    """A folder put aside, or a copy of another in its place, for a block; then it is back as it was."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    if instead is not None:
        shutil.copytree(instead, folder)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        aside.rename(folder)


@pytest.mark.parametrize(
    ("subject", "command"),
    [("stream:seen", "stream seen"), ("ingest:{topic}", "ingest clicks"), ("batch:seen", "batch seen")],
)
def test_a_held_lease(subject: str, command: str, place: Place, one_session: SparkSession) -> None:
    subject = subject.format(topic=place.topic)
    with held_lease(one_session, place.cfg(), subject, "another run"):
        done = place.run(*command.split())
    refused(done, f"{subject} is held by another run: process ", "(another run)", "stop that run, or wait")


@pytest.mark.parametrize("command", ["stream seen", "ingest clicks"])
def test_a_foreign_checkpoint_and_one_that_was_removed(command: str, place: Place) -> None:
    stream, ingest = (Path(place.cfg().checkpoint(*of, 1)) for of in (("stream", "seen"), ("ingest", place.topic)))
    mine, other = (stream, ingest) if command.startswith("stream") else (ingest, stream)
    with moved(mine, instead=other):
        refused(
            place.run(*command.split()),
            f"the checkpoint at {mine} belongs to another query",
            "expected: the checkpoint of query ",
        )
    with moved(mine):
        refused(place.run(*command.split()), f"the checkpoint at {mine} is empty or was removed")


def test_a_checkpoint_whose_table_is_gone(place: Place) -> None:
    with moved(place.result("stream")):
        refused(place.run("stream", "seen"), "stream_v1 is gone, but the checkpoint at", "put the table back")
    with moved(Path(place.cfg().table("bronze", topic=place.topic))):
        refused(place.run("ingest", "clicks"), "there is no bronze table at", "put the table back")


def test_an_unknown_column_in_the_job(place: Place) -> None:
    file = place.root / "jobs" / "seen.py"
    good = file.read_text(encoding="utf-8")
    file.write_text(good.replace('select("id", "page")', 'select("id", "pgae")'), encoding="utf-8")
    for command in ("stream", "batch"):
        refused(place.run(command, "seen"), "pgae", "page")
    file.write_text(good, encoding="utf-8")


@pytest.fixture(scope="module")
def caught_up(place: Place) -> Place:
    """The same place when both modes have read what waited."""
    place.works("ingest clicks", "stream seen", "batch seen")
    return place


def test_with_the_cause_removed_the_same_commands_have_every_row_once(caught_up: Place) -> None:
    place = caught_up
    assert offsets_in(Path(place.cfg().table("bronze", topic=place.topic))) == list(range(8))
    assert place.ids("stream") == place.ids("batch") == names(0, 8)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["events", "results"])
def test_a_table_that_the_batch_can_make_again_is_made_again(table: str, caught_up: Place) -> None:
    """What it held comes from bronze, although the batch has been over those records before."""
    place = caught_up
    events = Path(place.cfg().table("events", source="clicks"))
    shutil.rmtree(events if table == "events" else place.result("batch"))
    place.works("batch seen")
    assert place.ids("batch") == names(0, 8)


@pytest.mark.slow
def test_a_static_table_that_is_no_table_or_lacks_a_column(caught_up: Place, one_session: SparkSession) -> None:
    place = caught_up
    path = place.root / "static" / "pages"
    path.mkdir(parents=True)
    (path / "pages.csv").write_text("page,title\na,A\n", encoding="utf-8")
    place.bind(tables={"pages": {"path": str(path)}})
    refused(place.run("batch", "named"), f"there is no Delta table at {path}")
    shutil.rmtree(path)
    one_session.createDataFrame([("a", "A"), ("b", "B")], "page STRING, name STRING").write.format("delta").save(
        str(path)
    )
    for command in ("batch", "stream"):
        refused(place.run(command, "named"), "title", "name")
    right = one_session.createDataFrame([("a", "A"), ("b", "B")], "page STRING, title STRING")
    right.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(str(path))
    place.works("batch named", "stream named")
    assert place.ids("batch", "named") == place.ids("stream", "named") == names(0, 8)


def test_compare_with_an_unknown_key(place: Place) -> None:
    refused(place.run("compare", str(place.result("batch")), str(place.result("stream")), "--keys", "idd"), "idd")
    place.works(f"compare {place.result('batch')} {place.result('stream')} --keys id --ignore _run_id")


@pytest.mark.slow
def test_events_decoded_anew_for_one_job_are_not_counted_again_by_another(caught_up: Place) -> None:
    place = caught_up
    place.works("batch named --full", "batch seen")
    assert place.ids("batch", "named") == place.ids("batch") == names(0, 8)
