"""The sections of a configuration, each closed (an unknown key is refused) and frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, PrivateAttr, field_validator, model_validator

from twinrun.config.problems import (
    Count,
    EmptySection,
    Name,
    NotNegative,
    Offsets,
    Options,
    Problem,
    Servers,
    Share,
    TablePath,
    Topic,
    literal_secrets,
    several,
)
from twinrun.config.secrets import needs_reference, read_secret
from twinrun.durations import parse_ms
from twinrun.errors import ConfigError, InputError

# How Kafka is reached: one set of options, read by two clients that spell security differently.


_LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}


@dataclass(frozen=True, repr=False)
class SecretReader:
    """Reads references at the moment of use. It has no repr, since it holds a whole environment."""

    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    root: Path = field(default_factory=Path.cwd)

    def read(self, section: str, options: Mapping[str, str]) -> dict[str, str]:
        """The options with every secret reference replaced by its value."""
        return {
            key: read_secret(value, f"{section}.{key}", self.env, self.root) if needs_reference(key, value) else value
            for key, value in options.items()
        }

    def secrets(self, section: str, options: Mapping[str, str]) -> tuple[str, ...]:
        """Values of the secret options that can be read now; for masking them in texts."""
        found = []
        for key, value in options.items():
            if needs_reference(key, value):
                try:
                    found.append(read_secret(value, f"{section}.{key}", self.env, self.root))
                except ConfigError:
                    continue
        return tuple(found)

    def __reduce__(self) -> tuple[type[SecretReader], tuple[()]]:
        # A pickled configuration must not carry the environment of this machine to another one.
        return (SecretReader, ())


class Kafka(BaseModel):
    """The brokers and the client options.

    Parameters
    ----------
    bootstrap_servers : str
        ``host:port``, several separated by commas.
    options : dict of str to str
        Kafka client options without the prefix ``kafka.``; secrets as ``${env:NAME}`` or ``file:/path``.
        ``sasl.username``, ``sasl.password`` and ``ssl.ca.location`` serve both clients.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    bootstrap_servers: Servers
    options: Options = {}
    _reader: SecretReader = PrivateAttr(default_factory=SecretReader)

    @field_validator("options")
    @classmethod
    def _sound_options(cls, options: dict[str, str]) -> dict[str, str]:
        problems = literal_secrets("kafka.options", options)
        for key in options:
            name = f"kafka.options.{key}"
            if key.startswith("kafka."):
                short = f"kafka.options.{key.removeprefix('kafka.')}"
                problems.append(Problem((key,), f"{name} has the prefix of Spark", fix=f"write {short}"))
            if key in ("bootstrap.servers", "metadata.broker.list"):
                problems.append(Problem((key,), f"{name} has a key of its own", fix="write kafka.bootstrap_servers"))
            if key.removeprefix("kafka.") == "isolation.level":
                found = f"{name} would count for some commands and not for others; each source has its own"
                problems.append(Problem((key,), found, fix=f"write sources.NAME.isolation_level: {options[key]}"))
        if problems:
            raise several(problems)
        return options

    def client_options(self) -> dict[str, str]:
        """The options as declared, with ``bootstrap.servers`` and the secrets resolved.

        The result holds secrets: hand it to a client, never to a log.

        Raises
        ------
        ConfigError
            A reference cannot be resolved.
        """
        return {"bootstrap.servers": self.bootstrap_servers, **self._reader.read("kafka.options", self.options)}

    def spark_options(self) -> dict[str, str]:
        """The options for Spark's Kafka source and sink: Java names, each with the prefix ``kafka.``."""
        return {f"kafka.{key}": value for key, value in java_options(self.client_options()).items()}

    def confluent_options(self) -> dict[str, str]:
        """The options for confluent-kafka."""
        return librdkafka_options(self.client_options())

    def secret_values(self) -> tuple[str, ...]:
        """Values that must not be seen, as far as they can be read now; for ``redact_text``."""
        return self._reader.secrets("kafka.options", self.options)


