"""What a user named, found or refused before Spark starts: jobs, sources, topics, tables."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from twinrun.broker.topics import describe_topic
from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.config.sections import ExternalBinding
from twinrun.errors import InputError, TableError
from twinrun.events.decode import decoder_fingerprint
from twinrun.events.source import Source
from twinrun.external.declared import external_binding, need_marks
from twinrun.job.check import check_definition, check_topics
from twinrun.job.job import Job
from twinrun.job.loader import find_job, list_jobs
from twinrun.tables.files import local_path


def job_named(cfg: Config, name: str) -> Job:
    """The job of that name or file, with a definition that has no problems that show without Spark.

    Raises
    ------
    JobError
        There is none (with the nearest name), its file fails, or its definition has problems (all of them).
    ConfigError
        Two of its sources read one topic.
    """
    job = find_job(cfg, name)
    check_definition(job)
    check_topics(cfg, job)
    return job


def sources_named(cfg: Config, name: str) -> list[Source]:
    """The source of that name, or every source of the job of that name or file.

    Raises
    ------
    InputError
        There is neither, or jobs decode the source in different ways. Its lateness and ids are each job's own.
    """
    is_file = name.endswith(".py") or "/" in name
    if name in cfg.jobs or is_file:
        return job_named(cfg, name).sources
    declared = [(file.name, source) for file in list_jobs(cfg) if file.job for source in file.job.sources]
    found = {job: source for job, source in declared if source.name == name}
    if not found:
        known = {*cfg.jobs, *(source.name for _, source in declared)}
        match = nearest(name, known)
        raise InputError(
            f"there is no source and no job {name!r} in {cfg.file}.",
            expected=f"one of {listed(known)}, or the path of a job file" if known else "the path of a job file",
            fix=f"write {match}" if match else "",
        )
    if len({decoder_fingerprint(source) for source in found.values()}) > 1:
        raise InputError(
            f"jobs of {cfg.file} decode the source {name!r} in different ways.",
            expected="a source that all of them declare with one schema and one set of rules",
            fix=f"write the job whose source is meant in its place: {listed(found)}",
        )
    return list(found.values())[:1]


def need_topics(cfg: Config, sources: Iterable[Source]) -> None:
    """Ask the broker for every topic; a few requests.

    Raises
    ------
    BrokerError
        No broker answers, or it lacks a topic.
    """
    for source in sources:
        describe_topic(cfg.kafka.bootstrap_servers, cfg.source(source.name).topic, cfg.kafka.confluent_options())


def need_static(cfg: Config, job: Job) -> None:
    """Refuse a job whose static table is not bound, or is bound to a local folder that is not there."""
    for table in job.tables:
        binding = cfg.tables.get(table.name)
        if binding is None:
            raise InputError(
                f"the job {job.job_name} reads the static table {table.name!r}, which {cfg.file} does not bind.",
                expected="an entry under tables: with a path",
                fix=f"add it, or --set tables.{table.name}.path=PATH",
            )
        need_table(cfg, binding.path, fix=f"write it, or correct tables.{table.name}.path in {cfg.file}")


def need_landed(cfg: Config, job: Job) -> None:
    """Refuse a batch run for which nothing was landed yet."""
    for source in job.sources:
        bronze = cfg.table("bronze", topic=cfg.source(source.name).topic)
        need_table(cfg, bronze, fix=f"land the topic first: twinrun ingest {source.name}")


def need_runs(cfg: Config, job: Job) -> None:
    """Refuse to verify where no mode has ever run."""
    need_table(
        cfg,
        cfg.table("control"),
        fix=f"run both modes first: twinrun stream {job.job_name}, twinrun batch {job.job_name}",
    )


def need_external(cfg: Config, job: Job) -> ExternalBinding:
    """The binding of a job's external result; refuses one that does not go with the job, or is surely not there.

    Raises
    ------
    ConfigError
        There is none, or what it declares does not go with the job.
    InputError
        A mark of a restart lies outside its topic.
    TableError, BrokerError
        Its table or topic is not there, or the batch never ran.
    """
    binding = external_binding(cfg, job)
    need_table(
        cfg,
        cfg.table("control"),
        fix=f"run the batch first: twinrun ingest {job.job_name}, twinrun batch {job.job_name}",
    )
    if binding.table is not None:
        need_table(cfg, binding.table, fix=f"correct external.{job.job_name}.table in {cfg.file}")
    else:
        describe_topic(cfg.kafka.bootstrap_servers, binding.place, cfg.kafka.confluent_options())
    need_marks(cfg, job, binding)
    return binding


def need_table(cfg: Config | None, ref: str, *, fix: str) -> None:
    """Refuse a table whose folder is surely absent; whatever is not on this machine is left to Spark.

    Raises
    ------
    TableError
        There is no such folder.
    """
    folder = local_path(cfg, ref)
    if folder is not None and not folder.exists():
        raise TableError(f"there is no table at {ref}.", expected="a Delta or Parquet table", fix=fix)


def record_place(text: str, topics: Iterable[str], job: str) -> tuple[str, int, int]:
    """Topic, partition and offset of ``TOPIC:PARTITION:OFFSET``.

    Raises
    ------
    InputError
        It is not of that form, or no source of the job reads the topic.
    """
    parts = text.split(":")
    numbers = [part for part in parts[1:] if part.isascii() and part.isdigit()]
    if len(parts) != 3 or len(numbers) != 2 or not parts[0]:
        raise InputError(f"{text!r} names no record.", expected="TOPIC:PARTITION:OFFSET, such as orders:0:17")
    known = sorted(set(topics))
    if parts[0] not in known:
        match = nearest(parts[0], known)
        raise InputError(
            f"{job} does not read the topic {parts[0]!r}.",
            expected=f"one of {listed(known)}",
            fix=f"write {match}" if match else "",
        )
    partition, offset = (int(number) for number in numbers)
    if partition >= 2**31 or offset >= 2**63:
        raise InputError(f"{text!r} names no record.", expected="a partition below 2^31 and an offset below 2^63")
    return parts[0], partition, offset


def instant(text: str, option: str) -> datetime:
    """An ISO time with a zone, as UTC.

    Raises
    ------
    InputError
        It is not one.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise InputError(
            f"{option} {text!r} is not a time with a zone.", expected="such as 2013-01-06T00:00:00Z", fix="add the zone"
        )
    return at.astimezone(UTC)
