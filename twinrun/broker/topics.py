"""What a broker says about its topics, and how an input topic is made; for any broker, by address only.

Every function ends within its limit, 10 s by default, and turns a failure into one sentence. Client options
(security) are handed to the client and shown nowhere.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its names are not declared as exported
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from twinrun.errors import BrokerError, TopicError

LIMIT_S = 8.0
_NO_LEADER, _NO_TOPIC = "has no leader", "has no topic"
# CreateTime keeps the instant at which an event became known; the default retention would delete old events.
INPUT_TOPIC_CONFIG = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
SHOWN_CONFIG = ("cleanup.policy", "message.timestamp.type", "retention.ms")
_GRACE_S = 1.0
_SILENT = logging.getLogger("twinrun.broker.client")
_SILENT.addHandler(logging.NullHandler())
_SILENT.propagate = False
_T = TypeVar("_T")


@dataclass(frozen=True)
class TopicInfo:
    """A topic as its broker describes it.

    Attributes
    ----------
    name : str
        The topic.
    partitions : int
        How many there are; they count from 0.
    topic_id : str
        Changes when a topic is deleted and made again under the same name.
    config : mapping of str to str
        ``cleanup.policy``, ``message.timestamp.type`` and ``retention.ms`` where the broker shows them.
    """

    name: str
    partitions: int
    topic_id: str
    config: Mapping[str, str]


def cluster_id(bootstrap: str, options: Mapping[str, str] | None = None, *, limit_s: float = LIMIT_S) -> str:
    """The id of the cluster that answers at ``bootstrap``; the cheapest way to see whether one does.

    Raises
    ------
    BrokerError
        None answers within ``limit_s``.
    """
    client = _client(bootstrap, options)
    return str(_answer(bootstrap, client.describe_cluster(request_timeout=limit_s), limit_s).cluster_id)


def create_topic(
    bootstrap: str,
    name: str,
    partitions: int,
    options: Mapping[str, str] | None = None,
    *,
    config: Mapping[str, str] | None = None,
) -> TopicInfo:
    """Make an input topic: the producer's timestamps are kept and nothing expires.

    Parameters
    ----------
    bootstrap : str
        ``host:port``, several separated by commas.
    name : str
        The topic.
    partitions : int
        At least 1.
    options : mapping of str to str, optional
        More client options, such as security; never shown.
    config : mapping of str to str, optional
        More topic settings; they win over the two that an input topic has.

    Raises
    ------
    BrokerError
        The topic exists already, a setting is refused, or no broker answers.
    """
    client = _client(bootstrap, options)
    wanted = NewTopic(
        name, num_partitions=partitions, replication_factor=-1, config={**INPUT_TOPIC_CONFIG, **(config or {})}
    )
    _answer(bootstrap, client.create_topics([wanted], operation_timeout=LIMIT_S)[name], LIMIT_S, name)
    return _described_soon(bootstrap, name, options)


def describe_topic(bootstrap: str, name: str, options: Mapping[str, str] | None = None) -> TopicInfo:
    """Partitions, id and settings of a topic; two requests.

    Raises
    ------
    BrokerError
        There is no such topic, or no broker answers.
    """
    client = _client(bootstrap, options)
    asked = client.describe_topics(TopicCollection([name]), request_timeout=LIMIT_S)
    described = _answer(bootstrap, asked[name], LIMIT_S, name)
    resource = ConfigResource(ResourceType.TOPIC, name)
    settings = client.describe_configs([resource], request_timeout=LIMIT_S)
    entries = _answer(bootstrap, settings[resource], LIMIT_S, name)
    config = {key: str(entries[key].value) for key in SHOWN_CONFIG if key in entries}
    return TopicInfo(name, len(described.partitions), str(described.topic_id), config)


def all_topics(bootstrap: str, options: Mapping[str, str] | None = None) -> dict[str, int]:
    """Every topic with its number of partitions, in alphabetical order; Kafka's own begin with ``__``. One request.

    Raises
    ------
    BrokerError
        No broker answers.
    """
    client = _client(bootstrap, options)
    try:
        # Asking for one by name would make it, on a broker that allows that.
        found = client.list_topics(timeout=LIMIT_S).topics
    except KafkaException as error:
        failure = _sentence(bootstrap, "", error)
        raise failure from None
    return {name: len(found[name].partitions) for name in sorted(found)}


def offset_counts(
    bootstrap: str, topics: Mapping[str, int], options: Mapping[str, str] | None = None
) -> dict[str, int]:
    """How many offsets each of these topics holds now, all partitions together; two requests.

    Markers of transactions and what compaction has removed take offsets too.

    Parameters
    ----------
    topics : mapping of str to int
        Topics with their numbers of partitions, as `all_topics` gives them.

    Raises
    ------
    BrokerError
        No broker answers, or one of the topics is gone.
    """
    places = [TopicPartition(name, number) for name, count in topics.items() for number in range(count)]
    if not places:
        return {}
    client = _client(bootstrap, options)
    counts = dict.fromkeys(topics, 0)
    for sign, spec in ((1, OffsetSpec.latest()), (-1, OffsetSpec.earliest())):  # type: ignore[no-untyped-call]
        asked = client.list_offsets(dict.fromkeys(places, spec), request_timeout=LIMIT_S)
        for place, answer in asked.items():
            counts[place.topic] += sign * int(_answer(bootstrap, answer, LIMIT_S, place.topic).offset)
    return counts


def offsets_at(
    bootstrap: str, name: str, at_ms: int, options: Mapping[str, str] | None = None, *, committed: bool = False
) -> dict[int, int]:
    """The offset of the first record of each partition whose timestamp is not before an instant, else its end.

    Parameters
    ----------
    at_ms : int
        UTC epoch milliseconds.

    Raises
    ------
    BrokerError
        There is no such topic, or no broker answers.
    """
    ranges = offset_ranges(bootstrap, name, options, committed=committed)
    client = _client(bootstrap, options)
    spec = OffsetSpec.for_timestamp(at_ms)
    found = _offsets(client, bootstrap, name, len(ranges), spec, committed)
    return {partition: end if found[partition] < 0 else found[partition] for partition, (_, end) in ranges.items()}


def offset_ranges(
    bootstrap: str, name: str, options: Mapping[str, str] | None = None, *, committed: bool = False
) -> dict[int, tuple[int, int]]:
    """The first offset that is readable and the one after the last, for each partition of a topic.

    Parameters
    ----------
    committed : bool
        Stop before the first transaction that is still open.

    Returns
    -------
    dict of int to (int, int)
        ``{partition: (low, high)}`` in partition order; equal numbers mean an empty partition.

    Raises
    ------
    BrokerError
        There is no such topic, or no broker answers.
    """
    count = describe_topic(bootstrap, name, options).partitions
    client = _client(bootstrap, options)
    low = _offsets(client, bootstrap, name, count, OffsetSpec.earliest(), committed)  # type: ignore[no-untyped-call]
    high = _offsets(client, bootstrap, name, count, OffsetSpec.latest(), committed)  # type: ignore[no-untyped-call]
    return {partition: (low[partition], high[partition]) for partition in range(count)}


def _asked_again(ask: Callable[[], _T], words: str) -> _T:
    """What a broker says, asked for two seconds as long as it refuses with these words."""
    for _ in range(20):
        try:
            return ask()
        except BrokerError as error:
            if words not in error.found:
                raise
            time.sleep(0.1)
    return ask()


def _described_soon(bootstrap: str, name: str, options: Mapping[str, str] | None) -> TopicInfo:
    """A topic that was made just now may still be unknown to the broker that is asked."""
    return _asked_again(lambda: describe_topic(bootstrap, name, options), _NO_TOPIC)


def _offsets(
    client: AdminClient, bootstrap: str, name: str, count: int, spec: OffsetSpec, committed: bool
) -> dict[int, int]:
    """A topic that was made just now, or whose leader moves, has no leader to ask for a moment."""
    return _asked_again(lambda: _offsets_now(client, bootstrap, name, count, spec, committed), _NO_LEADER)


def _offsets_now(
    client: AdminClient, bootstrap: str, name: str, count: int, spec: OffsetSpec, committed: bool
) -> dict[int, int]:
    wanted = {TopicPartition(name, partition): spec for partition in range(count)}
    level = IsolationLevel.READ_COMMITTED if committed else IsolationLevel.READ_UNCOMMITTED
    asked = client.list_offsets(wanted, isolation_level=level, request_timeout=LIMIT_S)
    return {place.partition: int(_answer(bootstrap, answer, LIMIT_S, name).offset) for place, answer in asked.items()}


def _client(bootstrap: str, options: Mapping[str, str] | None) -> AdminClient:
    settings: dict[str, Any] = {"socket.timeout.ms": int(LIMIT_S * 1000), "log_level": 0, "logger": _SILENT}
    try:
        return AdminClient({**settings, **(options or {}), "bootstrap.servers": bootstrap})
    except (KafkaException, ValueError, TypeError) as error:
        name = _refused_option(error, options or {})
        raise BrokerError(
            f"The Kafka client refuses its options{f', first {name!r}' if name else ''}.",
            expected="options as librdkafka names them",
            fix="look at the kafka options in conf/*.yaml",
        ) from None


def _refused_option(error: Exception, options: Mapping[str, str]) -> str:
    """Only an option's name may be shown, since the client's own message can hold its value."""
    text = str(error)
    return next((name for name in options if f'"{name}"' in text), "")


def _answer(bootstrap: str, answer: Future[_T], limit_s: float, topic: str = "") -> _T:
    """The answer, or a plain error that leads to no frame of the caller.

    A client must be freed by its own caller and only when its thread has delivered the answer: freed from there, or
    by the collector in that thread, it ends the process. So the library's own time limit always comes first.
    """
    try:
        return answer.result(timeout=limit_s + _GRACE_S)
    except (KafkaException, FutureTimeoutError) as error:
        failure = _sentence(bootstrap, topic, error)
        error.__traceback__ = None
    try:
        raise failure
    finally:
        del failure


def _sentence(bootstrap: str, topic: str, error: Exception) -> BrokerError:
    reason = error.args[0] if isinstance(error, KafkaException) else None
    code = reason.name() if reason is not None else "_TIMED_OUT"
    if code == "UNKNOWN_TOPIC_OR_PART":
        return TopicError(f"The broker at {bootstrap} {_NO_TOPIC} {topic!r}.", fix="create it, or name another")
    if code == "TOPIC_ALREADY_EXISTS":
        return BrokerError(f"The broker at {bootstrap} already has a topic {topic!r}.", fix="use it, or name another")
    if code in ("_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "REQUEST_TIMED_OUT"):
        return BrokerError(
            f"No Kafka broker answers at {bootstrap}.",
            fix="start one (twinrun broker start), or look at the address and the security options",
        )
    if code in ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE"):
        found = f"A partition of {topic!r} {_NO_LEADER} at {bootstrap} right now."
        return BrokerError(found, fix="try again in a moment; if it stays so, look at the brokers' logs")
    words = reason.str().rstrip(".") if reason is not None else ""
    return BrokerError(f"The broker at {bootstrap} refused the request{f' for {topic!r}' if topic else ''}: {words}.")
