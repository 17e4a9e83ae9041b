"""Publish JSON objects to a RabbitMQ queue, from standard input, one per line; each is confirmed."""

import json
import sys

import pika


def main(port: str, queue: str, kind: str) -> None:
    """Declare the queue, and send all."""
    channel = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(port))).channel()
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "stream"} if kind == "stream" else None)
    channel.confirm_delivery()
    for line in sys.stdin:
        properties = pika.BasicProperties(message_id=json.loads(line)["id"], delivery_mode=2)
        channel.basic_publish("", queue, line.strip().encode(), properties)


if __name__ == "__main__":
    main(*sys.argv[1:])
