"""Clicks with the name of their page, from a static table."""

from __future__ import annotations

from pyspark.sql import DataFrame

from twinrun import Job, Source, Table

CLICKS = Source(
    "clicks",
    schema="id STRING NOT NULL, at BIGINT NOT NULL, page STRING NOT NULL",
    event_time="at",
    lateness="10 seconds",
    id=["id"],
)


def named(clicks: DataFrame, pages: DataFrame) -> DataFrame:
    """One row per click, with its page's title."""
    return clicks.join(pages, "page").select("id", "page", "title")


JOB = Job(named, sources=[CLICKS], tables=[Table("pages")], keys=["id"])
