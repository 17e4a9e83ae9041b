"""What docs/kafka.md says that Kafka promises, and `twinrun topic`, on the real development broker. No Spark."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import twinrun.broker.topics
from tests.integration.commands import Ran, run
from twinrun.broker.process import BrokerInfo
from twinrun.broker.records import Stored, stored_records
from twinrun.broker.topics import create_topic, offset_ranges, offsets_at
from twinrun.cli.project import write_project
from twinrun.errors import BrokerError
from twinrun.produce.producer import produce
from twinrun.produce.records import Record

PARTITIONS = 3
LARGE = 1_500_000


@pytest.fixture(scope="module")
def address(broker: BrokerInfo) -> str:
    return broker.bootstrap_servers


@pytest.fixture
def topic(address: str, request: pytest.FixtureRequest) -> str:
    name = str(request.node.name)[:100].replace("[", ".").replace("]", "")
    create_topic(address, name, PARTITIONS)
    return name


def sent(address: str, topic: str, records: list[Record], **options: str) -> Any:
    return produce(records, topic, {"bootstrap.servers": address, **options})


def stored(address: str, topic: str) -> list[Stored]:
    return list(stored_records(address, topic, offset_ranges(address, topic)))


def test_order_holds_within_a_partition_and_not_across_them(address: str, topic: str) -> None:
    order = [(f"k{number % 30}", number) for number in range(3_000)]
    sent(address, topic, [Record(key.encode(), str(number).encode()) for key, number in order])

    found = stored(address, topic)

    assert sorted(int(each.value or b"") for each in found) == list(range(3_000))
    for partition in range(PARTITIONS):
        inside = [each for each in found if each.partition == partition]
        assert [each.offset for each in inside] == list(range(len(inside)))
        numbers = [int(each.value or b"") for each in inside]
        assert len(numbers) > 300
        assert numbers == sorted(numbers), "within a partition: the order of sending"
    assert len({(each.key, each.partition) for each in found}) == 30, "a key has one partition"
    across = [int(each.value or b"") for each in found]
    assert across != sorted(across), "across partitions: none"


def test_a_record_that_is_written_never_changes(address: str, topic: str) -> None:
    sent(address, topic, [Record(b"a", b"first", 1_709_287_200_000, (("by", b"hand"),))])
    before = stored(address, topic)

    sent(address, topic, [Record(b"a", b"second", 1_709_287_200_000), Record(b"a", None, 1_709_287_100_000)])

    assert before == [Stored(before[0].partition, 0, 1_709_287_200_000, b"a", b"first", (("by", b"hand"),))]
    after = stored(address, topic)
    # The same key again, and even a tombstone, are records of their own behind it.
    assert after[0] == before[0]
    assert [(each.offset, each.value) for each in after] == [(0, b"first"), (1, b"second"), (2, None)]


@pytest.mark.parametrize("limit", ["1000000", "5000000"], ids=["refused-by-the-client", "refused-by-the-broker"])
def test_a_record_of_one_and_a_half_megabytes_is_a_plain_error_and_nothing_is_lost(
    address: str, topic: str, limit: str
) -> None:
    records = [Record(b"k", f"small {number}".encode()) for number in range(6)]
    records[3] = Record(b"k", os.urandom(LARGE))
    options = {"message.max.bytes": limit, "batch.num.messages": "1"}

    with pytest.raises(BrokerError) as caught:
        sent(address, topic, records, **options)

    assert "1 of 6 records were not delivered" in caught.value.found
    assert "5 were" in caught.value.found
    assert "too large, key and value have 1,500,001 bytes" in caught.value.found
    assert "max.message.bytes of the topic" in caught.value.fix
    assert "\n" not in caught.value.found
    assert [each.value for each in stored(address, topic)] == [f"small {n}".encode() for n in (0, 1, 2, 4, 5)]


def test_records_are_found_again_by_offset_and_by_time(address: str, topic: str) -> None:
    at_ms = 1_709_287_200_000
    sent(address, topic, [Record(b"a", str(number).encode(), at_ms + number * 60_000) for number in range(10)])
    [partition] = [number for number, (_, end) in offset_ranges(address, topic).items() if end]

    found = offsets_at(address, topic, at_ms + 4 * 60_000 - 1)

    assert found[partition] == 4
    assert offsets_at(address, topic, at_ms + 3_600_000)[partition] == 10, "after the newest: the end"
    part = list(stored_records(address, topic, {partition: (found[partition], 7)}))
    assert [each.value for each in part] == [b"4", b"5", b"6"]


def test_reading_ends_also_where_the_last_offsets_hold_no_record(address: str, topic: str) -> None:
    from confluent_kafka import Producer

    client = Producer({"bootstrap.servers": address, "transactional.id": topic})
    client.init_transactions(20)
    for kept in (True, False):
        client.begin_transaction()
        client.produce(topic, str(kept).encode(), partition=0)
        client.flush(20)
        if kept:
            client.commit_transaction(20)
        else:
            client.abort_transaction(20)

    ranges = offset_ranges(address, topic)
    assert ranges[0] == (0, 4), "two records, and a marker behind each"
    assert [each.value for each in stored_records(address, topic, ranges)] == [b"True", b"False"]
    assert [each.value for each in stored_records(address, topic, ranges, committed=True)] == [b"True"]


# The commands.


@pytest.fixture
def shop(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose broker is the one of this module."""
    folder = tmp_path / "shop"
    write_project(folder)
    file = folder / "conf/local.yaml"
    conf = yaml.safe_load(file.read_text(encoding="utf-8"))
    conf["kafka"]["bootstrap_servers"] = address
    conf["sources"] = {"orders": {"topic": "shop-orders"}}
    file.write_text(yaml.safe_dump(conf), encoding="utf-8")
    monkeypatch.chdir(folder)
    return folder


