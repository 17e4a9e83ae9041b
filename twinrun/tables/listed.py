"""List the files of a Delta table once for all queries of one piece of work.

Delta looks into its log anew for each query over a table: one Spark job, or two, that only find out which files there
are. Work that asks a table ten times at one moment pays that ten times. Within `listed_once` the files of a version are
asked for once, and each further query reads them by what was found, deletion vectors and column mapping included.

It stands on `DeltaLog.createDataFrame`, by which Delta's own commands read the files that they have chosen. That is no
public interface: where this Delta does not have it, and for tables of many files, where skipping files by their
statistics is worth more than a listing, tables are read as ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import DataFrame, SparkSession

MOST_FILES = 200
"""A table of more files is read by Delta's own listing, which leaves out files by their statistics."""


@dataclass
class _Listed:
    """What was found, by table and version; None: such a table is read as ever."""

    refs: frozenset[str]
    found: dict[tuple[str, int | None], tuple[Any, Any, Any] | None] = field(default_factory=dict)


_here: ContextVar[_Listed | None] = ContextVar("tables whose files are listed once", default=None)


@contextmanager
def listed_once(refs: Iterable[str]) -> Iterator[None]:
    """Within the block, and in this thread, list the files of each version of these tables once; lazy.

    The newest version is the one that was there when the table was first read in the block: all reads of the block see
    one moment. For tables that the block itself does not write.

    Parameters
    ----------
    refs : iterable of str
        Tables by path. Those by catalog name are read as ever.
    """
    token = _here.set(_Listed(frozenset(ref for ref in refs if "/" in ref)))
    try:
        yield
    finally:
        _here.reset(token)


def files_once(spark: SparkSession, ref: str, version: int | None) -> DataFrame | None:
    """The table from its listed files, or None where it is to be read as ever. One Spark job at the first of a version.

    A frame of its own each time, so that two reads of a table can be joined by name.
    """
    here = _here.get()
    if here is None or ref not in here.refs:
        return None
    key = (ref, version)
    if key not in here.found:
        here.found[key] = _list(spark, ref, version)
    found = here.found[key]
    if found is None:
        return None
    log, snapshot, files = found
    return DataFrame(log.createDataFrame(snapshot, files, False, _none(spark)), spark)


def _list(spark: SparkSession, ref: str, version: int | None) -> tuple[Any, Any, Any] | None:
    """Log, snapshot and files of a version."""
    try:
        java: Any = spark._jvm
        log = java.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, ref)
        none = _none(spark)
        snapshot = log.update(False, none, none)
        if version is not None and version != snapshot.version():
            snapshot = log.getSnapshotAt(version, none, none, False)
        found = snapshot.allFiles().limit(MOST_FILES + 1).collectAsList()
        if found.size() > MOST_FILES:
            return None
        files = java.org.apache.spark.api.python.PythonUtils.toSeq(found)
        log.createDataFrame(snapshot, files, False, none)
    except Py4JJavaError:
        return None  # read as ever, which says what is wrong in Delta's own words
    except (Py4JError, TypeError, AttributeError):
        return None  # another Delta, without these methods, or Spark Connect, without Java
    return log, snapshot, files


def _none(spark: SparkSession) -> Any:
    java: Any = spark._jvm
    return java.scala.Option.empty()
