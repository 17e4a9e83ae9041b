"""How much a command may read, before its session starts: of tables on this machine, and of topics."""

from __future__ import annotations

from collections.abc import Iterable

from twinrun.config.model import Config
from twinrun.errors import BrokerError
from twinrun.job.job import Job
from twinrun.session.small import MOST_RECORDS, Size, tables_size

_MODES = ("stream", "batch")


def job_size(cfg: Config, job: Job) -> Size:
    """What a command about a job may read: its sources' tables, static tables, and results in both modes. No Spark."""
    refs = [cfg.table(name, source=source.name) for source in job.sources for name in ("events", "quarantine")]
    refs += [cfg.table("bronze", topic=cfg.source(source.name).topic) for source in job.sources]
    refs += [cfg.tables[table.name].path for table in job.tables if table.name in cfg.tables]
    # Above the versions, so that all of them are counted.
    refs += [cfg.table(f"{mode}_results", job=job.job_name, version=1).rpartition("/")[0] for mode in _MODES]
    return tables_size(refs)


def topic_size(cfg: Config, sources: Iterable[str], *, bounded: bool) -> Size:
    """What a run reads from Kafka, in all or in each of its micro-batches. No Spark; at most a few calls to a broker.

    Parameters
    ----------
    sources : iterable of str
        Names of the sources.
    bounded : bool
        The run ends with what the topics hold now; else only ``stream.max_offsets_per_trigger`` says how much it is.
    """
    from twinrun.broker.topics import offset_ranges

    most = cfg.stream.max_offsets_per_trigger
    if most is not None and most <= MOST_RECORDS:
        return Size(0, most)
    if not bounded:
        return Size(0, None)
    found = 0
    for name in sources:
        try:
            ranges = offset_ranges(cfg.kafka.bootstrap_servers, cfg.source(name).topic, cfg.kafka.confluent_options())
        except BrokerError:
            return Size(0, None)
        found += sum(high - low for low, high in ranges.values())
    return Size(0, found)
