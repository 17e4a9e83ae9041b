"""The sources of the jobs about rides in a city."""

from __future__ import annotations

from twinrun import Source

RIDE_REQUESTS = Source(
    "ride_requests",
    schema="""
        request_id STRING NOT NULL COMMENT 'names the request; an app that sends it again keeps it',
        at BIGINT NOT NULL COMMENT 'when somebody asked for a ride, UTC epoch milliseconds',
        zone STRING NOT NULL COMMENT 'part of the city',
        rider_id STRING NOT NULL""",
    event_time="at",
    lateness="2 minutes",
    id=["request_id"],
)
"""What is asked for."""

DRIVER_PINGS = Source(
    "driver_pings",
    schema="""
        ping_id STRING NOT NULL COMMENT 'names the ping',
        at BIGINT NOT NULL COMMENT 'when the driver was there and free, UTC epoch milliseconds',
        zone STRING NOT NULL COMMENT 'part of the city',
        driver_id STRING NOT NULL""",
    event_time="at",
    lateness="1 minute",
    id=["ping_id"],
)
"""What there is: each free driver tells where it is."""