def java_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options for the Java client: user and password as a JAAS text, a PEM file of authorities as trust store."""
    made = dict(options)
    if "sasl.mechanisms" in made:
        made.setdefault("sasl.mechanism", made.pop("sasl.mechanisms"))
    user, password = made.pop("sasl.username", None), made.pop("sasl.password", None)
    if user is not None and password is not None and "sasl.jaas.config" not in made:
        module = _LOGIN_MODULES.get(made.get("sasl.mechanism", ""))
        if module is None:
            raise ConfigError(
                "kafka.options has sasl.username, but no sasl.mechanism that takes a user and a password",
                expected=f"one of {', '.join(_LOGIN_MODULES)}",
            )
        made["sasl.jaas.config"] = f"{module} required username={_quoted(user)} password={_quoted(password)};"
    authorities = made.pop("ssl.ca.location", None)
    if authorities is not None and "ssl.truststore.location" not in made:
        made |= {"ssl.truststore.location": authorities, "ssl.truststore.type": "PEM"}
    return made


def librdkafka_options(options: Mapping[str, str]) -> dict[str, str]:
    """Options for librdkafka, which refuses Java's spelling of logins and trust stores."""
    made = dict(options)
    jaas = made.pop("sasl.jaas.config", None)
    if jaas is not None and "sasl.username" not in made and made.get("sasl.mechanism") in _LOGIN_MODULES:
        raise ConfigError(
            "kafka.options has sasl.jaas.config, which confluent-kafka cannot read",
            fix="give kafka.options.sasl.username and kafka.options.sasl.password; Spark's text is made from them",
        )
    store, kind = made.pop("ssl.truststore.location", None), made.pop("ssl.truststore.type", "JKS")
    made.pop("ssl.truststore.password", None)
    if store is not None and "ssl.ca.location" not in made:
        if kind.upper() != "PEM":
            raise ConfigError(
                f"kafka.options has a trust store of type {kind}, which confluent-kafka cannot read",
                fix="give kafka.options.ssl.ca.location, a PEM file; Spark's trust store is made from it",
            )
        made["ssl.ca.location"] = store
    return made


def _quoted(text: str) -> str:
    if "\n" in text or "\r" in text:
        raise ConfigError("a Kafka user or password holds a line break, which a JAAS text cannot carry")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


# A result that another engine wrote: where it is, how its records are read, and what its owner declares about it.


_COLUMN = re.compile(r"\s*\w+\s+(string|bigint|int)\s*", re.IGNORECASE)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _duration(text: str) -> str:
    parse_ms(text)
    return text


def _instant(text: str) -> str:
    try:
        zone = datetime.fromisoformat(text).tzinfo
    except ValueError:
        zone = None
    if zone is None:
        msg = f"{text!r} is not a time with a zone such as 2013-01-06T00:00:00Z"
        raise ValueError(msg)
    return text


Duration = Annotated[str, AfterValidator(_duration)]
Instant = Annotated[str, AfterValidator(_instant)]
LateRuleName = Literal[
    "none",
    "partition-order",
    "kafka-streams",
    "flink-datastream",
    "flink-sql",
    "quix-key",
    "quix-partition",
    "bytewax",
    "pathway-minibatch",
]
PartitionOffsets = Annotated[dict[NotNegative, NotNegative], EmptySection]


