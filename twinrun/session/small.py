"""Settings for little data: chosen before a session starts, by what tables and topics say about their size.

A command over a few thousand rows spends its time on planning queries, generating code for them and compiling that
code, and hardly any on rows. Figures: docs/decisions/0012-settings-by-size.md.
"""

from __future__ import annotations

import logging
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from twinrun.session.defaults import DRIVER_JAVA_OPTIONS, is_local
from twinrun.wording import plural

MOST_BYTES = 64 * 1024 * 1024
"""Little data: at most so many bytes in the files of all tables that a command may read."""
MOST_RECORDS = 200_000
"""... and at most so many records in the topics that it reads, or in one of its micro-batches."""

_MOST_FILES = 20_000
_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")
_log = logging.getLogger("twinrun.session")

# Java's second compiler takes a third of the CPU of a short run. It compiles what runs often, and only that: without
# it at all, a run of some minutes takes twice as long.
_TIERS = {"Invocation": 25_000, "MinInvocation": 6_000, "Compile": 60_000, "BackEdge": 200_000}
SMALL_JAVA_OPTIONS = " ".join(f"-XX:Tier4{name}Threshold={n}" for name, n in _TIERS.items())
NO_CODE = {"spark.sql.codegen.wholeStage": "false", "spark.sql.codegen.factoryMode": "NO_CODEGEN"}
"""Queries are run as they are planned, without Java code made and compiled for each."""
SMALL = {
    **NO_CODE,
    # A checkpoint of Delta's log after each tenth commit costs more than reading a hundred small commits.
    "spark.databricks.delta.properties.defaults.checkpointInterval": "100",
}
"""What a session gets for little data, besides options of Java. Nothing of it changes a result or a checkpoint."""
AT_REST = {
    # A table that is sent to all tasks is a Spark job of its own; so few rows are as soon sorted.
    "spark.sql.autoBroadcastJoinThreshold": "-1",
}
"""What it gets besides where tables only are read; measured there alone."""


@dataclass(frozen=True)
class Size:
    """What a command may read: bytes in files of tables, records in topics; None: not known, or not asked for.

    ``at_rest``: it reads tables only, no topic.
    """

    table_bytes: int | None
    records: int | None = 0
    at_rest: bool = False

    @property
    def small(self) -> bool:
        """Whether all of it is known and little."""
        return (
            self.table_bytes is not None
            and self.records is not None
            and self.table_bytes <= MOST_BYTES
            and self.records <= MOST_RECORDS
        )

    def __str__(self) -> str:
        tables = "tables of unknown size" if self.table_bytes is None else f"{self.table_bytes / 1e6:,.1f} MB of tables"
        records = "records that could not be counted" if self.records is None else plural(self.records, "record")
        return f"{tables}, {records} of topics"


UNKNOWN = Size(None, None)
"""Nothing is known of what is read."""


def by_size(settings: Mapping[str, str], size: Size, wanted: str = "auto", *, master: str) -> dict[str, str]:
    """The session's settings, with those for little data below the user's where the data is little.

    Parameters
    ----------
    settings : dict
        The user's. Those named there win; options of Java are put before the user's.
    size : Size
        What the work may read.
    wanted : str
        ``spark.small_data``: ``auto``, ``always`` or ``never``.
    master : str
        The session's Spark master.

    Returns
    -------
    dict
        ``settings`` unchanged for a master that is not local, for ``never``, and for ``auto`` where the data is not
        little or of unknown size. What was chosen is logged (logger
        ``twinrun.session``, level INFO).
    """
    little = is_local(master) and (wanted == "always" or (wanted == "auto" and size.small))
    _log.info("settings for %s data: %s (spark.small_data: %s)", "little" if little else "any", size, wanted)
    if not little:
        return dict(settings)
    given = settings.get(DRIVER_JAVA_OPTIONS, "")
    # Java refuses to start with two collectors.
    collector = "" if _COLLECTOR.search(given) else "-XX:+UseSerialGC"
    chosen = {**SMALL, **(AT_REST if size.at_rest else {})}
    return {**chosen, **settings, DRIVER_JAVA_OPTIONS: " ".join(f"{collector} {SMALL_JAVA_OPTIONS} {given}".split())}


def tables_size(refs: Iterable[str]) -> Size:
    """What a command that reads these tables may read: the files of all versions, since old ones may be read too.

    A table in a catalog or in a remote store has an unknown size.
    """
    return Size(_bytes_of(_folders(dict.fromkeys(refs))), at_rest=True)


def _folders(refs: Iterable[str]) -> list[Path] | None:
    """The folders of tables on this machine, or None where one of them is elsewhere."""
    folders = []
    for ref in refs:
        path = ref.removeprefix("file://")
        if "://" in path or not path.startswith("/"):
            return None
        folders.append(Path(path))
    return folders


def _bytes_of(folders: list[Path] | None) -> int | None:
    """Bytes of all files below; not all where they are more than `MOST_BYTES`, and None where files are too many."""
    if folders is None:
        return None
    found, files = 0, 0
    for folder in folders:
        for file in folder.rglob("*"):
            try:
                seen = file.stat()
            except OSError:  # removed meanwhile
                continue
            files += 1
            found += seen.st_size if stat.S_ISREG(seen.st_mode) else 0
            if found > MOST_BYTES:
                return found
            if files > _MOST_FILES:
                return None
    return found
