"""Orders and cents per shop and minute in quixstreams, each window handed on once, when it closes.

Arguments: bootstrap servers, topic, topic for results (another has ``-raw`` behind its name), closing strategy (``key``
or ``partition``), grace in milliseconds, folder of the state; seconds without a record after which it ends, 6 where
nothing is said. What is open then stays open.
"""

import sys

from quixstreams import Application
from quixstreams.dataframe.windows import Count, Sum


def main(bootstrap: str, topic: str, out: str, strategy: str, grace_ms: str, state: str, idle_s: str = "6") -> None:
    """Read to the end, and hand on what closes."""
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"{out}-group",
        auto_offset_reset="earliest",
        state_dir=state,
        loglevel="WARNING",
        commit_interval=1.0,
    )
    orders = app.topic(
        topic, key_deserializer="str", timestamp_extractor=lambda value, headers, at_ms, kind: value["at"]
    )
    sales, raw = (app.topic(name, key_serializer="str") for name in (out, f"{out}-raw"))
    rows = app.dataframe(orders).tumbling_window(duration_ms=60_000, grace_ms=int(grace_ms))
    rows = rows.agg(orders=Count(), cents=Sum("cents")).final(closing_strategy=strategy)
    rows.to_topic(raw)  # as quixstreams writes it: start, end and values
    rows.apply(_row, metadata=True).to_topic(sales)
    print("READY", flush=True)
    app.run(timeout=float(idle_s))


def _row(value, key, at_ms, headers):
    return {"shop": key, "window_start": value["start"], "orders": value["orders"], "cents": value["cents"]}


if __name__ == "__main__":
    main(*sys.argv[1:])
