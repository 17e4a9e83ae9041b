"""Where a new stream begins: at one place for all of its sources, or nowhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from twinrun.config.load import load_config
from twinrun.config.model import Config
from twinrun.errors import ConfigError

beginning = importlib.import_module("twinrun.streaming.runner").beginning
JOINED = cast(
    Any, SimpleNamespace(job_name="joined", sources=[SimpleNamespace(name=name) for name in ("asks", "tells")])
)


def bound(tmp_path: Path, **starting: str) -> Config:
    sources = ", ".join(f"{name}: {{topic: {name}, starting_offsets: {start}}}" for name, start in starting.items())
    file = tmp_path / "c.yaml"
    file.write_text(
        f"kafka: {{bootstrap_servers: '127.0.0.1:9'}}\nwarehouse: {tmp_path}/wh\nreport: {{folder: r}}\n"
        f"sources: {{{sources}}}\n"
    )
    return load_config(file, [], env={})


def test_sources_that_begin_at_the_same_place_begin_there(tmp_path: Path) -> None:
    assert beginning(bound(tmp_path, asks="latest", tells="latest"), JOINED) == "latest"
    assert beginning(bound(tmp_path), JOINED) == "earliest"


def test_a_source_is_not_begun_at_the_place_of_another(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="asks at earliest, tells at latest") as refused:
        beginning(bound(tmp_path, asks="earliest", tells="latest"), JOINED)
    assert "--new-checkpoint --from" in refused.value.fix
