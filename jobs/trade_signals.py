"""Buy, sell or hold per symbol and minute, from its price, the news and what people post about it.

Three streams are united and then aggregated, instead of joined: a minute without any news has a row too. One watermark,
the least of the three, says when a minute is over.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from sources_market import NEWS, PRICES, SOCIAL
from twinrun import Job

WINDOW = "1 minute"
STRONG = 60


@F.arrow_udf(StringType())  # type: ignore[attr-defined, untyped-decorator]
def signal(change_bp: pa.Array, news_mood: pa.Array, social_mood: pa.Array) -> pa.Array:
    """What to do; what is not known counts nothing. A vote of a post is worth ten basis points."""
    known = [pc.fill_null(each, 0) for each in (change_bp, news_mood, social_mood)]
    score = pc.add(pc.add(known[0], known[1]), pc.multiply(known[2], 10))
    sell = pc.if_else(pc.less_equal(score, -STRONG), "sell", "hold")
    return pc.if_else(pc.greater_equal(score, STRONG), "buy", sell)


def trade_signals(prices: DataFrame, news: DataFrame, social: DataFrame) -> DataFrame:
    """First and last price in cents, how many stories and posts, their mood, and the signal."""
    # Trades may be of one millisecond: the coordinates make the order total.
    tick = F.struct("at", "_partition", "_offset").alias("tick")
    feeds = (
        prices.select("symbol", "at", "cents", tick)
        .unionByName(news.select("symbol", "at", F.col("mood").alias("news_mood")), allowMissingColumns=True)
        .unionByName(social.select("symbol", "at", F.col("mood").alias("social_mood")), allowMissingColumns=True)
    )
    per_minute = feeds.groupBy("symbol", F.window("at", WINDOW)).agg(
        F.min_by("cents", "tick").alias("first_cents"),
        F.max_by("cents", "tick").alias("last_cents"),
        F.count("news_mood").alias("stories"),
        F.try_sum("news_mood").alias("news_mood"),
        F.count("social_mood").alias("posts"),
        F.try_sum("social_mood").alias("social_mood"),
    )
    ratio = F.try_divide(*[F.col(name).try_cast("decimal(12,0)") for name in ("last_cents", "first_cents")])
    change = F.round((ratio - 1) * 10_000).try_cast("bigint")
    return per_minute.withColumn("change_bp", change).select(
        "symbol",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *("first_cents", "last_cents", "change_bp", "stories", "news_mood", "posts", "social_mood"),
        signal("change_bp", "news_mood", "social_mood").alias("signal"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToBeInSet(column="signal", value_set=["buy", "sell", "hold"])]


JOB = Job(
    trade_signals,
    sources=[PRICES, NEWS, SOCIAL],
    keys=["symbol", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
