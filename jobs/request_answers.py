"""Each request with its answer, if it got one within ten seconds: a left join of two streams.

A request without an answer has a row too. A stream can only say so when the watermarks of both have passed the last
instant at which the answer could have been given; until then the row is pending. In batch it is there at once.
"""

from __future__ import annotations

from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from sources_api import API_REQUESTS, API_RESPONSES
from twinrun import Job

IN_TIME = "10 seconds"
FAILED_STATUS = 500


def request_answers(api_requests: DataFrame, api_responses: DataFrame) -> DataFrame:
    """One row per request; status and waiting time are null where no answer came in time."""
    asked, answer = api_requests.alias("asked"), api_responses.alias("answer")
    its = F.col("answer.request_id") == F.col("asked.request_id")
    soon = F.expr(f"answer.answered_at BETWEEN asked.sent_at AND asked.sent_at + INTERVAL {IN_TIME}")
    status = F.col("answer.status")
    outcome = F.when(status.isNull(), "unanswered").when(status >= FAILED_STATUS, "failed").otherwise("answered")
    return asked.join(answer, its & soon, "left").select(
        "asked.request_id",
        "asked.sent_at",
        "asked.endpoint",
        outcome.alias("outcome"),
        status.alias("status"),
        (F.unix_millis("answer.answered_at") - F.unix_millis("asked.sent_at")).alias("waited_ms"),
    )


def expectations() -> list[Any]:
    """What a correct result satisfies. Imported here, since the library takes seconds to load."""
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToBeBetween(column="waited_ms", min_value=0, max_value=10_000),
        gxe.ExpectColumnValuesToBeInSet(column="outcome", value_set=["answered", "failed", "unanswered"]),
    ]


JOB = Job(
    request_answers, sources=[API_REQUESTS, API_RESPONSES], keys=["request_id"], emit="final", expect=expectations
)
