"""The sources of the jobs about running services: their log lines and their measurements."""

from __future__ import annotations

from dataclasses import replace

from twinrun import Source

SERVICE_LOGS = Source(
    "service_logs",
    schema="""
        line_id STRING NOT NULL COMMENT 'names the line',
        logged_at BIGINT NOT NULL COMMENT 'when it was written, UTC epoch milliseconds',
        application STRING NOT NULL,
        level STRING NOT NULL COMMENT 'INFO, WARN or ERROR',
        message STRING""",
    event_time="logged_at",
    lateness="30 seconds",
    id=["line_id"],
)
"""Log lines of all applications, shipped by an agent on each machine."""

SERVICE_REQUESTS = Source(
    "service_requests",
    schema="""
        request_id STRING NOT NULL COMMENT 'names the request',
        served_at BIGINT NOT NULL COMMENT 'when it was answered, UTC epoch milliseconds',
        service STRING NOT NULL,
        instance STRING NOT NULL,
        status INT NOT NULL COMMENT 'HTTP status',
        latency_us BIGINT NOT NULL COMMENT 'until the answer, microseconds'""",
    event_time="served_at",
    lateness="5 seconds",
    id=["request_id"],
    ranges={"status": (100, 599), "latency_us": (0, 600_000_000)},
)
"""One measurement per request that a service answered."""

SERVICE_RESTARTS = Source(
    "service_restarts",
    schema="""
        restart_id STRING NOT NULL COMMENT 'names the restart',
        at BIGINT NOT NULL COMMENT 'when the instance came up again, UTC epoch milliseconds',
        service STRING NOT NULL,
        instance STRING NOT NULL""",
    event_time="at",
    lateness="5 seconds",
    id=["restart_id"],
)
"""One event per restart of an instance, from the orchestrator."""

GATEWAY_LINES = Source(
    "gateway_lines",
    schema="""
        line_id STRING NOT NULL COMMENT 'names the line',
        at BIGINT NOT NULL COMMENT 'when the service was done, UTC epoch milliseconds',
        request_id STRING NOT NULL COMMENT 'names the request in the logs of all services',
        status INT NOT NULL COMMENT 'HTTP status'""",
    event_time="at",
    lateness="1 minute",
    id=["line_id"],
    ranges={"status": (100, 599)},
)
"""What the gateway did for a request."""

BASKET_LINES = replace(GATEWAY_LINES, name="basket_lines")
"""The same of the baskets."""

PAYMENT_LINES = replace(GATEWAY_LINES, name="payment_lines")
"""The same of the payments."""