class ExternalBinding(BaseModel):
    """The stream side of a job that another engine runs; everything but its place is a declaration of its owner.

    Attributes
    ----------
    table, topic : str
        A Delta or Parquet table, or a Kafka topic with one JSON object per record.
    format : {"delta", "parquet", "json", "quix", "debezium", "diff"} or None
        The table's (None: delta), or what a record is around the row (None: json), see `twinrun.external.formats`.
    key : {"none", "json", "plain", "kafka-streams"}
        Which key columns of the result stand in the record's key, and how, see `twinrun.external.windowed`.
    key_schema : str or None
        With ``plain`` and ``kafka-streams``: column and type of the key's bytes, such as ``shop STRING``.
    time_format : {"epoch_ms", "iso8601"}
        How the records write timestamps.
    rows : {"append", "latest"} or None
        Whether a record is a row of its own or replaces the one with its key; None: as the job's ``emit`` says.
    ignore : list of str
        Columns that are not compared.
    types : dict of str to str
        Columns of a table and the types that their values are read as, where they change none of them.
    naive_time_zone : str or None
        The zone of a table's times without one: UTC, or an offset such as ``+01:00``.
    ready_until : str or None
        ISO instant: windows that end later are pending.
    lateness : str or None
        How far its watermark stays behind the newest event; without ``ready_until`` it says what is pending.
    late_rule : str
        By whose rule events are late (`twinrun.external.rules`), such as ``kafka-streams``.
    restarts : dict of str to list of dict
        By source, for each restart of the engine: partition to the offset at which a clock in memory begins anew.
    retention : str or None
        How long the engine's store keeps a window after a restart; None: a window and ``lateness``, its default.
    start, end : dict
        Offsets by source and partition between which the engine read; ``end`` is exclusive.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    table: TablePath | None = None
    format: Literal["delta", "parquet", "json", "quix", "debezium", "diff"] | None = None
    topic: Topic | None = None
    key: Literal["none", "json", "plain", "kafka-streams"] = "none"
    key_schema: str | None = None
    time_format: Literal["epoch_ms", "iso8601"] = "epoch_ms"
    rows: Literal["append", "latest"] | None = None
    ignore: list[str] = []
    types: Annotated[dict[str, str], EmptySection] = {}
    naive_time_zone: str | None = None
    ready_until: Instant | None = None
    lateness: Duration | None = None
    late_rule: LateRuleName = "none"
    restarts: Annotated[dict[Name, list[PartitionOffsets]], EmptySection] = {}
    retention: Duration | None = None
    start: Annotated[dict[Name, PartitionOffsets], EmptySection] = {}
    end: Annotated[dict[Name, PartitionOffsets], EmptySection] = {}

    @model_validator(mode="after")
    def _says_one_thing(self) -> ExternalBinding:
        problems = []
        if (self.table is None) == (self.topic is None):
            found = "both a table and a topic are given" if self.table else "neither a table nor a topic is given"
            problems.append(Problem((), found, "exactly one of them", "set the other to null"))
        if self.rows == "latest" and self.topic is None:
            found = "rows: latest needs the order of a topic"
            problems.append(Problem(("rows",), found, "a table that holds the latest rows already, with rows: append"))
        if self.topic is not None and (self.types or self.naive_time_zone is not None):
            found = "types and naive_time_zone are for tables: records are read in the result's types"
            problems.append(Problem(("types" if self.types else "naive_time_zone",), found, fix="leave it out"))
        if self.format is not None and (self.topic is None) != (self.format in ("delta", "parquet")):
            found = f"format: {self.format} is for {'records of a topic' if self.topic is None else 'a table'}"
            problems.append(Problem(("format",), found, "delta or parquet of a table, another of a topic"))
        if (self.key in ("plain", "kafka-streams")) != (self.key_schema is not None):
            found = "key_schema goes with key: plain and key: kafka-streams"
            expected = "key_schema such as shop STRING, where one column stands in the record's key as bytes"
            problems.append(Problem(("key" if self.key_schema is None else "key_schema",), found, expected))
        elif self.key_schema is not None and _COLUMN.fullmatch(self.key_schema) is None:
            found = f"key_schema: {self.key_schema!r} is no column with a type"
            problems.append(Problem(("key_schema",), found, "one column that is STRING, BIGINT or INT"))
        if self.key != "none" and self.topic is None:
            problems.append(Problem(("key",), f"key: {self.key} is for records of a topic", fix="leave it out"))
        if self.late_rule != "none" and self.lateness is None:
            problems.append(Problem(("late_rule",), "late_rule needs a lateness", fix="add lateness"))
        if problems:
            raise several(problems)
        return self

    @property
    def place(self) -> str:
        """The table's reference or the topic's name."""
        return self.table or self.topic or ""

    @property
    def key_column(self) -> tuple[str, str]:
        """Name and type of ``key_schema``, the type in small letters."""
        name, _, dtype = (self.key_schema or "").strip().rpartition(" ")
        return name.strip(), dtype.lower()

    @property
    def names_rows(self) -> bool:
        """Whether the records' keys hold key columns of the result, so that a deletion names its row by them."""
        return self.key in ("json", "kafka-streams")

    @property
    def lateness_ms(self) -> int | None:
        """Declared lateness in milliseconds."""
        return None if self.lateness is None else parse_ms(self.lateness)

    @property
    def retention_ms(self) -> int | None:
        """Declared retention of the store in milliseconds."""
        return None if self.retention is None else parse_ms(self.retention)

    @property
    def ready_until_ms(self) -> int | None:
        """Declared end of what is ready, in epoch milliseconds, rounded down."""
        if self.ready_until is None:
            return None
        return (datetime.fromisoformat(self.ready_until) - _EPOCH) // timedelta(milliseconds=1)


class Section(BaseModel):
    """A part of the configuration: closed and frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Isolation = Literal["read_committed", "read_uncommitted"]
"""Kafka's ``isolation.level``: whether records of aborted transactions are read."""


class SourceBinding(Section):
    """A source's topic, where both modes begin to read it, and by which isolation level every command reads it.

    ``starting_offsets``: ``earliest``, ``latest`` or an ISO time. ``isolation_level`` null: Kafka's own default, and
    the ingest says how many records of aborted transactions it reads by it.
    """

    topic: Topic
    starting_offsets: Offsets = "earliest"
    isolation_level: Isolation | None = None

    @property
    def isolation(self) -> Isolation:
        """The level that is used."""
        return self.isolation_level or "read_uncommitted"


