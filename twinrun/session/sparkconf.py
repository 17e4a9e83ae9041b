"""The Spark settings of a configuration, and ``conf/spark/*.conf``: the syntax of Spark's ``spark-defaults.conf``."""

from __future__ import annotations

import re
from pathlib import Path

from twinrun.config.model import Config
from twinrun.errors import ConfigError
from twinrun.session.settings import is_local

DEFAULT_MASTER = "local[2]"
"""Where no configuration names one."""

_LOCAL_CONF = Path("spark/local.conf")
_SEPARATOR = re.compile(r"\s*[=:]\s*|\s+")


def session_settings(cfg: Config | None) -> dict[str, str]:
    """The Spark settings of a configuration: ``spark.conf`` over ``spark.master`` over the file of settings.

    The file is ``spark.conf_file``; for a local master without one it is ``spark/local.conf`` beside the YAML file,
    where there is one.

    Raises
    ------
    ConfigError
        There is no master, or the file cannot be read.
    """
    if cfg is None:
        return {}
    file = Path(cfg.spark.conf_file) if cfg.spark.conf_file else cfg.folder / _LOCAL_CONF
    settings: dict[str, str] = {}
    if cfg.spark.conf_file or (is_local(cfg.spark.master) and file.exists()):
        settings = read_spark_conf(file)
    if cfg.spark.master is not None:
        settings["spark.master"] = cfg.spark.master
    settings |= cfg.spark.session_conf()
    if "spark.master" not in settings:
        raise ConfigError(
            f"{cfg.file} names no Spark master.",
            expected="spark.master, or a run under spark-submit",
            fix="add --set 'spark.master=local[2]', or use spark-submit as docs/operations.md shows",
        )
    return settings


def read_spark_conf(path: Path) -> dict[str, str]:
    """Read a file of ``key value`` lines.

    A key ends at the first white space, ``=`` or ``:``; empty lines and lines that start with ``#`` or ``!``
    are passed over, a trailing backslash continues a line, and the last of two equal keys wins, as in Spark.

    Parameters
    ----------
    path : Path
        A local file.

    Returns
    -------
    dict of str to str
        In file order.

    Raises
    ------
    ConfigError
        The file is absent, or it has lines without a value or with a key that does not start with ``spark.``;
        all of them are named together.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"The Spark configuration {path} cannot be read ({error.strerror}).") from None
    settings: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in _logical_lines(text):
        key, value = (*_SEPARATOR.split(line, maxsplit=1), "")[:2]
        if not value:
            wrong.append(f"line {number} has no value for {key!r}")
        elif not key.startswith("spark."):
            wrong.append(f"line {number} has the key {key!r}")
        else:
            settings[key] = value
    if wrong:
        raise ConfigError(
            f"{path} cannot be used: {'; '.join(wrong)}.", expected="lines such as: spark.driver.memory 2g"
        )
    return settings


def _logical_lines(text: str) -> list[tuple[int, str]]:
    """Lines with a setting, each with the number of its first physical line."""
    lines: list[tuple[int, str]] = []
    held, first = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        part = raw.strip()
        if not held and (not part or part[0] in "#!"):
            continue
        first = first if held else number
        if part.endswith("\\"):
            held += part[:-1]
        else:
            lines.append((first, held + part))
            held = ""
    return [*lines, (first, held)] if held else lines
