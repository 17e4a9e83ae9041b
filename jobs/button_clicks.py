"""Clicks and click-through per page, button and class of device, every hour.

A view lists the buttons that it showed, so that one aggregation counts both how often a button was seen and how often
it was clicked: a button that nobody clicked has a row too.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_web import WEB_EVENTS
from twinrun import Job

WINDOW = "1 hour"


def button_clicks(web_events: DataFrame) -> DataFrame:
    """Times shown and clicked per page, button, class of device and window."""
    is_view = F.col("kind") == "view"
    buttons = F.when(is_view, F.col("shown")).otherwise(F.array("button"))
    each = web_events.select("at", "page", "agent_class", is_view.alias("is_view"), F.explode(buttons).alias("button"))
    named = each.filter(F.col("button").isNotNull())
    shown, clicked = F.count_if("is_view"), F.count_if(~F.col("is_view"))
    exact = F.try_divide(clicked.cast("decimal(18,0)"), shown.cast("decimal(18,0)"))
    per_button = named.groupBy("page", "button", "agent_class", F.window("at", WINDOW)).agg(
        shown.alias("shown"),
        clicked.alias("clicks"),
        # Above 1 where a page that was open before the window is clicked within it; null where it was never shown.
        exact.try_cast("decimal(9,4)").alias("click_through"),
    )
    return per_button.select(
        "page",
        "button",
        "agent_class",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        "shown",
        "clicks",
        "click_through",
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeInSet(column="agent_class", value_set=["phone", "tablet", "desktop"]),
        gxe.ExpectColumnValuesToBeBetween(column="clicks", min_value=0),
    ]


JOB = Job(
    button_clicks,
    sources=[WEB_EVENTS],
    keys=["page", "button", "agent_class", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
