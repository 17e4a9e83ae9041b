"""maintain refuses what cannot work before Spark starts."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("tidy", "--table", "bronce"), "write bronze"),
        (("tidy",), "there is no table at"),
        (("expire", "--keep-days", "0"), "--keep-days"),
        (("expire", "--keep-days", "30"), "there is no table at"),
        (("erase", "first_job", "--key", "id"), "--key is no field and value"),
        (("erase", "first_job", "--key", "id="), "--key is no field and value"),
        (("erase", "first_jbo", "--key", "id=1"), "first_job"),
        (("erase", "first_job", "--key", "id=1"), "there is no table at"),
    ],
)
def test_what_makes_no_sense_or_has_no_warehouse(words: tuple[str, ...], said: str, run: Any, spark: Any) -> None:
    done = run("maintain", *words)
    assert (done.code, spark.started) == (2, [])
    assert said in done.err
