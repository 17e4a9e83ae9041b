"""Say again what the last verify of a job said, where nothing that it looked at has moved since.

What it looked at: the newest versions of both result tables, of bronze, events, quarantine and the micro-batch log, the
stream's last committed micro-batch, the records of the control table about the job and its sources, the topics' ends,
the job's code and the settings. A table whose files were changed without a commit has not moved by this: ``--full``
looks at everything again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession

from twinrun.broker.topics import offset_ranges
from twinrun.cli.reread import read_verdict
from twinrun.config.model import Config
from twinrun.config.problems import is_path
from twinrun.errors import BrokerError, InputError
from twinrun.explain.coverage import records_of, tables_of
from twinrun.job.code import project_text
from twinrun.job.job import Job
from twinrun.report.json_ import render_json
from twinrun.results.state import BATCH, STREAM
from twinrun.results.verdict import Verdict
from twinrun.tables.checkpoint import last_committed
from twinrun.tables.control import Record, add_record, latest_records
from twinrun.tables.delta import newest_logged
from twinrun.tables.kafka import topic_info

KIND = "verdict"
"""Kind of the control record, by job, that says which report may be said again, and while what stands where."""

_SAME = "this is its verdict."

_REPEATABLE = ("agree", "explained", "differ")
_PACKAGES = ("twinrun", "pyspark", "delta-spark", "great-expectations")


@dataclass(frozen=True)
class Standing:
    """Where everything stands that a verify looks at, as one digest; and the record of the last verdict."""

    digest: str
    last: Record | None


def standing(spark: SparkSession, cfg: Config, job: Job, strict: bool) -> Standing | None:
    """Where everything stands now; None where that cannot be told without reading tables. Two small Spark jobs.

    It cannot be told of tables in a catalog, before both modes have run, and while Kafka does not answer.
    """
    topics = {source.name: cfg.source(source.name).topic for source in job.sources}
    asked = [(kind, job.job_name) for kind in (STREAM, BATCH, KIND)]
    found = latest_records(spark, cfg, [*asked, *records_of(cfg, job)])
    stream, batch = found.get((STREAM, job.job_name)), found.get((BATCH, job.job_name))
    if stream is None or batch is None:
        return None
    refs = [stream.payload["table"], batch.payload["table"], *tables_of(cfg, job)]
    refs += [cfg.tables[table.name].path for table in job.tables if table.name in cfg.tables]
    if not all(is_path(ref) for ref in refs):
        return None
    try:
        ends = {topic: _topic(cfg, name, topic) for name, topic in topics.items()}
    except BrokerError:
        return None
    parts = {
        "records": {"/".join(key): each.seq for key, each in found.items() if key[0] != KIND},
        "tables": {ref: newest_logged(spark, ref) for ref in refs},
        "committed": last_committed(spark, stream.payload["checkpoint"]),
        "topics": ends,
        "job": _job(job),
        "settings": [_settings(cfg, job), strict],
        "packages": {name: _version(name) for name in _PACKAGES},
    }
    return Standing(_digest(json.dumps(parts, sort_keys=True, default=str)), found.get((KIND, job.job_name)))


def said_again(now: Standing | None, report: Path) -> Verdict | None:
    """The last verdict, with a note, where all stands as it stood then and its report as it was written. No Spark job.

    Parameters
    ----------
    report : Path
        The JSON report of the last verify. Nothing of its rows is kept elsewhere, so that an erasure need not look for
        them.
    """
    last = None if now is None else now.last
    if now is None or last is None or last.payload["standing"] != now.digest or not report.exists():
        return None
    try:
        read = read_verdict(report)
    except InputError:  # damaged since, or of another twinrun
        return None
    # As it was found: a verdict that was said again has a note of its own, in the report too.
    verdict = replace(read, notes=tuple(each for each in read.notes if _SAME not in each))
    if _digest(render_json(verdict)) != last.payload["report"]:
        return None
    at = datetime.fromtimestamp(verdict.cut.taken_at_ms / 1000, UTC)
    note = (
        f"Nothing has moved since the verify of {at:%Y-%m-%d %H:%M:%S} UTC, neither a table, nor the log, nor a topic: "
        f"{_SAME} --full looks at everything again."
    )
    return replace(verdict, notes=(note, *verdict.notes))


def remember(
    spark: SparkSession, cfg: Config, job: Job, strict: bool, before: Standing | None, verdict: Verdict
) -> None:
    """Keep that a verdict may be said again, where nothing has moved while it was made. Four small Spark jobs, or none.

    Only one that is ``agree``, ``explained`` or ``differ`` over a stream that had read everything. Of two verifies that
    end at once the later counts.

    Parameters
    ----------
    before : Standing or None
        Where all stood before the verify looked at anything.
    """
    if before is None or verdict.outcome not in _REPEATABLE or verdict.stream_lag_events != 0:
        return
    after = standing(spark, cfg, job, strict)
    # What moved while it was looked at, before or after it was read, is looked at again.
    if after is not None and after.digest == before.digest:
        kept = {"standing": after.digest, "report": _digest(render_json(verdict))}
        add_record(spark, cfg, KIND, job.job_name, kept)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _topic(cfg: Config, source: str, topic: str) -> list[Any]:
    committed = cfg.source(source).isolation == "read_committed"
    options = cfg.kafka.confluent_options()
    ranges = offset_ranges(cfg.kafka.bootstrap_servers, topic, options, committed=committed)
    info = topic_info(cfg, topic)
    # A topic that was made anew may have as many records.
    return [sorted(ranges.items()), info.topic_id, info.config]


def _job(job: Job) -> list[str]:
    """The text of its file and of the modules of its project, and what was declared."""
    return [project_text(job), repr({name: value for name, value in vars(job).items() if not callable(value)})]


def _settings(cfg: Config, job: Job) -> dict[str, Any]:
    sources = {source.name: cfg.source(source.name).model_dump() for source in job.sources}
    return {"verify": cfg.verify.model_dump(), "sources": sources, "stream": cfg.stream.model_dump()}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # from a zip, where spark-submit has it
        return ""
