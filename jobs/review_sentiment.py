"""Daily sentiment of customer reviews: what their words say, beside their stars.

VADER (vaderSentiment) scores a text by a lexicon and rules from -1 to 1, each text for itself, so that neither the mode
nor how rows are cut into chunks makes a difference. Scores are kept as whole ten-thousandths: their mean is exact.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType

from sources_shop import REVIEWS
from twinrun import Job

WINDOW = "1 day"
PARTS = 10_000
CLEARLY = 500
"""From where on VADER's authors call a text positive, or below its negative a negative one, in ten-thousandths."""


@F.arrow_udf(LongType())  # type: ignore[attr-defined, untyped-decorator]
def sentiment(texts: pa.Array) -> pa.Array:
    """Ten-thousandths from -10,000 to 10,000; null of no text."""
    # On the workers alone: reading its lexicon takes a moment.
    from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

    scores = SentimentIntensityAnalyzer().polarity_scores
    found = [None if text is None else round(PARTS * scores(text)["compound"]) for text in texts.to_pylist()]
    return pa.array(found, pa.int64())


def review_sentiment(reviews: DataFrame) -> DataFrame:
    """Reviews, their mean sentiment and mean stars per product and day (UTC)."""
    scored = reviews.withColumn("score", sentiment("text"))
    per_day = scored.groupBy("product", F.window("written_at", WINDOW)).agg(
        F.count(F.lit(1)).alias("reviews"),
        F.count("score").alias("texts"),
        F.count_if(F.col("score") >= CLEARLY).alias("positive"),
        F.count_if(F.col("score") <= -CLEARLY).alias("negative"),
        _mean("score", PARTS).try_cast("decimal(5,4)").alias("sentiment"),
        _mean("stars", 1).try_cast("decimal(3,2)").alias("stars"),
    )
    return per_day.select(
        "product",
        F.col("window.start").alias("window_start"),
        F.col("window.end").alias("window_end"),
        *("reviews", "texts", "positive", "negative", "sentiment", "stars"),
    )


def _mean(column: str, parts: int) -> Any:
    """Exact whatever the order in which rows are added; null of nothing."""
    total, count = F.try_sum(column).cast("decimal(20,0)"), F.count(column).cast("decimal(12,0)")
    return F.try_divide(total, count * F.lit(parts))


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="sentiment", min_value=-1, max_value=1),
        gxe.ExpectColumnPairValuesAToBeGreaterThanB(column_A="reviews", column_B="texts", or_equal=True),
    ]


JOB = Job(
    review_sentiment,
    sources=[REVIEWS],
    keys=["product", "window_start"],
    window=WINDOW,
    emit="final",
    expect=expectations,
)
