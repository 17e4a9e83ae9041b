"""List a Delta table's files once for all queries of one piece of work; ask several questions in one Spark job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, Generic, TypeVar, cast, overload

from delta.tables import DeltaTable
from py4j.protocol import Py4JError, Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from twinrun.tables.files import at as located
from twinrun.tables.files import newest_number

# Ask several small questions about tables in one Spark job.
#
# Each answer is a handful of rows, and a Spark job of its own for each costs far more than the rows do. A question is a
# lazy frame and the way to read its rows; questions are joined end to end, asked once, and each reads its own rows.


A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
E = TypeVar("E")


@dataclass(frozen=True)
class Question(Generic[A]):
    """Rows of bounded number, and what they say; ``rows`` None: nothing need be looked at, it is read from no rows."""

    rows: DataFrame | None
    read: Callable[[list[Row]], A]

    def answer(self) -> A:
        """Ask it by itself. One Spark job, none without rows."""
        return self.read([] if self.rows is None else self.rows.collect())


def together(make: Callable[..., A], *questions: Question[Any]) -> Question[A]:
    """One question for several: their answers, in this order, are given to ``make``. Lazy.

    The rows of each keep the order that a sorting with a limit gave them.
    """
    asked = {f"_{place}": each.rows for place, each in enumerate(questions) if each.rows is not None}
    parts = [rows.select(F.struct("*").alias(name)) for name, rows in asked.items()]
    all_rows = reduce(lambda left, right: left.unionByName(right, allowMissingColumns=True), parts) if parts else None

    def read(rows: list[Row]) -> A:
        mine = {name: [row[name] for row in rows if row[name] is not None] for name in asked}
        return make(*(each.read(mine.get(f"_{place}", [])) for place, each in enumerate(questions)))

    return Question(all_rows, read)


@overload
def ask(one: Question[A], two: Question[B], /) -> tuple[A, B]: ...
@overload
def ask(one: Question[A], two: Question[B], three: Question[C], /) -> tuple[A, B, C]: ...
@overload
def ask(one: Question[A], two: Question[B], three: Question[C], four: Question[D], /) -> tuple[A, B, C, D]: ...
@overload
def ask(
    one: Question[A], two: Question[B], three: Question[C], four: Question[D], five: Question[E], /
) -> tuple[A, B, C, D, E]: ...
def ask(*questions: Question[Any]) -> tuple[Any, ...]:
    """The answers to all of them, in one Spark job."""
    answers: tuple[Any, ...] = together(lambda *found: found, *questions).answer()
    return answers


# List the files of a Delta table once for all queries of one piece of work.
#
# Delta looks into its log anew for each query over a table: one Spark job, or two, that only find out which files
# there are. Work that asks a table ten times at one moment pays that ten times. Within `listed_once` the files of a
# version are asked for once, and each further query reads them by what was found, deletion vectors and column mapping
# included.
#
# It stands on `DeltaLog.createDataFrame`, by which Delta's own commands read the files that they have chosen. That is
# no public interface: where this Delta does not have it, and for tables of many files, where skipping files by their
# statistics is worth more than a listing, tables are read as ever.


MOST_FILES = 200
"""A table of more files is read by Delta's own listing, which leaves out files by their statistics."""


MOST_COMMITS = 1_000
"""Beyond so many commits a table is looked at whole, rather than asked what they added."""
_HARMLESS = ("CommitInfo", "SetTransaction", "AddCDCFile")


Version = tuple[str, int | None]
"""A table and its version; None for the newest."""


@dataclass
class _Listed:
    """What was found, by table and version; None: such a table is read as ever.

    ``newest``: the newest version of a table when it was first looked at.
    """

    refs: frozenset[str]
    found: dict[Version, _Files | None] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Files:
    """Delta's own objects: log and snapshot of a table, and the files of that version."""

    log: Any
    snapshot: Any
    files: Any = None


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


