"""What is declared about an external result, held against the job before Spark starts."""

from __future__ import annotations

from twinrun.broker.topics import offset_ranges
from twinrun.comparator.schema import offset_s, type_named
from twinrun.config.model import Config
from twinrun.config.problems import listed, nearest
from twinrun.config.sections import ExternalBinding
from twinrun.durations import human
from twinrun.errors import BrokerError, ConfigError, InputError
from twinrun.external.rules import MOST_RESTARTS, restarts_problem
from twinrun.job.job import Job

_SHOWN = 8


def external_binding(cfg: Config, job: Job) -> ExternalBinding:
    """The binding of a job's external result, sound for this job. Nothing is opened.

    Raises
    ------
    ConfigError
        The job has none, or what it declares does not go with the job; all problems together.
    """
    name = job.job_name
    binding = cfg.external.get(name)
    if binding is None:
        match = nearest(name, cfg.external)
        known = f"; it has {listed(cfg.external)}" if cfg.external else ""
        raise ConfigError(
            f"{cfg.file} does not say where another engine's result of {name} is.",
            expected=f"external.{name} with a table or a topic{known}",
            fix=f"rename external.{match}" if match else f"add it, or --set external.{name}.table=PATH",
        )
    problems = [
        *_wrong_windows(binding, job),
        *_wrong_restarts(binding, job),
        *_wrong_names(binding, job),
        *_wrong_types(binding),
        *_wrong_key(binding, job),
        *_wrong_format(binding, job),
    ]
    if problems:
        where = f"external.{name} in {cfg.file}"
        text = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"{where} does not go with the job: {text}.")
    return binding


def keeps_latest(binding: ExternalBinding, job: Job) -> bool:
    """Whether a record of the topic replaces the one with its key."""
    if binding.topic is None or binding.format == "diff":
        return False
    return (
        binding.format == "debezium" or (binding.rows or ("latest" if job.emit == "updates" else "append")) == "latest"
    )


def key_columns(binding: ExternalBinding, job: Job) -> list[str]:
    """The key columns of the result that a record's key holds."""
    if binding.key == "plain":
        return [binding.key_column[0]]
    return list(job.keys) if binding.names_rows else []


def need_place(binding: ExternalBinding) -> str:
    """Where the rows come from, in words."""
    return f"topic {binding.topic}" if binding.topic is not None else f"table {binding.table}"


def declared_texts(binding: ExternalBinding, job: Job) -> tuple[str, ...]:
    """Each declaration as a text such as ``lateness: 1 hour``, for the report."""
    texts = []
    if binding.topic is not None:
        kind = "the latest record per key" if keeps_latest(binding, job) else "each record is a row"
        texts.append("rows: what was written and not taken back" if binding.format == "diff" else f"rows: {kind}")
        texts += [f"format: {binding.format}"] if binding.format is not None else []
    texts += [
        f"{name}: {value}"
        for name, value in (("ready_until", binding.ready_until), ("lateness", binding.lateness))
        if value is not None
    ]
    if binding.late_rule != "none":
        texts.append(f"late_rule: {binding.late_rule}")
    for source, marks in binding.restarts.items():
        texts += [f"restart of {source}: {_shown(mark)}" for mark in marks]
    if binding.retention is not None:
        texts.append(f"retention: {binding.retention}")
    for name, offsets in (("start", binding.start), ("end", binding.end)):
        texts += [f"{name} of {source}: {_shown(partitions)}" for source, partitions in offsets.items()]
    if binding.ignore:
        texts.append(f"ignore: {', '.join(binding.ignore)}")
    if binding.types:
        texts.append(f"types: {', '.join(f'{name} {text}' for name, text in binding.types.items())}")
    if binding.naive_time_zone is not None:
        texts.append(f"naive_time_zone: {binding.naive_time_zone}")
    return tuple(texts)


def _shown(partitions: dict[int, int]) -> str:
    shown = ", ".join(f"{partition}: {offset}" for partition, offset in list(partitions.items())[:_SHOWN])
    return f"{shown}, {len(partitions) - _SHOWN} more" if len(partitions) > _SHOWN else shown


def need_marks(cfg: Config, job: Job, binding: ExternalBinding) -> None:
    """Refuse marks of restarts outside the topic, as its broker has it; one that is silent is not waited for.

    Raises
    ------
    InputError
        A mark names a partition that the topic does not have, or an offset beyond its end.
    """
    for name in binding.restarts:
        topic = cfg.source(name).topic
        try:
            ranges = offset_ranges(cfg.kafka.bootstrap_servers, topic, cfg.kafka.confluent_options())
        except BrokerError:
            return  # verify says that Kafka is silent, and holds the marks against what the batch has read
        need_marks_within(job, binding, name, {p: high for p, (_, high) in ranges.items()}, f"topic {topic}")


def need_marks_within(job: Job, binding: ExternalBinding, source: str, ends: dict[int, int], whose: str) -> None:
    """Refuse marks of restarts of unknown partitions, or beyond the ends that are known. Pure but for the error."""
    for mark in binding.restarts.get(source, []):
        for partition, offset in mark.items():
            if partition in ends and offset <= ends[partition]:
                continue
            where = f"external.{job.job_name}.restarts.{source}"
            what = f"ends at offset {ends[partition]}" if partition in ends else f"has the {_partitions(ends)}"
            raise InputError(
                f"{where} has a restart at offset {offset} of partition {partition}, which lies outside: {whose} {what}"
                f"{' there' if partition in ends else ''}.",
                expected="the offset of the first record that the engine read after it began anew",
                fix=f"correct or remove the mark in {where}",
            )


