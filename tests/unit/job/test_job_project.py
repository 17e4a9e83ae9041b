"""Job files share modules beside them: found by each job, fresh at each load, and at hand where rows are worked on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from twinrun.errors import JobError
from twinrun.job.code import row_code
from twinrun.job.loader import load_job

SOURCES = """
from twinrun import Source
from limits import LIMIT

CLICKS = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING", event_time="at", lateness=LIMIT)
"""
JOB = """
from twinrun import Job
from sources import CLICKS
{more}

def {name}(clicks):
    return clicks.select("id")

JOB = Job({name}, sources=[CLICKS], keys=["id"])
"""


def project(folder: Path, lateness: str = "1 hour", more: str = "", name: str = "views") -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "limits.py").write_text(f"LIMIT = {lateness!r}\n", encoding="utf-8")
    (folder / "sources.py").write_text(SOURCES, encoding="utf-8")
    path = folder / f"{name}.py"
    path.write_text(JOB.format(more=more, name=name), encoding="utf-8")
    return path


def test_a_module_beside_the_job_is_found_and_is_that_of_its_own_project(tmp_path: Path) -> None:
    before = list(sys.path), {name for name in sys.modules if name in ("sources", "limits")}
    one, other = load_job(project(tmp_path / "a")), load_job(project(tmp_path / "b", "2 hours"))
    assert [job.sources[0].lateness for job in (one, other)] == ["1 hour", "2 hours"]
    # Nothing is left where other code would find it.
    assert (list(sys.path), {name for name in sys.modules if name in ("sources", "limits")}) == before


def test_two_jobs_of_a_project_have_the_same_source_and_see_its_change(tmp_path: Path) -> None:
    views = project(tmp_path)
    visits = project(tmp_path, name="visits")
    assert load_job(views).sources == load_job(visits).sources
    project(tmp_path, "3 hours")
    assert load_job(visits).sources[0].lateness == "3 hours"


@pytest.mark.parametrize("more", ["import sources, limits", "from .limits import LIMIT", "import limits as bounds"])
def test_every_form_of_import_works(tmp_path: Path, more: str) -> None:
    assert load_job(project(tmp_path, more=more)).job_name == "views"


def test_a_module_of_python_itself_and_one_that_is_installed_are_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("1 / 0\n", encoding="utf-8")
    (tmp_path / "pyspark").mkdir()
    assert load_job(project(tmp_path, more="import json, pyspark.sql\njson.dumps({})")).job_name == "views"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("def late():\n    import limits\n", "line 5 imports limits.py inside a function or class"),
        ("import broken", "line 4: "),
        ("import around", "around.py is imported while it is still being run"),
        ("import nowhere", "line 4: an import fails: No module named 'nowhere'"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_line_and_the_way_out(tmp_path: Path, more: str, says: str) -> None:
    path = project(tmp_path, more=more)
    (tmp_path / "broken.py").write_text("x = 1\ny = x / 0\n", encoding="utf-8")
    (tmp_path / "around.py").write_text("import back\n", encoding="utf-8")
    (tmp_path / "back.py").write_text("import around\n", encoding="utf-8")
    before = set(sys.modules)
    with pytest.raises(JobError) as caught:
        load_job(path)
    assert says in caught.value.found
    assert "views.py" in caught.value.found
    if "broken" in more:
        assert "broken.py line 2 fails with ZeroDivisionError" in caught.value.found
    assert caught.value.fix
    assert not [name for name in set(sys.modules) - before if name.endswith(("_views", "_broken", "_around", "_back"))]


def test_functions_of_a_module_beside_the_job_reach_the_workers_and_count_for_the_fingerprint(
    spark_session: SparkSession, tmp_path: Path
) -> None:
    rules = "from limits import LIMIT\n\ndef shortened(page):\n    return page[:len(LIMIT)]\n"
    (tmp_path / "rules.py").write_text(rules, encoding="utf-8")
    more = "from pyspark.sql import functions as F\nfrom rules import shortened\nSHORT = F.udf(shortened, 'string')"
    path = project(tmp_path, "1 day", more)
    job = load_job(path)
    shorter = job.logic.__globals__["SHORT"]
    frame = spark_session.createDataFrame([("abcdefgh",)], "page STRING")
    assert frame.select(shorter("page")).collect() == [("abcde",)]
    before = row_code(job)
    assert "shortened" in before
    assert row_code(load_job(project(tmp_path, "10 days", more))) != before
