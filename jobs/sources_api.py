"""The sources of the jobs about an API: what it was asked, by the logs of its clients, and what it answered."""

from __future__ import annotations

from twinrun import Source

API_REQUESTS = Source(
    "api_requests",
    schema="""
        request_id STRING NOT NULL COMMENT 'names the request',
        sent_at BIGINT NOT NULL COMMENT 'when the client sent it, UTC epoch milliseconds',
        client STRING NOT NULL,
        endpoint STRING NOT NULL""",
    event_time="sent_at",
    lateness="1 minute",
    id=["request_id"],
    distinct=["request_id"],
)
"""What clients asked of an API; one that a client's log ships again is one request."""

API_RESPONSES = Source(
    "api_responses",
    schema="""
        request_id STRING NOT NULL COMMENT 'names the request that it answers',
        answered_at BIGINT NOT NULL COMMENT 'when the API was done, UTC epoch milliseconds',
        status INT NOT NULL COMMENT 'HTTP status'""",
    event_time="answered_at",
    lateness="1 minute",
    id=["request_id"],
    distinct=["request_id"],
    ranges={"status": (100, 599)},
)
"""What the API answered, from its own log."""
