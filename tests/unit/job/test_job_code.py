"""The code of functions on rows: the job's file and what it imports of its project, and nothing that is installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinrun.job.code import row_code
from twinrun.job.loader import load_job

JOB = """
from pyspark.sql import functions as F
from twinrun import Job, Source
import json
{imports}

CLICKS = Source("clicks", schema="id STRING, at BIGINT NOT NULL, page STRING", event_time="at", id=["id"])

def seen(clicks):
    return clicks.select("id", {column})

JOB = Job(seen, sources=[CLICKS], keys=["id"])
"""
ROWS = '''
"""Rules."""
from pyspark.sql import functions as F
from pages_limits import LIMIT

@F.udf("string")
def shortened(page):
    """{words}"""
    return page[:LIMIT]
'''

FROM = "from pages_rules import shortened"
pytestmark = pytest.mark.usefixtures("spark_session")  # udf() asks Spark for the type


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    # A second version of equal size within a second would be the first one's bytecode.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    forget()


def forget() -> None:
    for name in ("pages_rules", "pages_limits"):
        sys.modules.pop(name, None)


def code_of(folder: Path, *, words: str = "One.", limit: int = 3, imports: str = FROM) -> str:
    forget()
    (folder / "pages_rules.py").write_text(ROWS.format(words=words), encoding="utf-8")
    (folder / "pages_limits.py").write_text(f"LIMIT = {limit}\n", encoding="utf-8")
    column = "shortened('page').alias('page')" if imports else "'page'"
    (folder / "job.py").write_text(JOB.format(imports=imports, column=column), encoding="utf-8")
    return row_code(load_job(folder / "job.py"))


def test_a_constant_two_imports_away_counts_and_a_docstring_does_not(folder: Path) -> None:
    before = code_of(folder)
    assert "shortened" in before
    assert code_of(folder, words="Two.") == before
    assert code_of(folder, limit=4) != before


def test_a_whole_module_may_be_imported(folder: Path) -> None:
    imports = "import pages_rules\nshortened = pages_rules.shortened"
    assert code_of(folder, imports=imports) != code_of(folder, imports=imports, limit=4)


def test_what_is_installed_does_not_count(folder: Path) -> None:
    # pyspark.sql.functions and json are imported, and are long; pyspark's has udf in it.
    assert len(code_of(folder)) < 6_000
    assert code_of(folder, imports="") == ""