class TableBinding(Section):
    """A static table: a Spark path or catalog table."""

    path: TablePath
    format: Literal["delta", "parquet"] = "delta"


class SinkBinding(Section):
    """A topic that a job's results are sent to besides its table, at least once, by both modes."""

    topic: Topic


class JobBinding(Section):
    """A job's file, absolute; and when ``twinrun schedule`` runs its batch: a cron expression (UTC), null for never."""

    path: Path
    schedule: str | None = None

    @field_validator("schedule")
    @classmethod
    def _can_be_read(cls, text: str | None) -> str | None:
        if text is None:
            return None
        # Few configurations have one: the others need not load the library.
        from twinrun.config.cron import read_cron

        try:
            read_cron(text)
        except InputError as error:
            raise several([Problem((), error.found.rstrip("."), error.expected, error.fix)]) from None
        return text


class Stream(Section):
    """How the stream runs, and whether it ``reads`` the topic or bronze. ``max_offsets_per_trigger`` null: no limit."""

    reads: Literal["topic", "bronze"] = "topic"
    trigger: Literal["available-now", "processing-time"] = "available-now"
    interval_ms: NotNegative = 0
    max_offsets_per_trigger: Count | None = None
    log_flush_micro_batches: Count = 50
    log_flush_s: Count = 120
    lease_ttl_s: Count = 180
    heartbeat_s: Count = 60
    state_store: Literal["rocksdb", "hdfs"] = "rocksdb"

    @model_validator(mode="after")
    def _goes_together(self) -> Stream:
        problems = []
        if self.reads == "bronze" and self.max_offsets_per_trigger is not None:
            found = "stream.max_offsets_per_trigger counts records of Kafka, and stream.reads is bronze"
            problems.append(Problem(("max_offsets_per_trigger",), found, "null: bronze is read by whole versions"))
        if self.heartbeat_s * 2 > self.lease_ttl_s:
            found = f"stream.heartbeat_s is {self.heartbeat_s} with a lease of {self.lease_ttl_s} s"
            expected = "at most half of stream.lease_ttl_s, so that one missed beat loses nothing"
            problems.append(Problem(("heartbeat_s",), found, expected))
        if problems:
            raise several(problems)
        return self


class Verify(Section):
    """Limits of a verify; null: no limit. ``max_replay_micro_batches`` 0: nothing is proven by replay.

    ``min_completeness``: the least share (0 to 1) of compared rows that must be equal.
    """

    wait_s: NotNegative = 0
    max_lag_events: NotNegative | None = 100
    max_age_s: NotNegative | None = 3_600
    sample_rows: NotNegative = 20
    max_late_samples: NotNegative = 200
    max_replay_micro_batches: NotNegative | None = 200
    min_completeness: Share | None = None


class Spark(Section):
    """The Spark session; ``conf`` wins over ``conf_file``. ``master`` null: spark-submit says it.

    ``accept_plans_of``: the Spark version whose plan of a job may differ from that of this one.
    ``small_data``: settings for little data on a local master, see `twinrun.session.settings`; ``auto`` looks at the
    size of what a command reads.
    """

    master: str | None = None
    conf_file: str | None = None
    accept_plans_of: str | None = None
    small_data: Literal["auto", "always", "never"] = "auto"
    conf: Options = {}
    _reader: SecretReader = PrivateAttr(default_factory=SecretReader)

    @field_validator("conf")
    @classmethod
    def _sound_conf(cls, conf: dict[str, str]) -> dict[str, str]:
        problems = literal_secrets("spark.conf", conf)
        wrong = (key for key in conf if not key.startswith("spark."))
        problems += [
            Problem((key,), f"spark.conf.{key} is not a Spark setting", "a key that starts with 'spark.'")
            for key in wrong
        ]
        if problems:
            raise several(problems)
        return conf

    def session_conf(self) -> dict[str, str]:
        """``conf`` with the secrets resolved: hand it to a session, never to a log.

        Raises
        ------
        ConfigError
            A reference cannot be resolved.
        """
        return self._reader.read("spark.conf", self.conf)

    def secret_values(self) -> tuple[str, ...]:
        """Values that must not be seen, as far as they can be read now."""
        return self._reader.secrets("spark.conf", self.conf)


class Report(Section):
    """Where reports are written: a local folder."""

    folder: str


class Broker(Section):
    """The development broker: its data folder (null: the user's cache), and partitions of a new topic."""

    data_dir: str | None = None
    partitions: Count = 3
