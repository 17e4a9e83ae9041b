"""What is declared about an external result, held against the job before Spark starts."""

from __future__ import annotations

from twinrun.comparator.declared import offset_s, type_named
from twinrun.config.external import ExternalBinding
from twinrun.config.model import Config
from twinrun.config.nearest import listed, nearest
from twinrun.errors import ConfigError, InputError
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
    problems = [*_wrong_windows(binding, job), *_wrong_names(binding, job), *_wrong_types(binding)]
    if problems:
        where = f"external.{name} in {cfg.file}"
        text = problems[0] if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise ConfigError(f"{where} does not go with the job: {text}.")
    return binding


def keeps_latest(binding: ExternalBinding, job: Job) -> bool:
    """Whether a record of the topic replaces the one with its key."""
    if binding.topic is None:
        return False
    return (binding.rows or ("latest" if job.emit == "updates" else "append")) == "latest"


def need_place(binding: ExternalBinding) -> str:
    """Where the rows come from, in words."""
    return f"topic {binding.topic}" if binding.topic is not None else f"table {binding.table}"


def declared_texts(binding: ExternalBinding, job: Job) -> tuple[str, ...]:
    """Each declaration as a text such as ``lateness: 1 hour``, for the report."""
    texts = []
    if binding.topic is not None:
        kind = "the latest record per key" if keeps_latest(binding, job) else "each record is a row"
        texts.append(f"rows: {kind}")
    texts += [
        f"{name}: {value}"
        for name, value in (("ready_until", binding.ready_until), ("lateness", binding.lateness))
        if value is not None
    ]
    if binding.late_rule != "none":
        texts.append(f"late_rule: {binding.late_rule}")
    for name, offsets in (("start", binding.start), ("end", binding.end)):
        for source, partitions in offsets.items():
            shown = ", ".join(f"{partition}: {offset}" for partition, offset in list(partitions.items())[:_SHOWN])
            more = f", {len(partitions) - _SHOWN} more" if len(partitions) > _SHOWN else ""
            texts.append(f"{name} of {source}: {shown}{more}")
    if binding.ignore:
        texts.append(f"ignore: {', '.join(binding.ignore)}")
    if binding.types:
        texts.append(f"types: {', '.join(f'{name} {text}' for name, text in binding.types.items())}")
    if binding.naive_time_zone is not None:
        texts.append(f"naive_time_zone: {binding.naive_time_zone}")
    return tuple(texts)


def _wrong_windows(binding: ExternalBinding, job: Job) -> list[str]:
    problems = []
    waits = job.windowed and job.emit == "final"
    if binding.ready_until is not None and not waits:
        problems.append("ready_until needs windows of a fixed length that are emitted when they close")
    if binding.lateness is not None and not job.windowed:
        problems.append("lateness needs windows of a fixed length")
    if binding.late_rule != "none" and len(job.sources) != 1:
        problems.append(f"late_rule needs one source, and the job has {len(job.sources)}")
    return problems


def _wrong_names(binding: ExternalBinding, job: Job) -> list[str]:
    problems = []
    sources = [source.name for source in job.sources]
    for key, offsets in (("start", binding.start), ("end", binding.end)):
        for name in offsets:
            if name not in sources:
                match = nearest(name, sources)
                hint = f" (the nearest is {match})" if match else ""
                problems.append(f"{key}.{name} is not a source of the job; it has {listed(sources)}{hint}")
    needed = [*job.keys, job.window_column] if job.windowed else job.keys
    problems += [f"{name} names a row of the result and cannot be ignored" for name in binding.ignore if name in needed]
    return problems


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
