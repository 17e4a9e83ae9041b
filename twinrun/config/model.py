"""The configuration as one frozen object: what stands in ``conf/*.yaml``, and the names of tables made from it.

Values that are paths of the project are absolute here; secrets are references until a client asks for them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from twinrun.config.external import ExternalBinding
from twinrun.config.kafka import Kafka
from twinrun.config.layout import Layout, fill, identifier, safe_part
from twinrun.config.problems import Problem, several
from twinrun.config.sections import Broker, JobBinding, Report, SourceBinding, Spark, Stream, TableBinding, Verify
from twinrun.config.values import EmptySection, FolderPath, Name, TablePath, is_path

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
