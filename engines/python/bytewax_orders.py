"""Orders and cents per shop and minute in bytewax, by its clock of event times, up to the end of the topic or for ever.

Arguments: bootstrap servers, topic, topic for results, wait in milliseconds; then, to go on for ever, ``forever``.
"""

import json
import sys
from datetime import UTC, datetime, timedelta

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing as win
from bytewax.run import cli_main

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def flow_of(bootstrap: str, topic: str, out: str, wait_ms: str, ends: str = "") -> Dataflow:
    """The dataflow: read, window by shop, write."""
    flow = Dataflow("orders")
    read = op.input("read", flow, KafkaSource([bootstrap], [topic], tail=ends == "forever"))
    keyed = op.map("by_shop", read, _by_shop)
    clock = win.EventClock(lambda event: event["time"], timedelta(milliseconds=int(wait_ms)))
    windower = win.TumblingWindower(align_to=EPOCH, length=timedelta(minutes=1))
    sums = win.fold_window("sums", keyed, clock, windower, lambda: (0, 0), _added, _merged)
    op.output("write", op.map("as_json", sums.down, _record), KafkaSink([bootstrap], out))
    return flow


def _by_shop(message):
    event = json.loads(message.value)
    return event["shop"], {**event, "time": EPOCH + timedelta(milliseconds=event["at"])}


def _added(sums, event):
    return sums[0] + 1, sums[1] + event["cents"]


def _merged(one, other):
    return one[0] + other[0], one[1] + other[1]


def _record(row):
    shop, (window, (orders, cents)) = row
    value = {"shop": shop, "window_start": window * 60_000, "orders": orders, "cents": cents}
    return KafkaSinkMessage(shop.encode(), json.dumps(value).encode())


if __name__ == "__main__":
    print("READY", flush=True)
    cli_main(flow_of(*sys.argv[1:]))
