"""The sources of the jobs in this folder, each once."""

from __future__ import annotations

from dataclasses import replace

from twinrun import Source

FLIGHTS = Source(
    "flights",
    schema="""flight_id STRING NOT NULL, scheduled_departure BIGINT NOT NULL, origin STRING NOT NULL,
        dest STRING NOT NULL, carrier STRING NOT NULL, tailnum STRING, dep_delay INT, cancelled BOOLEAN NOT NULL,
        distance INT NOT NULL""",
    event_time="scheduled_departure",
    lateness="1 hour",
    max_ahead="1 hour",
    id=["flight_id"],
    ranges={"dep_delay": (-120, 2880), "distance": (1, 20_000)},
)
"""Flights by scheduled departure (UTC epoch milliseconds); delays in minutes, distances in miles."""

FLIGHTS_OF_ANY_AGE = replace(FLIGHTS, lateness=None)
"""The same without a watermark: for jobs that drop nothing and keep the state of every key."""