def lines(done: Ran) -> list[str]:
    assert (done.code, done.err) == (0, ""), done.err
    return done.out.splitlines()


@pytest.mark.usefixtures("shop")
def test_what_is_produced_by_hand_is_listed_described_and_shown_where_it_lies(address: str) -> None:
    create_topic(address, "shop-orders", 2)
    made = ("topic", "produce", "orders", '{"id": 1}', '{"id": 2}', "--key", "a", "--time", "2024-03-01T10:00:00Z")

    assert lines(run(*made)) == ["2 records delivered to shop-orders", "  partition 1: 2 records, offsets 0 to 1"]
    assert lines(run("topic", "produce", "shop-orders", "no json", "--key", "b"))[1].startswith("  partition ")
    assert [row.split() for row in lines(run("topic", "list")) if row.startswith("shop-orders")] == [
        ["shop-orders", "2", "3", "orders"]
    ]
    told = lines(run("topic", "describe", "orders"))
    assert told[0] == "shop-orders"
    assert any(row.split()[:2] == ["sources", "orders"] for row in told)
    shown = lines(run("topic", "tail", "orders"))
    assert shown[0] == '1:0  2024-03-01T10:00:00.000Z  a  {"id": 1}'
    assert len(shown) == 3
    assert lines(run("topic", "tail", "orders", "--from", "1", "--partition", "1"))[0].startswith("1:1  ")
    assert lines(run("topic", "tail", "orders", "--last", "0")) == []
    at = ("topic", "tail", "orders", "--from", "2024-03-01T10:00:00.001Z", "--json")
    assert [json.loads(row)["value"] for row in lines(run(*at))] == ["no json"]


@pytest.mark.usefixtures("shop")
def test_what_is_no_text_is_shown_as_escapes_and_as_base64(address: str, topic: str) -> None:
    sent(address, topic, [Record(None, b"\x00\xff\x1b[31m", 1_709_287_200_000), Record(b"k", None, 1)])

    text = run("topic", "tail", topic).out
    found = {row["key"]: row for row in map(json.loads, lines(run("topic", "tail", topic, "--json")))}

    assert "\x1b" not in text
    assert "\\xff" in text
    assert "(none)" in text
    assert found[None]["value_base64"] == "AP8bWzMxbQ=="
    assert "value" not in found[None]
    assert found["k"]["value"] is None


def test_lines_of_standard_input_are_sent_as_they_are(
    shop: Path, address: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b'{"page": "a"}\r\nno json \xff\n\n{"page": "a"}'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    done = run("topic", "produce", topic, "--key-field", "page", "--json")

    assert json.loads(done.out)["acked"] == 4
    assert sorted((each.key or b"", each.value) for each in stored(address, topic)) == sorted(
        [(b"a", b'{"page": "a"}'), (b"a", b'{"page": "a"}'), (b"", b"no json \xff"), (b"", b"")]
    )


def test_follow_goes_on_with_what_comes_and_ends_when_its_reader_has_enough(
    shop: Path, address: str, topic: str
) -> None:
    program = [str(Path(sys.executable).with_name("twinrun")), "topic", "tail", topic, "--follow"]
    following = subprocess.Popen(program, cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert following.stdout is not None
    try:
        for number in range(40):
            sent(address, topic, [Record(b"k", str(number).encode())])
            if number == 0:
                assert following.stdout.readline().endswith("k  0\n")
                following.stdout.close()
            if following.poll() is not None:
                break
            time.sleep(0.25)
        assert following.wait(timeout=20) == 0
        assert following.stderr is not None
        assert following.stderr.read() == ""
    finally:
        following.kill()
        following.wait()


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("describe", "known-one-"), ("has no topic 'known-one-'", "write known-one")),
        (("tail", "known-one", "--partition", "9"), ("has no partition 9", "0 to 2")),
        (("tail", "known-one", "--from", "yesterday"), ("'yesterday' is no place", "earliest, an offset, or a time")),
        (("tail", "known-one", "--from", "2024-03-01T10:00:00"), ("is no place",)),
        (("produce", "known-onn", "x"), ("has no topic 'known-onn'", "write known-one")),
        (("produce", "known-one", "x", "--key", "a", "--key-field", "b"), ("both say the key",)),
        (("produce", "known-one", '{"a": 1}', "--key-field", "b"), ("Line 1 of the input has no field 'b'",)),
    ],
)
def test_what_cannot_be_done_is_one_sentence_with_the_nearest_name(
    address: str, words: tuple[str, ...], says: tuple[str, ...]
) -> None:
    if "known-one" not in run("topic", "list").out:
        create_topic(address, "known-one", PARTITIONS)

    done = run("topic", *words)

    assert done.code == 2
    assert [text for text in says if text not in done.err] == []
    assert "Traceback" not in done.err


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("words", [("list",), ("describe", "x"), ("tail", "x"), ("produce", "x", "y")])
def test_a_broker_that_is_down_is_one_sentence(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twinrun.broker.topics, "LIMIT_S", 1.0)
    done = run("topic", *words, "--set", "kafka.bootstrap_servers=127.0.0.1:1")

    assert done.code == 2
    assert done.out == ""
    assert done.err.splitlines()[0] == "error: No Kafka broker answers at 127.0.0.1:1."
