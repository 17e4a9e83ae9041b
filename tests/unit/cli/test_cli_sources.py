"""A source by its name, where several jobs declare it: what decodes alike is one source, whatever its lateness."""

from __future__ import annotations

from pathlib import Path

import pytest

from twinrun.cli.inputs import sources_named
from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import InputError

ROOT = Path(__file__).parents[3]


def with_second(project: Path, old: str, new: str) -> Config:
    """The project with a second job, whose source is declared with a change."""
    text = (project / "jobs/first_job.py").read_text(encoding="utf-8")
    assert old in text
    (project / "jobs/second_job.py").write_text(text.replace(old, new), encoding="utf-8")
    return load_config(project / "conf/local.yaml", ["jobs.second_job.path=./jobs/second_job.py"], env={})


def test_a_source_of_the_shipped_jobs_is_found_by_its_name() -> None:
    cfg = load_config(ROOT / "conf/local.yaml", env={})
    assert [source.name for source in sources_named(cfg, "flights")] == ["flights"]


def test_another_lateness_is_no_other_source(project: Path) -> None:
    cfg = with_second(project, 'lateness="', 'lateness="9')
    assert len(sources_named(cfg, "orders")) == 1


def test_another_decoding_is_refused_and_the_jobs_are_named(project: Path) -> None:
    cfg = with_second(project, "schema=", "max_ahead='3 seconds', schema=")
    with pytest.raises(InputError) as refused:
        sources_named(cfg, "orders")
    assert "decode the source 'orders' in different ways" in str(refused.value)
    assert "first_job, second_job" in refused.value.fix
    assert [source.max_ahead for source in sources_named(cfg, "second_job")] == ["3 seconds"]
