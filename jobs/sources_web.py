"""The source of the jobs about a web site's visitors."""

from __future__ import annotations

from dataclasses import replace

from twinrun import Source

WEB_EVENTS = Source(
    "web_events",
    schema="""
        event_id STRING NOT NULL COMMENT 'names the event; a client that sends it again keeps it',
        at BIGINT NOT NULL COMMENT 'when it happened on the device, UTC epoch milliseconds',
        user_id STRING NOT NULL,
        agent_class STRING NOT NULL COMMENT 'phone, tablet or desktop',
        page STRING NOT NULL COMMENT 'path that is viewed, or on which the click was',
        kind STRING NOT NULL COMMENT 'view or click',
        load_ms INT COMMENT 'of a view: until the page was there, milliseconds',
        button STRING COMMENT 'of a click: name of the button',
        shown ARRAY<STRING> COMMENT 'of a view: the buttons on the page'""",
    event_time="at",
    lateness="10 minutes",
    id=["event_id"],
    ranges={"load_ms": (0, 600_000)},
)
"""Views and clicks. Phones send what happened without network later, hence the lateness."""

PATIENT_WEB_EVENTS = replace(WEB_EVENTS, lateness="20 minutes")
"""The same for sessions, which wait longer for a phone."""
