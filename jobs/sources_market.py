"""The sources of the jobs about a stock exchange."""

from __future__ import annotations

from twinrun import Source

PRICES = Source(
    "prices",
    schema="""
        trade_id STRING NOT NULL COMMENT 'names the trade',
        at BIGINT NOT NULL COMMENT 'when it was made, UTC epoch milliseconds',
        symbol STRING NOT NULL,
        cents BIGINT NOT NULL COMMENT 'price of one share, in hundredths of a dollar',
        shares BIGINT NOT NULL""",
    event_time="at",
    lateness="10 seconds",
    id=["trade_id"],
    ranges={"cents": (1, 100_000_000), "shares": (1, 1_000_000)},
)
"""Trades as the exchange reports them."""

NEWS = Source(
    "news",
    schema="""
        story_id STRING NOT NULL COMMENT 'names the story',
        at BIGINT NOT NULL COMMENT 'when it was published, UTC epoch milliseconds',
        symbol STRING NOT NULL,
        headline STRING,
        mood INT NOT NULL COMMENT 'what an agency makes of it, -100 to 100'""",
    event_time="at",
    lateness="1 minute",
    id=["story_id"],
    ranges={"mood": (-100, 100)},
)
"""Stories about companies."""

SOCIAL = Source(
    "social",
    schema="""
        post_id STRING NOT NULL COMMENT 'names the post',
        at BIGINT NOT NULL COMMENT 'when it was posted, UTC epoch milliseconds',
        symbol STRING NOT NULL,
        mood INT NOT NULL COMMENT '-1 against, 0 neither, 1 for'""",
    event_time="at",
    lateness="30 seconds",
    id=["post_id"],
    ranges={"mood": (-1, 1)},
)
"""Posts that name a company."""
