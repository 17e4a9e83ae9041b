"""The source of the jobs about payments by card."""

from __future__ import annotations

from twinrun import Source

CARD_PAYMENTS = Source(
    "card_payments",
    schema="""
        payment_id STRING NOT NULL COMMENT 'names the payment; a terminal that sends it again keeps it',
        at BIGINT NOT NULL COMMENT 'when the card was used, UTC epoch milliseconds',
        card_id STRING NOT NULL,
        cents BIGINT NOT NULL COMMENT 'paid, in hundredths of a euro',
        latitude DOUBLE NOT NULL COMMENT 'of the terminal, degrees north',
        longitude DOUBLE NOT NULL COMMENT 'of the terminal, degrees east'""",
    event_time="at",
    lateness="2 minutes",
    id=["payment_id"],
    ranges={"cents": (1, 100_000_000), "latitude": (-90, 90), "longitude": (-180, 180)},
)
"""Payments as the terminals report them; one without network does so when it is back."""
