"""The sections of a configuration, each closed (an unknown key is refused) and frozen."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator, model_validator

from twinrun.config.kafka import SecretReader
from twinrun.config.problems import Problem, several
from twinrun.config.values import Count, NotNegative, Offsets, Options, Share, TablePath, Topic, literal_secrets


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


class JobBinding(Section):
    """A job's file, absolute."""

    path: Path


class Stream(Section):
    """How the stream runs. ``max_offsets_per_trigger`` null: no limit."""

    trigger: Literal["available-now", "processing-time"] = "available-now"
    interval_ms: NotNegative = 0
    max_offsets_per_trigger: Count | None = None
    log_flush_micro_batches: Count = 50
    log_flush_s: Count = 120
    lease_ttl_s: Count = 180
    heartbeat_s: Count = 60
    state_store: Literal["rocksdb", "hdfs"] = "rocksdb"

    @model_validator(mode="after")
    def _lease_outlives_heartbeat(self) -> Stream:
        if self.heartbeat_s * 2 > self.lease_ttl_s:
            raise several(
                [
                    Problem(
                        ("heartbeat_s",),
                        f"stream.heartbeat_s is {self.heartbeat_s} with a lease of {self.lease_ttl_s} s",
                        "at most half of stream.lease_ttl_s, so that one missed beat loses nothing",
                    )
                ]
            )
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
    ``small_data``: settings for little data on a local master, see `twinrun.session.small`; ``auto`` looks at the size
    of what a command reads.
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
