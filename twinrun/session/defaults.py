"""The Spark settings that twinrun starts with, and how a user's settings are laid over them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from twinrun.session.cache import cache_dir, write_atomically

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
