"""Settings of a session: twinrun's own, the user's over them, those for little data, and changes for one block."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from pyspark.sql import SparkSession

from twinrun.errors import MachineError
from twinrun.wording import plural

# Where twinrun keeps what it may fetch or write once per user: jars, a Java shim, log settings.


def cache_dir() -> Path:
    """The per-user cache folder; it is created when absent.

    ``TWINRUN_CACHE`` wins over ``XDG_CACHE_HOME/twinrun``, which wins over ``~/.cache/twinrun``.

    Returns
    -------
    Path
        An absolute path of a folder that exists.

    Raises
    ------
    MachineError
        The folder cannot be created.
    """
    own = os.environ.get("TWINRUN_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    if own:
        folder = Path(own).expanduser()
    elif shared:
        folder = Path(shared).expanduser() / "twinrun"
    else:
        folder = Path.home() / ".cache" / "twinrun"
    folder = folder.absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MachineError(
            f"The cache folder {folder} cannot be created ({error.strerror}).",
            fix="set TWINRUN_CACHE to a folder that you can write",
        ) from None
    return folder


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Write a small text file so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, mode)
    os.replace(name, path)


# Settings of a running session for the length of a block.


@contextmanager
def with_settings(spark: SparkSession, values: Mapping[str, str]) -> Iterator[None]:
    """Set SQL settings for a block; then they are what they were, set or not."""
    before = {name: spark.conf.get(name, None) for name in values}
    try:
        for name, value in values.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)


# The Spark settings that twinrun starts with, and how a user's settings are laid over them.


LOOPBACK = "127.0.0.1"
DRIVER_JAVA_OPTIONS = "spark.driver.extraJavaOptions"
REDACTION = "(?i)secret|password|passwd|token|access[.]?key|api[.]?key|credential|jaas|keystore[.]key|private"

_ANYWHERE = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    # Pinned versions are read however old they are; `twinrun maintain` keeps their files. Delta would refuse them by
    # their age alone, and a file that is really gone is an error in any case.
    "spark.databricks.delta.vacuum.enforceTimeTravelWithinDeletedFileRetentionDuration": "false",
    "spark.redaction.regex": REDACTION,
    # A SQL expression must not be able to read any file of the machine; paths go through the reader.
    "spark.sql.runSQLOnFiles": "false",
    "spark.ui.showConsoleProgress": "false",
    # The plan's text is made for each query even without a UI; the formatted kind costs seconds for large plans.
    "spark.sql.ui.explainMode": "simple",
    "spark.sql.maxPlanStringLength": "20000",
    # Generated code is kept for so many classes. A verify has more than the default of 100, a comparison as many: each
    # repetition in one session then compiles all of them again.
    "spark.sql.codegen.cache.maxEntries": "2000",
    # Where in Python each column was made: five calls to Java for every one, a tenth of a verify, and shown nowhere.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}

_ONE_MACHINE = {
    # The default of 200 costs seconds per micro-batch here, and a checkpoint freezes it.
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "2",
    # Delta's vacuum starts this many tasks; the default of 10,000 takes minutes for a small table.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
    "spark.sql.catalogImplementation": "in-memory",
    # Re-planning after each stage costs more than it gains for data of one machine.
    "spark.sql.adaptive.enabled": "false",
    "spark.ui.enabled": "false",
    "spark.driver.host": LOOPBACK,
    "spark.driver.bindAddress": LOOPBACK,
}

# Stopping a query inside a Python foreachBatch overflows a regular expression of Spark 4.2 at the default stack.
_STACK = "-Xss4m"


def is_local(master: str | None) -> bool:
    """Whether a Spark master runs inside the driver's machine: ``local``, ``local[2]``, ``local-cluster[..]``."""
    return master is not None and master.startswith("local")


def session_conf(
    conf: Mapping[str, str], *, master: str | None = "local[2]", jars: Iterable[Path] = ()
) -> dict[str, str]:
    """The whole configuration of a session: defaults, then ``conf`` on top.

    Java options of the driver are joined instead of replaced; the user's come last, so that they win.

    Parameters
    ----------
    conf : mapping of str to str
        What the user set.
    master : str, optional
        A Spark master; None means that spark-submit says it.
    jars : iterable of Path, optional
        Local jars for ``spark.jars``; passed over when ``conf`` has ``spark.jars``.

    Returns
    -------
    dict of str to str
        Without ``spark.master``.
    """
    settings = dict(_ANYWHERE)
    if is_local(master):
        settings |= _ONE_MACHINE
    listed = ",".join(str(jar) for jar in jars)
    if listed:
        settings["spark.jars"] = listed
    own_options = [_STACK, f"-Dlog4j2.configurationFile={_log_settings().as_uri()}"]
    settings |= conf
    settings[DRIVER_JAVA_OPTIONS] = " ".join([*own_options, conf.get(DRIVER_JAVA_OPTIONS, "")]).strip()
    return settings


def _log_settings() -> Path:
    """The log settings as a real file: Java cannot read them from inside a zip."""
    text = resources.files("twinrun.session").joinpath("log4j2.properties").read_text(encoding="utf-8")
    path = cache_dir() / f"log4j2-{hashlib.sha256(text.encode()).hexdigest()[:12]}.properties"
    if not path.exists():
        write_atomically(path, text)
    return path


# Settings for little data: chosen before a session starts, by what tables and topics say about their size.
#
# A command over a few thousand rows spends its time on planning queries, generating code for them and compiling that
# code, and hardly any on rows. Figures: docs/decisions/0012-settings-by-size.md.


MOST_BYTES = 64 * 1024 * 1024
"""Little data: at most so many bytes in the files of all tables that a command may read."""
MOST_RECORDS = 200_000
"""... and at most so many records in the topics that it reads, or in one of its micro-batches."""

_MOST_FILES = 20_000
_COLLECTOR = re.compile(r"-XX:\+Use\w+GC\b")
_log = logging.getLogger("twinrun.session")

# Java's second compiler takes a third of the CPU of a short run. It compiles what runs often, and only that: without
# it at all, a run of some minutes takes twice as long. What reads tables only ends sooner, and gains by less still.
_TIERS = {"Invocation": 25_000, "MinInvocation": 6_000, "Compile": 60_000, "BackEdge": 200_000}
_AT_REST_TIMES = 5
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


def small_java_options(at_rest: bool) -> str:
    """When Java's second compiler begins to work on a method, where the data is little."""
    times = _AT_REST_TIMES if at_rest else 1
    return " ".join(f"-XX:Tier4{name}Threshold={times * count}" for name, count in _TIERS.items())


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
    options = f"{collector} {small_java_options(size.at_rest)} {given}"
    return {**chosen, **settings, DRIVER_JAVA_OPTIONS: " ".join(options.split())}


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
