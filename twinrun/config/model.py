"""The configuration as one frozen object: what stands in ``conf/*.yaml``, and the names of tables made from it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from twinrun.config.problems import (
    EmptySection,
    FolderPath,
    Name,
    Problem,
    TablePath,
    is_path,
    listed,
    nearest,
    several,
)
from twinrun.config.sections import (
    Broker,
    ExternalBinding,
    JobBinding,
    Kafka,
    Report,
    SinkBinding,
    SourceBinding,
    Spark,
    Stream,
    TableBinding,
    Verify,
)
from twinrun.errors import ConfigError

# Names of the tables: templates with placeholders, filled into paths or catalog identifiers.


_PART = re.compile(r"[\w.\-]+")

PLACEHOLDERS: Final[Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "bronze": (("topic",), ()),
    "events": (("source",), ("topic",)),
    "quarantine": (("source",), ("topic",)),
    "batch_results": (("job", "version"), ()),
    "stream_results": (("job", "version"), ()),
    "static": (("table",), ()),
}
"""Placeholders that a template must have (without them two tables would be one), and those that it may have."""


class Layout(BaseModel):
    """Where each table lives. A template holds placeholders in braces and nothing of a certain machine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bronze: str = "{warehouse}/bronze/{topic}"
    events: str = "{warehouse}/events/{source}"
    quarantine: str = "{warehouse}/quarantine/{source}"
    batch_results: str = "{warehouse}/results/{job}/batch_v{version}"
    stream_results: str = "{warehouse}/results/{job}/stream_v{version}"
    static: str = "{warehouse}/static/{table}"
    control: str = "{warehouse}/twinrun/control"
    micro_batches: str = "{warehouse}/twinrun/micro_batches"
    ledger: str = "{warehouse}/twinrun/ledger"
    late_events: str = "{warehouse}/twinrun/late_events"
    duplicate_events: str = "{warehouse}/twinrun/duplicate_events"
    differences: str = "{warehouse}/twinrun/differences"
    erased: str = "{warehouse}/twinrun/erased"
    requeue: str = "{warehouse}/twinrun/requeue"
    external_differences: str = "{warehouse}/twinrun/external_differences"
    external_malformed: str = "{warehouse}/twinrun/external_malformed"
    measurements: str = "{warehouse}/twinrun/measurements"

    @model_validator(mode="after")
    def _templates_are_sound(self) -> Layout:
        problems = [problem for name, text in self for problem in _template_problems(name, text)]
        if not problems:
            problems = _shared_places(self)
        if problems:
            raise several(problems)
        return self


def _template_problems(name: str, text: str) -> list[Problem]:
    needed, optional = PLACEHOLDERS.get(name, ((), ()))
    allowed = {"warehouse", *needed, *optional}
    try:
        parts = list(Formatter().parse(text))
    except ValueError as error:
        return [Problem((name,), f"layout.{name} is not a template: {error}")]
    fields = [field for _, field, _, _ in parts if field is not None]
    plain = "".join(literal for literal, *_ in parts)
    problems = [
        Problem((name,), f"layout.{name} has the placeholder {{{field}}}", f"one of {listed(allowed)}")
        for field in fields
        if field not in allowed
    ]
    if any(spec or conversion for _, _, spec, conversion in parts):
        problems.append(Problem((name,), f"layout.{name} has a placeholder with a format", "a plain {name}"))
    problems += [
        Problem((name,), f"layout.{name} lacks {{{field}}}, so that two tables would share one place")
        for field in needed
        if field not in fields
    ]
    if ".." in plain or re.search(r"[`\x00-\x1f\x7f-\x9f]", plain):
        problems.append(Problem((name,), f"layout.{name} holds '..', a backtick or a control character"))
    return problems


def _shared_places(layout: Layout) -> list[Problem]:
    """Two names with one place would write into the same table."""
    owners: dict[str, str] = {}
    problems = []
    for name, text in layout:
        # The same letter for each placeholder: templates that differ only in the placeholder can meet.
        place = re.sub(r"\{(?!warehouse)\w+\}", "x", text).rstrip("/").lower()
        if place in owners:
            problems.append(Problem((name,), f"layout.{name} and layout.{owners[place]} lead to the same table"))
        owners.setdefault(place, name)
    return problems


def safe_part(name: str, value: str | int) -> str:
    """A value as it may stand in a path.

    Raises
    ------
    ConfigError
        It is empty or holds ``..``, a slash, a backtick, a control character or another sign with a meaning in paths.
    """
    text = str(value)
    if not _PART.fullmatch(text) or ".." in text or text == ".":
        raise ConfigError(
            f"the {name} {text!r} cannot be part of a table's name",
            expected="letters, digits, '.', '_' and '-', and no '..'",
            fix=f"rename the {name}",
        )
    return text


def fill(layout: Layout, name: str, warehouse: str, parts: Mapping[str, str | int]) -> str:
    """The path or catalog identifier of a table.

    Raises
    ------
    ConfigError
        The layout has no such name, a part is missing, or a part is not safe.
    """
    template = getattr(layout, name, None) if name in Layout.model_fields else None
    if template is None:
        known = Layout.model_fields
        match = nearest(name, known)
        raise ConfigError(
            f"the layout has no table {name!r}",
            expected=f"one of {listed(known)}",
            fix=f"use {match!r}" if match else "",
        )
    values = {key: safe_part(key, value) for key, value in parts.items()}
    fields = {field for _, field, _, _ in Formatter().parse(template) if field and field != "warehouse"}
    missing = sorted(fields - values.keys())
    if missing:
        raise ConfigError(f"layout.{name} needs {', '.join(missing)}", expected=template)
    if is_path(warehouse) or not template.startswith("{warehouse}/"):
        return str(template.format(warehouse=warehouse, **values))
    last = template.removeprefix("{warehouse}/").format(**values)
    return f"{warehouse}.{identifier(last)}"