def _partitions(ends: dict[int, int]) -> str:
    return f"partitions {listed([str(p) for p in sorted(ends)])}" if ends else "no partition with records"


def _wrong_restarts(binding: ExternalBinding, job: Job) -> list[str]:
    """Marks of restarts that do not go with the rule, or with each other and the declared offsets."""
    problems = [restarts_problem(binding.late_rule)] if any(binding.restarts.values()) else []
    if binding.retention is not None and not any(binding.restarts.values()):
        problems.append("retention says what a store still has after a restart, and no restarts are declared")
    elif binding.retention_ms is not None and job.window_ms is not None:
        least = job.window_ms + (binding.lateness_ms or 0)
        if binding.retention_ms < least:
            problems.append(
                f"retention is {binding.retention}, and a store keeps at least a window and the lateness, "
                f"{human(least)}"
            )
    for source, marks in binding.restarts.items():
        if len(marks) > MOST_RESTARTS:
            problems.append(f"restarts.{source} has {len(marks)} restarts, and at most {MOST_RESTARTS} can be tried")
        seen: set[tuple[int, int]] = set()
        for number, mark in enumerate(marks, 1):
            if not mark:
                problems.append(f"restart {number} of {source} names no partition")
            for partition, offset in mark.items():
                start = binding.start.get(source, {}).get(partition, 0)
                end = binding.end.get(source, {}).get(partition)
                at = f"restart {number} of {source} lies at offset {offset} of partition {partition}"
                if offset < start:
                    problems.append(f"{at}, before the declared start {start}")
                if end is not None and offset > end:
                    problems.append(f"{at}, after the declared end {end}")
                if (partition, offset) in seen:
                    problems.append(f"{at}, and so does another")
                seen.add((partition, offset))
    return [problem for problem in problems if problem]


def _wrong_windows(binding: ExternalBinding, job: Job) -> list[str]:
    problems = []
    waits = job.windowed and job.emit == "final"
    if binding.ready_until is not None and not waits:
        problems.append("ready_until needs windows of a fixed length that are emitted when they close")
    if binding.lateness is not None and not job.windowed:
        problems.append("lateness needs windows of a fixed length")
    if binding.late_rule != "none" and not job.windowed:
        has = "session windows" if job.shape == "session" else "no window"
        problems.append(f"late_rule: {binding.late_rule} is for tumbling and sliding windows, and the job has {has}")
    if binding.late_rule != "none" and len(job.sources) != 1:
        problems.append(f"late_rule needs one source, and the job has {len(job.sources)}")
    return problems


def _wrong_names(binding: ExternalBinding, job: Job) -> list[str]:
    problems = []
    sources = [source.name for source in job.sources]
    for key, named in (("start", binding.start), ("end", binding.end), ("restarts", binding.restarts)):
        for name in named:
            if name not in sources:
                match = nearest(name, sources)
                hint = f" (the nearest is {match})" if match else ""
                problems.append(f"{key}.{name} is not a source of the job; it has {listed(sources)}{hint}")
    needed = [*job.keys, job.window_column] if job.windowed else job.keys
    problems += [f"{name} names a row of the result and cannot be ignored" for name in binding.ignore if name in needed]
    return problems


def _wrong_key(binding: ExternalBinding, job: Job) -> list[str]:
    """A key of bytes that does not go with the result's."""
    if binding.key_schema is None:
        return []
    if binding.key == "kafka-streams" and not job.windowed and job.shape != "session":
        return ["key: kafka-streams is for windows and sessions, and the job has none"]
    if job.shape == "session" and binding.key == "kafka-streams" and job.window_column not in job.keys:
        return [f"key: kafka-streams holds the start of a session, and {job.window_column} is no key column"]
    name, _ = binding.key_column
    others = [key for key in job.keys if key != job.window_column]
    if name in others:
        return []
    return [f"key_schema names {name}, which is no key column of the result; it has {listed(others)}"]


def _wrong_format(binding: ExternalBinding, job: Job) -> list[str]:
    """A format of records that a result of this job cannot have."""
    replaces = binding.format == "diff" or (binding.format == "debezium" and binding.rows == "append")
    if binding.rows is not None and replaces:
        return [f"rows is {binding.rows}, and with format: {binding.format} each record says what it replaces"]
    if binding.format == "quix" and not job.windowed:
        return ["format: quix is for tumbling and sliding windows, and the job has none"]
    if binding.format == "debezium" and not job.keys:
        return ["format: debezium says by its keys which row a change is of, and the job has no keys"]
    return []


def _wrong_types(binding: ExternalBinding) -> list[str]:
    problems = []
    for key, text, read in (
        *(("types." + name, text, type_named) for name, text in binding.types.items()),
        *([("naive_time_zone", binding.naive_time_zone, offset_s)] if binding.naive_time_zone is not None else []),
    ):
        try:
            read(text)
        except InputError as error:
            problems.append(f"{key}: {error.found.rstrip('.')}; expected {error.expected}")
    both = sorted({*binding.types} & {*binding.ignore})
    return problems + [f"{name} is ignored, and has a type" for name in both]


def need_batch(job: Job) -> InputError:
    """The error of a job whose batch never ran."""
    return InputError(
        f"there is nothing to compare the external result of {job.job_name} with: it has no batch result yet.",
        fix=f"run: twinrun ingest {job.sources[0].name} and twinrun batch {job.job_name}",
    )
