"""Messages of a RabbitMQ queue into a topic, in the order of the queue; a message that comes a second time says so.

Arguments: port of RabbitMQ on this machine, queue, ``queue`` or ``stream`` (what kind it is), bootstrap servers, topic,
seconds between two acknowledgements. Each message is a JSON object; its record has two or three fields before those of
the message: ``message_id``, ``redelivered``, and of a stream ``queue_offset``. A body that is no object is passed on as
it is.

A queue forgets a message once it is acknowledged, which is after Kafka has it: what was sent and not acknowledged when
the bridge died comes again, first and in order, and is marked. A stream keeps its messages: the bridge goes on behind
the last one that the topic holds, so that none comes twice.
"""

import json
import sys
import time

import pika
from confluent_kafka import Consumer, Producer, TopicPartition

MOST = 500
"""Messages that are handed out and not acknowledged."""


def main(port: str, queue: str, kind: str, servers: str, topic: str, every_s: str) -> None:
    """Until it is stopped."""
    stream = kind == "stream"
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True})
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(port))).channel()
    channel.basic_qos(prefetch_count=MOST)
    start = {"x-stream-offset": _behind(servers, topic)} if stream else None
    failed = []
    last, held, acknowledged = None, 0, time.monotonic()
    print("READY", flush=True)
    for method, properties, body in channel.consume(queue, arguments=start, inactivity_timeout=0.1):
        if method is not None:
            offset = (properties.headers or {}).get("x-stream-offset") if stream else None
            # One key: the order of the queue is that of one partition.
            producer.produce(
                topic,
                key=queue,
                value=_record(properties.message_id, method.redelivered, offset, body),
                on_delivery=lambda error, _: failed.append(error) if error else None,
            )
            last, held = method.delivery_tag, held + 1
        # With so many held nothing more is handed out.
        if last is not None and (held == MOST or time.monotonic() - acknowledged >= float(every_s)):
            producer.flush()
            if failed:
                sys.exit(f"Kafka refused a record: {failed[0]}")
            channel.basic_ack(last, multiple=True)
            last, held, acknowledged = None, 0, time.monotonic()


def _record(message_id, redelivered, offset, body):
    """The message with what the queue says of it; not parsed, so that no number changes."""
    text = body.strip()
    if not (text.startswith(b"{") and text.endswith(b"}")):
        return body
    told = {"message_id": message_id, "redelivered": redelivered}
    if offset is not None:
        told["queue_offset"] = offset
    rest = text[1:].lstrip()
    return json.dumps(told).encode()[:-1] + (b"}" if rest == b"}" else b", " + rest)


def _behind(servers, topic):
    """The offset of a stream behind the last message that the topic holds."""
    consumer = Consumer({"bootstrap.servers": servers, "group.id": "queue-bridge", "enable.auto.commit": False})
    found = -1
    for partition in consumer.list_topics(topic, 10).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), 10)
        if high > low:
            consumer.assign([TopicPartition(topic, partition, high - 1)])
            record = consumer.poll(10)
            if record is None or record.error():
                sys.exit(f"the last record of {topic} cannot be read: {record and record.error()}")
            found = max(found, json.loads(record.value())["queue_offset"])
    consumer.close()
    return found + 1


if __name__ == "__main__":
    main(*sys.argv[1:])