def list_together(spark: SparkSession, versions: Iterable[Version]) -> None:
    """Within `listed_once`, list the files of several versions in one Spark job; those that cannot be are listed later.

    Without it each is listed by a Spark job of its own when it is first read.
    """
    here = _here.get()
    if here is None:
        return
    wanted: dict[Version, _Files] = {}
    try:
        for ref, version in versions:
            if ref in here.refs and is_delta(spark, ref):
                at = _snapshot(spark, ref, version, here)
                wanted.setdefault((ref, at.snapshot.version()), at)
        missing = {key: at for key, at in wanted.items() if key not in here.found}
        if missing:
            here.found.update(_listings(spark, missing))
    except (Py4JError, TypeError, AttributeError):
        return  # each is tried by itself when it is read


def is_delta(spark: SparkSession, ref: str) -> bool:
    """Whether a Delta table lies at a path. No Spark job.

    Asked while the log's folder was there and still empty, Delta keeps "no" in memory, and says it again after another
    process has made the table, until something reads the table (findings/delta_table_that_stays_absent.sh).
    """
    if DeltaTable.isDeltaTable(spark, ref):
        return True
    if newest_number(spark, f"{ref}/_delta_log", ".json") is None:
        return False
    delta: Any = cast("Any", spark._jvm).org.apache.spark.sql.delta.DeltaLog
    delta.invalidateCache(spark._jsparkSession, located(spark, ref)[0])
    return bool(DeltaTable.isDeltaTable(spark, ref))


def files_once(spark: SparkSession, ref: str, version: int | None) -> DataFrame | None:
    """The table from its listed files, or None where it is to be read as ever. One Spark job at the first of a version.

    A frame of its own each time, so that two reads of a table can be joined by name.
    """
    here = _here.get()
    if here is None or ref not in here.refs:
        return None
    try:
        known = here.newest.get(ref) if version is None else version
        if known is None or (ref, known) not in here.found:
            at = _snapshot(spark, ref, version, here)
            known = int(at.snapshot.version())
            here.found.update(_listings(spark, {(ref, known): at}))
        found = here.found[ref, known]
        if found is None:
            return None
        return DataFrame(found.log.createDataFrame(found.snapshot, found.files, False, _none(spark)), spark)
    except Py4JJavaError:
        return None  # read as ever, which says what is wrong in Delta's own words
    except (Py4JError, TypeError, AttributeError):
        return None  # another Delta, without these methods, or Spark Connect, without Java


@dataclass(frozen=True)
class Mark:
    """One version of a table, so that it is known again: by its number, the table's id and the commit's own id.

    A table that was deleted and made anew, or put back from a copy and written on, has the same numbers again.
    """

    version: int
    table: str
    commit: str


def mark_of(spark: SparkSession, ref: str, version: int | None = None) -> Mark | None:
    """The mark of a version, of the newest as the block of `listed_once` sees it; None where it has none. No Spark job.

    None outside of such a block, for tables by catalog name, and where the commit is no longer in the log or was
    written without an id.
    """
    at = _seen(spark, ref, version)
    try:
        return None if at is None else _marked(spark, at, int(at.snapshot.version()))
    except (Py4JError, TypeError, AttributeError):
        return None


def added_since(spark: SparkSession, ref: str, mark: Mark, version: int | None = None) -> DataFrame | None:
    """The rows that were added to a table after a mark; None where that is not all that has happened to it.

    Only by the files that the commits in between added: where one of them took a file away, compacted or changed the
    table, None. Lazy, and no Spark job.

    Parameters
    ----------
    version : int, optional
        Up to this version; by default the newest as the block of `listed_once` sees it.
    """
    at = _seen(spark, ref, version)
    try:
        files = None if at is None else _added(spark, at, mark)
        if at is None or files is None:
            return None
        java: Any = spark._jvm
        chosen = java.org.apache.spark.api.python.PythonUtils.toSeq(files)
        return DataFrame(at.log.createDataFrame(at.snapshot, chosen, False, _none(spark)), spark)
    except (Py4JError, TypeError, AttributeError):
        return None


