"""Loading job files by path."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
from pyspark import cloudpickle

from twinrun.config.model import Config
from twinrun.errors import JobError
from twinrun.job.code import module_name
from twinrun.job.loader import find_job, list_jobs, load_job

GOOD = """\
from __future__ import annotations

from dataclasses import dataclass

from twinrun import Job, Source


@dataclass(frozen=True)
class Limit:
    minutes: int = {minutes}


LIMIT = Limit()


def {name}(flights):
    return flights.select("id")


JOB = Job({name}, sources=[Source("flights", schema="id STRING NOT NULL, ts BIGINT", event_time="ts")], keys=["id"])
"""


def written(path: Path, text: str | None = None, name: str = "one", minutes: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(GOOD.format(name=name, minutes=minutes) if text is None else text, encoding="utf-8")
    return path


def made(**jobs: Path) -> Config:
    return Config(
        kafka={"bootstrap_servers": "a:1"},  # type: ignore[arg-type]
        warehouse="/wh",
        report={"folder": "r"},  # type: ignore[arg-type]
        jobs={name: {"path": path} for name, path in jobs.items()},  # type: ignore[misc]
    )


@pytest.mark.parametrize("name", ["my_job.py", "my-job.py", "2nd job.py", "json.py", "job.txt", "große.py"])
def test_any_file_name_loads_and_hides_no_package(tmp_path: Path, name: str) -> None:
    import json

    job = load_job(written(tmp_path / name))

    assert job.job_name == "one"
    assert sys.modules["json"] is json
    assert job.logic.__module__ == module_name(tmp_path / name)
    assert sys.modules[job.logic.__module__].__file__ == str(tmp_path / name)
    assert Path(name).stem not in sys.modules or name == "json.py"


def test_equal_names_in_two_folders_do_not_meet(tmp_path: Path) -> None:
    one = load_job(written(tmp_path / "a/job.py", minutes=1))
    two = load_job(written(tmp_path / "b/job.py", minutes=2))

    assert one.logic.__globals__["LIMIT"].minutes == 1
    assert two.logic.__globals__["LIMIT"].minutes == 2
    assert one.logic.__module__ != two.logic.__module__


def test_a_change_within_the_same_second_is_seen_and_no_cache_is_written(tmp_path: Path) -> None:
    path = tmp_path / "job.py"
    seen = [load_job(written(path, minutes=minutes)).logic.__globals__["LIMIT"].minutes for minutes in (1, 2, 3)]

    assert seen == [1, 2, 3]
    assert [item.name for item in tmp_path.iterdir()] == ["job.py"]


def test_what_a_job_file_defines_is_pickled_by_value(tmp_path: Path) -> None:
    job = load_job(written(tmp_path / "job.py", minutes=7))
    module = job.logic.__module__
    text = cloudpickle.dumps((job.logic.__globals__["Limit"], job.logic))
    del sys.modules[module]  # as on a worker, which has never seen the file

    limit, logic = pickle.loads(text)

    assert limit().minutes == 7
    assert logic.__name__ == "one"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a = 1\ndef f(:\n", "line 2 is not valid Python: invalid syntax"),
        ("\nimport no_such_module_x\n", "line 2: an import fails: No module named 'no_such_module_x'"),
        ("from twinrun import Jobb\n", "line 1: an import fails: cannot import name 'Jobb'"),
        ("a = 1\n\nb = 1 / 0\n", "line 3 fails with ZeroDivisionError: division by zero"),
        ("import sys\nsys.exit(3)\n", "line 2 fails with SystemExit: 3"),
        ("def f():\n    return {}['x']\nf()\n", "line 2 fails with KeyError: 'x'"),
        ("a = 1\n", "defines no JOB"),
        ("JOB = 3\n", "is of type int"),
        ("from twinrun import Job\nJOB = Job\n", "is of type type"),
        (
            "from twinrun import Job\nJOB = Job(print, sources=[], keys=[], windw='1 hour')\n",
            "line 2: Job has no field 'windw'",
        ),
        ("from twinrun import rel\nx = rel(-1)\n", "line 2"),
        ("a = '\x00'\n", "null bytes"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_sentence_with_its_line(
    tmp_path: Path, text: str, says: str
) -> None:
    path = written(tmp_path / "bad.py", text)
    before = set(sys.modules)
    with pytest.raises(JobError) as caught:
        load_job(path)

    assert says in caught.value.found
    assert "\n" not in caught.value.found
    assert "bad.py" in caught.value.found
    assert not {name for name in set(sys.modules) - before if "twinrun_job" in name and "no JOB" not in says} or (
        "JOB" in says or "of type" in says
    )


def test_an_unknown_field_comes_with_those_allowed_and_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path / "bad.py", "from twinrun import Source\nS = Source('a', schema='', event_tme='t')\n")
    with pytest.raises(JobError) as caught:
        load_job(path)

    assert "event_time, event_time_format" in caught.value.expected
    assert caught.value.fix == "write event_time"


def test_a_missing_file_and_one_that_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="there is no job file"):
        load_job(tmp_path / "none.py")
    with pytest.raises(JobError, match="there is no job file"):
        load_job(tmp_path)
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    with pytest.raises(JobError, match=r"latin\.py"):
        load_job(tmp_path / "latin.py")


def test_a_failed_reload_keeps_the_module_that_works(tmp_path: Path) -> None:
    path = written(tmp_path / "job.py")
    module = load_job(path).logic.__module__
    good = sys.modules[module]
    with pytest.raises(JobError):
        load_job(written(path, "1 / 0\n"))
    assert sys.modules[module] is good


def test_the_list_shows_good_and_bad_files_side_by_side(tmp_path: Path) -> None:
    good, bad = written(tmp_path / "good.py"), written(tmp_path / "bad.py", "1 / 0\n")
    files = list_jobs(made(good=good, bad=bad, none=tmp_path / "none.py"))

    assert [(file.name, file.path, file.job is not None) for file in files] == [
        ("good", good, True),
        ("bad", bad, False),
        ("none", tmp_path / "none.py", False),
    ]
    assert files[0].error == ""
    assert "ZeroDivisionError" in files[1].error
    assert "there is no job file" in files[2].error


def test_two_files_with_one_job_name_would_write_the_same_tables(tmp_path: Path) -> None:
    one, two, three = (written(tmp_path / f"{i}.py", name="other" if i == 3 else "one") for i in (1, 2, 3))
    errors = [file.error for file in list_jobs(made(a=one, b=two, c=three))]

    assert errors == ["", f"{one} defines the job 'one' too", ""]


def test_a_job_is_found_by_name_or_path(tmp_path: Path) -> None:
    path = written(tmp_path / "job.py")
    cfg = made(departures=path)

    assert find_job(cfg, "departures").job_name == "one"
    assert find_job(cfg, str(path)).job_name == "one"
    with pytest.raises(JobError, match="lists no job 'departure'") as caught:
        find_job(cfg, "departure")
    assert caught.value.fix == "write departures"
