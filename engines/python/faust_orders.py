"""Orders and cents per shop and minute in Faust, each window handed on when the clock on the wall has closed it.

Arguments: bootstrap servers, topic, topic for results, seconds after which a window expires, folder of the worker,
number of partitions. Runs until it is ended by SIGTERM.
"""

import os
import sys
from datetime import timedelta

import faust

BOOTSTRAP, TOPIC, OUT, EXPIRES_S, FOLDER, PARTITIONS = sys.argv[1:7]
app = faust.App(
    f"{OUT}-app",
    broker=f"kafka://{BOOTSTRAP}",
    store="memory://",
    datadir=FOLDER,
    topic_partitions=int(PARTITIONS),
    web_enabled=False,
    table_cleanup_interval=1.0,
    stream_wait_empty=False,
    consumer_auto_offset_reset="earliest",
)


class Order(faust.Record, serializer="json"):
    """An event; times are seconds since 1970."""

    id: str
    at: int
    shop: str
    cents: int


async def closed(key, sums):
    """Hand a closed window on."""
    shop, (start_s, _) = key
    row = {"shop": shop, "window_start": round(start_s * 1000), "orders": sums[0], "cents": sums[1]}
    await sales.send(key=shop.encode(), value=row)


orders = app.topic(TOPIC, key_type=bytes, value_type=Order)
sales = app.topic(OUT, key_type=bytes, value_serializer="json")
table = app.Table("sums", default=lambda: [0, 0], on_window_close=closed, partitions=int(PARTITIONS))
table = table.tumbling(60.0, expires=timedelta(seconds=float(EXPIRES_S)), key_index=False)
table = table.relative_to(lambda event: event.value.at / 1000)


@app.agent(orders)
async def count(stream):
    """Add each event to its window."""
    async for order in stream:
        sums = table[order.shop].value()
        table[order.shop] = [sums[0] + 1, sums[1] + order.cents]


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    print("READY", flush=True)
    app.finalize()
    worker = faust.Worker(app, loglevel="WARNING")
    worker.execute_from_commandline()