def _seen(spark: SparkSession, ref: str, version: int | None) -> _Files | None:
    here = _here.get()
    if here is None or ref not in here.refs:
        return None
    try:
        return _snapshot(spark, ref, here.newest.get(ref) if version is None else version, here)
    except (Py4JError, TypeError, AttributeError):
        return None


def _changes(spark: SparkSession, log: Any, first: int, last: int) -> Iterator[tuple[int, list[Any]]]:
    """The actions of each commit from ``first`` to ``last``, one list for each. Read from the log; no Spark job."""
    commits = log.getChanges(first, last, _none(spark), False)
    while commits.hasNext():
        commit = commits.next()
        number = int(commit._1())
        actions = commit._2().iterator()
        found = []
        while actions.hasNext():
            found.append(actions.next())
        yield number, found


def _marked(spark: SparkSession, at: _Files, version: int) -> Mark | None:
    for number, actions in _changes(spark, at.log, version, version):
        ids = [_commit_id(action) for action in actions if _kind(action) == "CommitInfo"]
        if number == version and ids and ids[0]:
            return Mark(version, str(at.snapshot.metadata().id()), ids[0])
    return None


def _added(spark: SparkSession, at: _Files, mark: Mark) -> Any:
    """Files that were added after a mark, as a list of Java's; None where more than that has happened."""
    last = int(at.snapshot.version())
    if last - mark.version > MOST_COMMITS or mark.version > last or str(at.snapshot.metadata().id()) != mark.table:
        return None
    java: Any = spark._jvm
    files, expected = java.java.util.ArrayList(), mark.version
    for number, actions in _changes(spark, at.log, mark.version, last):
        if number != expected or files.size() > MOST_FILES:
            return None
        expected += 1
        for action in actions:
            kind = _kind(action)
            if number == mark.version:
                if kind == "CommitInfo" and _commit_id(action) != mark.commit:
                    return None
            elif kind == "AddFile" and action.dataChange():
                files.add(action)
            elif kind not in _HARMLESS:
                return None
    return files if expected == last + 1 else None


def _kind(action: Any) -> str:
    return str(action.getClass().getSimpleName())


def _commit_id(action: Any) -> str:
    found = action.txnId()
    return str(found.get()) if found.isDefined() else ""


def _snapshot(spark: SparkSession, ref: str, version: int | None, here: _Listed) -> _Files:
    """Log and snapshot of a version, of the newest as it was at the first look. No Spark job."""
    java: Any = spark._jvm
    log = java.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, ref)
    none = _none(spark)
    snapshot = log.update(False, none, none)
    wanted = here.newest.setdefault(ref, int(snapshot.version())) if version is None else version
    if wanted != snapshot.version():
        snapshot = log.getSnapshotAt(wanted, none, none, False)
    return _Files(log, snapshot)


def _listings(spark: SparkSession, wanted: dict[Version, _Files]) -> dict[Version, _Files | None]:
    """The files of each; None for a table of too many. One Spark job: a partition for each listing."""
    java: Any = spark._jvm
    parts = [at.snapshot.allFiles().limit(MOST_FILES + 1).toJavaRDD().coalesce(1) for at in wanted.values()]
    every = parts[0]
    for part in parts[1:]:
        every = every.union(part)
    found: dict[Version, _Files | None] = {}
    for (key, at), files in zip(wanted.items(), every.glom().collect(), strict=True):
        found[key] = None
        if files.size() <= MOST_FILES:
            found[key] = replace(at, files=java.org.apache.spark.api.python.PythonUtils.toSeq(files))
    return found


def _none(spark: SparkSession) -> Any:
    java: Any = spark._jvm
    return java.scala.Option.empty()
