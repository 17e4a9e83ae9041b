"""The minutes that another job has sent to a topic, as a source: a record that was sent twice has the same id."""

from __future__ import annotations

from twinrun import Source

MINUTES = Source(
    "minutes",
    schema=(
        "record_id STRING NOT NULL, page STRING NOT NULL, window_start TIMESTAMP NOT NULL, clicks BIGINT NOT NULL, "
        "amount DECIMAL(20,2), weight DOUBLE"
    ),
    event_time="window_start",
    event_time_format="iso8601",
    lateness="1 hour",
    id=["record_id"],
    distinct=["record_id"],
)
