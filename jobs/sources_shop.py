"""The sources of the jobs about a shop."""

from __future__ import annotations

from dataclasses import replace

from twinrun import Source

ORDERS = Source(
    "orders",
    schema="""
        order_id STRING NOT NULL COMMENT 'names the order; a till that sends it again keeps it',
        ordered_at BIGINT NOT NULL COMMENT 'when it was paid, UTC epoch milliseconds',
        customer_id STRING NOT NULL,
        market STRING NOT NULL COMMENT 'regional market, such as berlin',
        department STRING NOT NULL,
        pieces INT NOT NULL COMMENT 'number of things bought',
        cents BIGINT NOT NULL COMMENT 'paid, in hundredths of a euro'""",
    event_time="ordered_at",
    lateness="1 hour",
    id=["order_id"],
    ranges={"pieces": (1, 1_000), "cents": (1, 100_000_000)},
)
"""Orders of all markets. A till without network sends its orders when it is back."""

ORDERS_OF_ANY_AGE = replace(ORDERS, lateness=None)
"""The same without a watermark: for jobs that drop nothing and keep the state of every key."""

ORDERS_ONCE = replace(ORDERS, lateness="5 days", distinct=["order_id"])
"""Each order once: a copy that comes within five days is dropped, and an order more than five days late with it."""

_STATE = """STRUCT<
    customer_id: STRING, name: STRING, city: STRING, points: BIGINT>"""

CUSTOMER_CHANGES = Source(
    "customer_changes",
    schema=f"""
        op STRING NOT NULL COMMENT 'c: inserted, u: updated, d: deleted, r: read in a snapshot',
        ts_ms BIGINT NOT NULL COMMENT 'when the row changed in the database, UTC epoch milliseconds',
        lsn BIGINT NOT NULL COMMENT 'place in the log of the database: the order of all changes',
        before {_STATE} COMMENT 'the row before; null where it was inserted',
        after {_STATE} COMMENT 'the row after; null where it was deleted'""",
    event_time="ts_ms",
    id=["lsn"],
    offsets="gaps",
    ranges={"lsn": (0, None)},
)
"""Changes of the table of customers in the envelope of Debezium, keyed by customer; the topic may be compacted."""

REVIEWS = Source(
    "reviews",
    schema="""
        review_id STRING NOT NULL COMMENT 'names the review; an app that sends it again keeps it',
        written_at BIGINT NOT NULL COMMENT 'when the customer wrote it, UTC epoch milliseconds',
        product STRING NOT NULL,
        stars INT NOT NULL COMMENT '1 to 5',
        text STRING COMMENT 'null where there are stars alone'""",
    event_time="written_at",
    lateness="2 days",
    id=["review_id"],
    ranges={"stars": (1, 5)},
)
"""Reviews of products. They are looked through before they are published, which takes up to a day."""
