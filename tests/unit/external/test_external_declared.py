"""What is declared about an external result: closed keys, one place, and only what goes with the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twinrun import Job, Source
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import BrokerError, ConfigError, InputError
from twinrun.external import declared
from twinrun.external.declared import declared_texts, external_binding, keeps_latest, need_marks

SOURCE = Source("clicks", schema="id STRING NOT NULL, at BIGINT NOT NULL", event_time="at", lateness="1 minute")
KEYS = ["page", "window_start"]
KAFKA = "topic: t, lateness: 1 s, late_rule: kafka-streams"
ENDS = "start: {clicks: {'0': 4}}, end: {clicks: {'0': 9}}"
MANY = str([{"0": offset} for offset in range(11)])
WINDOWED = Job(lambda clicks: clicks, sources=[SOURCE], keys=KEYS, window="1 minute", name="windowed")
LATEST = Job(lambda clicks: clicks, sources=[SOURCE], keys=["page"], emit="updates", name="latest")
SESSION = Job(lambda clicks: clicks, sources=[SOURCE], keys=KEYS, gap="1 minute", name="session")
JOINED = Job(lambda clicks: clicks, sources=[SOURCE, SOURCE], keys=KEYS, window="1 minute", name="joined")


def config(project: Path, external: str) -> Config:
    file = project / "conf/local.yaml"
    text = f"kafka: {{bootstrap_servers: 'b:9092'}}\nwarehouse: ./wh\nreport: {{folder: ./r}}\nexternal: {external}\n"
    file.write_text(text, encoding="utf-8")
    return load_config(file, env={})


def test_a_path_starts_at_the_project_and_defaults_declare_nothing(project: Path) -> None:
    cfg = config(project, "{windowed: {table: ./out}}")

    binding = external_binding(cfg, WINDOWED)

    assert binding.table == str(project / "out")
    assert (binding.ready_until_ms, binding.lateness_ms, binding.late_rule, binding.start) == (None, None, "none", {})
    assert declared_texts(binding, WINDOWED) == ()


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{windowed: {tabel: ./out}}", "external.windowed.table"),
        ("{windowed: {table: ./out, topic: t}}", "both a table and a topic"),
        ("{windowed: {}}", "neither a table nor a topic"),
        ("{windowed: {table: ./out, format: orc}}", "external.windowed.format is 'orc'"),
        ("{windowed: {table: ./out, format: quix}}", "format: quix is for records of a topic"),
        ("{windowed: {topic: t, format: delta}}", "format: delta is for a table"),
        ("{windowed: {topic: t, key: plain}}", "key_schema goes with key: plain"),
        ("{windowed: {table: ./out, key: json}}", "key: json is for records of a topic"),
        ("{windowed: {topic: t, rows: lates}}", "write latest"),
        ("{windowed: {table: ./out, rows: latest}}", "needs the order of a topic"),
        ("{windowed: {topic: t, late_rule: partition-order}}", "add lateness"),
        ("{windowed: {topic: t, lateness: 1 s, late_rule: kafka-stream}}", "write kafka-streams"),
        ("{windowed: {topic: t, restarts: {clicks: {'0': 5}}}}", "a list"),
        ("{windowed: {topic: t, restarts: {clicks: [{'0': -5}]}}}", "at least 0"),
        ("{windowed: {topic: t, lateness: 1 fortnight}}", "is not a duration"),
        ("{windowed: {topic: t, ready_until: 2013-01-06T00:00:00}}", "is not a time with a zone"),
        ("{windowed: {topic: t, start: {clicks: {'0': -1}}}}", "at least 0"),
        ("{windowed: {topic: t, start: {clicks: {zero: 1}}}}", "start"),
        ("{windowed: {topic: t, types: {n: bigint}}}", "are for tables"),
    ],
)
def test_a_bad_section_is_refused_with_its_key(project: Path, section: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(project, section)
    assert says in str(error.value)
    assert "conf/local.yaml line 4" in str(error.value)


@pytest.mark.parametrize(
    ("job", "section", "says"),
    [
        (WINDOWED, "{windowd: {topic: t}}", "rename external.windowd"),
        (
            LATEST,
            "{latest: {topic: t, format: quix, key: plain, key_schema: page STRING}}",
            "format: quix is for tumbling",
        ),
        (LATEST, "{latest: {topic: t, format: diff, rows: latest}}", "each record says what it replaces"),
        (LATEST, "{latest: {topic: t, format: debezium, rows: append}}", "each record says what it replaces"),
        (LATEST, "{latest: {topic: t, key: kafka-streams, key_schema: page STRING}}", "is for windows and sessions"),
        (LATEST, "{}", "--set external.latest.table=PATH"),
        (LATEST, "{latest: {topic: t, ready_until: '2013-01-06T00:00:00Z'}}", "ready_until needs windows"),
        (LATEST, "{latest: {topic: t, lateness: 1 hour}}", "lateness needs windows"),
        (SESSION, "{session: {topic: t, lateness: 1 hour}}", "lateness needs windows"),
        (JOINED, "{joined: {topic: t, lateness: 1 s, late_rule: partition-order}}", "late_rule needs one source"),
        (LATEST, "{latest: {topic: t, lateness: 1 s, late_rule: quix-key}}", "the job has no window"),
        (SESSION, "{session: {topic: t, lateness: 1 s, late_rule: flink-sql}}", "the job has session windows"),
        (WINDOWED, "{windowed: {topic: t, restarts: {clicks: [{'0': 1}]}}}", "late_rule begins anew, and none is"),
        (WINDOWED, f"{{windowed: {{{KAFKA}, restarts: {{click: [{{'0': 1}}]}}}}}}", "restarts.click is not a source"),
        (
            WINDOWED,
            f"{{windowed: {{{KAFKA}, restarts: {{clicks: [{{}}]}}}}}}",
            "restart 1 of clicks names no partition",
        ),
        (
            WINDOWED,
            f"{{windowed: {{{KAFKA}, {ENDS}, restarts: {{clicks: [{{'0': 3}}]}}}}}}",
            "before the declared start 4",
        ),
        (
            WINDOWED,
            f"{{windowed: {{{KAFKA}, {ENDS}, restarts: {{clicks: [{{'0': 10}}]}}}}}}",
            "after the declared end 9",
        ),
        (WINDOWED, f"{{windowed: {{{KAFKA}, restarts: {{clicks: [{{'0': 5}}, {{'0': 5}}]}}}}}}", "and so does another"),
        (WINDOWED, f"{{windowed: {{{KAFKA}, restarts: {{clicks: {MANY}}}}}}}", "at most 10 can be tried"),
        (
            WINDOWED,
            f"{{windowed: {{{KAFKA.replace('kafka-streams', 'quix-key')}, restarts: {{clicks: [{{'0': 5}}]}}}}}}",
            "keeps its clock over a restart",
        ),
        (WINDOWED, "{windowed: {topic: t, end: {click: {'0': 1}}}}", "end.click is not a source of the job"),
        (WINDOWED, "{windowed: {topic: t, ignore: [page]}}", "page names a row of the result"),
        (WINDOWED, "{windowed: {topic: t, start: {x: {}}, ignore: [page]}}", "\n  - "),
    ],
)
def test_what_does_not_go_with_the_job_is_refused(project: Path, job: Job, section: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        external_binding(config(project, section), job)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("job", "place", "latest"),
    [
        (WINDOWED, "topic: t", False),
        (WINDOWED, "topic: t, rows: latest", True),
        (LATEST, "topic: t", True),
        (LATEST, "topic: t, rows: append", False),
        (LATEST, "table: ./t", False),
    ],
)
def test_records_replace_each_other_as_the_job_emits_or_as_declared(
    project: Path, job: Job, place: str, latest: bool
) -> None:
    binding = config(project, f"{{{job.job_name}: {{{place}}}}}").external[job.job_name]
    assert keeps_latest(binding, job) is latest


def test_declarations_are_shown_as_they_were_written(project: Path) -> None:
    section = (
        "{windowed: {topic: t, lateness: 1 hour, late_rule: kafka-streams, start: {clicks: {'0': 4, '1': 5}}, "
        "restarts: {clicks: [{'0': 7}, {'0': 8, '1': 9}]}}}"
    )
    binding: Any = config(project, section).external["windowed"]
    assert declared_texts(binding, WINDOWED) == (
        "rows: each record is a row",
        "lateness: 1 hour",
        "late_rule: kafka-streams",
        "restart of clicks: 0: 7",
        "restart of clicks: 0: 8, 1: 9",
        "start of clicks: 0: 4, 1: 5",
    )


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("{windowed: {table: ./out, types: {n: bignum}}}", "types.n: 'bignum' is not a type"),
        ("{windowed: {table: ./out, naive_time_zone: Europe/Berlin}}", "is not a zone without clock changes"),
        ("{windowed: {table: ./out, types: {n: int}, ignore: [n]}}", "n is ignored, and has a type"),
    ],
)
def test_types_are_looked_at_before_spark_starts(project: Path, section: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        external_binding(config(project, section), WINDOWED)
    assert says in str(error.value)


def test_declared_types_are_said(project: Path) -> None:
    cfg = config(project, "{windowed: {table: ./out, types: {n: bigint}, naive_time_zone: '+01:00'}}")
    assert declared_texts(external_binding(cfg, WINDOWED), WINDOWED) == ("types: n bigint", "naive_time_zone: +01:00")


def test_a_mark_outside_its_topic_is_refused_before_spark_and_a_silent_broker_is_not_waited_for(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = f"{{windowed: {{{KAFKA}, restarts: {{clicks: [{{'0': 5}}, {{'1': 9}}]}}}}}}"
    cfg = config(project, f"{section}\nsources: {{clicks: {{topic: clicks}}}}")
    binding = external_binding(cfg, WINDOWED)

    def answers(ends: dict[int, tuple[int, int]] | BrokerError) -> Any:
        def ask(*_: Any) -> dict[int, tuple[int, int]]:
            if isinstance(ends, BrokerError):
                raise ends
            return ends

        return ask

    for ends, says in (
        ({0: (0, 5), 1: (8, 9)}, ""),
        ({0: (0, 4), 1: (0, 9)}, "offset 5 of partition 0, which lies outside: topic clicks ends at offset 4 there"),
        ({0: (0, 5)}, "offset 9 of partition 1, which lies outside: topic clicks has the partitions 0"),
        (BrokerError("nobody answers"), ""),
    ):
        monkeypatch.setattr(declared, "offset_ranges", answers(ends))
        if not says:
            need_marks(cfg, WINDOWED, binding)
            continue
        with pytest.raises(InputError) as error:
            need_marks(cfg, WINDOWED, binding)
        assert says in str(error.value)