def identifier(text: str) -> str:
    """A text as the last part of a catalog identifier: every sign but letters, digits and ``_`` becomes ``_``."""
    return re.sub(r"\W", "_", text)


# The configuration as one frozen object: what stands in ``conf/*.yaml``, and the names of tables made from it.
#
# Values that are paths of the project are absolute here; secrets are references until a client asks for them.


_PATTERN = re.compile(r"[*?\[\]{}\\]")
"""What Hadoop takes for a pattern in a path that Spark's file sources read."""


class Config(BaseSettings):
    """Everything that says where and how jobs run. Read it with ``twinrun.config.load.load_config``."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    kafka: Kafka
    warehouse: TablePath
    checkpoints: FolderPath | None = None
    report: Report
    layout: Annotated[Layout, EmptySection] = Layout()
    sources: Annotated[dict[Name, SourceBinding], EmptySection] = {}
    tables: Annotated[dict[Name, TableBinding], EmptySection] = {}
    jobs: Annotated[dict[Name, JobBinding], EmptySection] = {}
    sinks: Annotated[dict[Name, SinkBinding], EmptySection] = {}
    external: Annotated[dict[Name, ExternalBinding], EmptySection] = {}
    stream: Annotated[Stream, EmptySection] = Stream()
    verify: Annotated[Verify, EmptySection] = Verify()
    spark: Annotated[Spark, EmptySection] = Field(default_factory=Spark)
    broker: Annotated[Broker, EmptySection] = Broker()
    _file: Path = PrivateAttr(default_factory=Path)
    _root: Path = PrivateAttr(default_factory=Path.cwd)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but what is given: ``load_config`` names every source itself, for its messages."""
        return (init_settings,)

    @field_validator("sources", mode="before")
    @classmethod
    def _topic_by_name(cls, sources: Any) -> Any:
        """A source without a topic reads the topic of its own name."""
        if not isinstance(sources, dict):
            return sources
        filled = {name: {} if binding is None else binding for name, binding in sources.items()}
        return {
            name: {"topic": name, **binding} if isinstance(binding, dict) else binding
            for name, binding in filled.items()
        }

    @model_validator(mode="after")
    def _tables_do_not_meet(self) -> Config:
        problems = [
            # Of another folder's files a replay would prove, and maintain would clear.
            Problem(
                (name,), f"{name} is {path}, which Spark takes for a pattern", "a path without any of * ? [ ] { } \\"
            )
            for name, path in (("warehouse", self.warehouse), ("checkpoints", self.checkpoints))
            if path and is_path(path) and _PATTERN.search(path)
        ]
        if not is_path(self.warehouse):
            if self.checkpoints is None:
                found = "checkpoints is missing; a catalog has no folder for them"
                problems.append(Problem(("checkpoints",), found, "a path", "add checkpoints: <path>"))
            topics = {name: binding.topic for name, binding in self.sources.items()}
            problems += _collisions("topic", {topic: ("sources", name, "topic") for name, topic in topics.items()})
            problems += _collisions("source", {name: ("sources", name) for name in self.sources})
            problems += _collisions("job", {name: ("jobs", name) for name in self.jobs})
            problems += _collisions("table", {name: ("tables", name) for name in self.tables})
        if problems:
            raise several(problems)
        return self

    @property
    def file(self) -> Path:
        """The YAML file that this was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder of ``file``."""
        return self._file.parent

    @property
    def root(self) -> Path:
        """The project: the folder above ``conf/``, or that of a file elsewhere. Relative paths start here."""
        return self._root

    def source(self, name: str) -> SourceBinding:
        """The binding of a source; one without an entry reads the topic of its own name."""
        return self.sources.get(name) or SourceBinding(topic=name)

    def table(self, name: str, **parts: str | int) -> str:
        """The path or catalog identifier of one of twinrun's tables.

        Parameters
        ----------
        name : str
            A name of ``layout``, such as ``"bronze"``.
        **parts : str or int
            What its template needs: ``source``, ``topic``, ``job``, ``table``, ``version``. A missing topic is
            that of the source.

        Raises
        ------
        ConfigError
            No such name, a part is missing, or a part may not stand in a path (``..``, a backtick, a line break).
        """
        if "source" in parts and "topic" not in parts:
            parts = {**parts, "topic": self.source(safe_part("source", parts["source"])).topic}
        return fill(self.layout, name, self.warehouse, parts)

    def checkpoint(self, kind: str, name: str, version: int) -> str:
        """The folder of a checkpoint, a Spark path. ``kind`` says what the query is, such as ``"stream"``."""
        root = self.checkpoints or f"{self.warehouse}/checkpoints"
        return "/".join([root, safe_part("kind", kind), safe_part("name", name), f"v{int(version)}"])

    def secret_values(self) -> tuple[str, ...]:
        """Every secret that can be read now, for ``redact_text``. Never print it."""
        return (*self.kafka.secret_values(), *self.spark.secret_values())


def _collisions(kind: str, places: dict[str, tuple[str, ...]]) -> list[Problem]:
    """Names that a catalog, which has no dots, dashes and capitals in names, would take for one."""
    owners: dict[str, str] = {}
    problems = []
    for name, loc in places.items():
        other = owners.setdefault(identifier(name).lower(), name)
        if other != name:
            found = f"the {kind}s {other} and {name} would share tables, since a catalog name has no '.' or '-'"
            problems.append(Problem(loc, found, fix=f"rename one, or use a warehouse path: {kind}s keep their names"))
    return problems
